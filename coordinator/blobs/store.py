"""What a blob store promises; `local.py` is the default one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from coordinator.blobs.hashed_file import HashedFile


class BlobStore(Protocol):
    """Immutable bytes named by their SHA-256, durable when `put` or `keep` returns."""

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest."""
        ...

    def draft(self) -> HashedFile:
        """Open a draft to be streamed into and passed to `keep`."""
        ...

    def keep(self, draft: HashedFile) -> str:
        """Make a draft a blob and return its digest."""
        ...

    def size(self, sha256: str) -> int | None:
        """Return the length, or None when there is no such blob."""
        ...

    def read(self, sha256: str) -> bytes:
        """Return all bytes."""
        ...

    def pieces(self, sha256: str, start: int, length: int, piece_bytes: int) -> Iterator[bytes]:
        """Yield a range in pieces."""
        ...

    def as_file(self, sha256: str) -> AbstractContextManager[Path]:
        """Give the blob as a local file for the length of a block."""
        ...
