"""Staging of masked updates: one folder per context and site, deleted when the round ends (attack row 26).

No row speaks of a chunk: a chunk *is* its file, named by index and digest, so that a restarted coordinator knows what
it has, and accepting one costs a single sync.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

from coordinator.blobs.hashed_file import HashedFile, disk_errors, sync_folder
from shared.canonical import hash_bytes
from shared.errors import InputError
from shared.ids import check_id

_SHARES = "shares"


class Uploads:
    """The staging area."""

    def __init__(self, root: Path) -> None:
        """Use `root`, which is created; drafts of an earlier process are removed."""
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for draft in root.glob("*/*/.draft-*"):
            draft.unlink(missing_ok=True)
        self._naming = threading.Lock()
        self._rooted: set[str] = set()  # contexts whose folder's own name is on disk

    def folder(self, ctx_hash: str, site: str) -> Path:
        """Return a site's folder; both names are checked before they become a path."""
        hash_bytes(ctx_hash)
        return self._root / ctx_hash / f"site-{check_id(site)}"

    def draft(self, ctx_hash: str, site: str) -> HashedFile:
        """Open a draft of a chunk or of the share blobs."""
        return HashedFile(self.folder(ctx_hash, site), f"an upload of {site}")

    def keep_chunk(self, ctx_hash: str, site: str, index: int, draft: HashedFile) -> str:
        """Keep a chunk; the same bytes again are fine.

        Raises:
            InputError: ``upload_conflict`` for other bytes under an index that is taken.
            Unavailable: ``storage_full``.
        """
        return self._keep(self.folder(ctx_hash, site), f"chunk-{index:06d}", draft)

    def keep_shares(self, ctx_hash: str, site: str, draft: HashedFile) -> str:
        """Keep the share blobs; the same bytes again are fine.

        Raises:
            InputError: ``upload_conflict``.
            Unavailable: ``storage_full``.
        """
        return self._keep(self.folder(ctx_hash, site), _SHARES, draft)

    def chunks(self, ctx_hash: str, site: str) -> dict[int, str]:
        """Return the chunks that are here: index to digest."""
        found = (path.name.split("-") for path in self.folder(ctx_hash, site).glob("chunk-*"))
        return {int(index): digest for _, index, digest in sorted(found)}

    def chunk(self, ctx_hash: str, site: str, index: int) -> memoryview | None:
        """Return the bytes of a chunk, mapped and not read: they are hashed and added once, and copied nowhere."""
        path = next(self.folder(ctx_hash, site).glob(f"chunk-{index:06d}-*"), None)
        if path is None or not path.stat().st_size:
            return None
        with path.open("rb") as file:
            return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))

    def shares(self, ctx_hash: str, site: str) -> bytes | None:
        """Return the share blobs as they were uploaded, one after the other."""
        path = next(self.folder(ctx_hash, site).glob(f"{_SHARES}-*"), None)
        return None if path is None else path.read_bytes()

    @contextlib.contextmanager
    def attempting(self, ctx_hash: str) -> Iterator[int]:
        """Yield how many attempts to add these uploads up ended with the process: out of memory, or a broken disk."""
        marker = self._root / ctx_hash / "attempts"
        before = marker.stat().st_size if marker.exists() else 0
        with marker.open("ab") as file:
            file.write(b".")
            os.fsync(file.fileno())
        try:
            yield before
        finally:
            os.truncate(marker, before)

    def sync(self, ctx_hash: str, site: str) -> None:
        """Put the names of everything a site staged on disk: done once, before the receipt.

        Raises:
            Unavailable: ``storage_full``.
        """
        folder = self.folder(ctx_hash, site)
        with disk_errors(f"an upload of {site}"):
            sync_folder(folder)
            sync_folder(folder.parent)
            if ctx_hash not in self._rooted:
                sync_folder(self._root)
                self._rooted.add(ctx_hash)

    def wipe_site(self, ctx_hash: str, site: str) -> None:
        """Delete one site's upload, unread."""
        shutil.rmtree(self.folder(ctx_hash, site), ignore_errors=True)

    def wipe(self, ctx_hash: str) -> None:
        """Delete everything of a context."""
        hash_bytes(ctx_hash)
        self._rooted.discard(ctx_hash)
        shutil.rmtree(self._root / ctx_hash, ignore_errors=True)

    def contexts(self) -> list[str]:
        """Return the contexts that have files."""
        return sorted(path.name for path in self._root.iterdir() if path.is_dir())

    def _keep(self, folder: Path, name: str, draft: HashedFile) -> str:
        draft.sync()
        with self._naming:
            taken = next(folder.glob(f"{name}-*"), None)
            if taken is None:
                draft.keep(folder / f"{name}-{draft.sha256}")
                return draft.sha256
        draft.discard()
        if taken.name != f"{name}-{draft.sha256}":
            raise InputError("upload_conflict", f"{name} is already here with other bytes")
        return draft.sha256
