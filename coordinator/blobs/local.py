"""Blobs in a directory: ``blobs/ab/abcdef…``, written as drafts, synced, then renamed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.blobs.hashed_file import HashedFile, disk_errors, sync_folder
from shared.canonical import hash_bytes
from shared.errors import InputError


class LocalBlobs:
    """A content-addressed directory."""

    def __init__(self, root: Path) -> None:
        """Use `root`, which is created; drafts of an earlier process are removed."""
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for draft in root.glob(".draft-*"):
            draft.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where a blob lies or would lie."""
        hash_bytes(sha256)  # what comes from a URL is checked before it becomes a path
        return self._root / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest.

        Raises:
            Unavailable: ``storage_full``.
        """
        draft = self.draft()
        draft.write(data)
        return self.keep(draft)

    def draft(self) -> HashedFile:
        """Open a draft to be streamed into and passed to `keep`."""
        return HashedFile(self._root, "a blob")

    def keep(self, draft: HashedFile) -> str:
        """Make a draft a blob and return its digest.

        Raises:
            Unavailable: ``storage_full``.
        """
        path = self.path(draft.sha256)
        if path.exists():
            draft.discard()
            return path.name
        draft.sync()
        with disk_errors("a blob"):
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self._root)
            draft.keep(path)
            sync_folder(path.parent)
        return path.name

    def size(self, sha256: str) -> int | None:
        """Return the length, or None when there is no such blob."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, sha256: str) -> bytes:
        """Return all bytes.

        Raises:
            InputError: ``blob_unknown``.
        """
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise InputError("blob_unknown", f"there is no blob {sha256}") from None

    def pieces(self, sha256: str, start: int, length: int, piece_bytes: int = 2**19) -> Iterator[bytes]:
        """Yield `length` bytes from `start` on, in pieces."""
        with self.path(sha256).open("rb") as file:
            file.seek(start)
            while length > 0:
                piece = file.read(min(piece_bytes, length))
                if not piece:
                    return
                length -= len(piece)
                yield piece

    @contextmanager
    def as_file(self, sha256: str) -> Iterator[Path]:
        """Give the blob as a local file for the length of a block."""
        yield self.path(sha256)
