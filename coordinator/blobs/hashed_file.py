"""A file that is hashed while it is written and appears under its name only when it is whole and on disk."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import Unavailable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn a full disk into a refusal that names it.

    Raises:
        Unavailable: ``storage_full``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable("storage_full", f"no room for {what}; nothing was kept") from error
        raise


class HashedFile:
    """A draft of a file. Either `keep` is called, or nothing remains."""

    def __init__(self, folder: Path, what: str) -> None:
        """Open a draft in `folder`; `what` names it in errors."""
        self._what = what
        self._digest = hashlib.sha256()
        self.byte_count = 0
        with disk_errors(what):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._draft = folder / f".draft-{os.urandom(8).hex()}"
            self._file = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append and hash.

        Raises:
            Unavailable: ``storage_full``; the draft is gone.
        """
        self._digest.update(data)
        view = memoryview(data).cast("B")
        self.byte_count += len(view)
        try:
            with disk_errors(self._what):
                while view:
                    view = view[os.write(self._file, view) :]
        except BaseException:
            self.discard()
            raise

    @property
    def sha256(self) -> str:
        """Return the digest of what was written so far."""
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Put the contents on disk and close the draft, still without its name.

        Raises:
            Unavailable: ``storage_full``; the draft is gone.
        """
        try:
            with disk_errors(self._what):
                os.fsync(self._file)
        except BaseException:
            self.discard()
            raise
        os.close(self._file)
        self._file = -1

    def keep(self, path: Path) -> None:
        """Give the draft its name, replacing what was there."""
        if self._file >= 0:
            self.sync()
        self._draft.replace(path)

    def discard(self) -> None:
        """Remove the draft; harmless when it was kept or discarded before."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk (POSIX; elsewhere the file system does it)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
