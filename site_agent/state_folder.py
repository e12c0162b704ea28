"""The state directory: what lies where, and who may look (PROTOCOLS C5).

``state.db`` rows; ``kek`` the key that seals its secret columns; ``tls/`` chain and encrypted key; ``models/`` versions
by digest; ``work/<ctx_hash>/`` the training child's result; ``uploads/<ctx_hash>/`` masked chunks and share blobs;
``evidence/`` what the coordinator signed and should not have.
"""

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.crypto.at_rest import load_or_create_kek
from shared.crypto.secret import Secret
from shared.errors import InputError, Unavailable

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CTX_HASH = re.compile(r"[0-9a-f]{64}")
_SUBFOLDERS = ("tls", "models", "work", "uploads", "evidence")


class StateFolder:
    """One site's state directory; every path the agent touches comes from here."""

    def __init__(self, root: Path) -> None:
        """Take a directory; `prepare` makes it."""
        self.root = root.absolute()  # the training child has a working directory of its own

    def prepare(self) -> None:
        """Create the directory and its parts with mode 0700; refuse one that others may enter.

        Raises:
            InputError: ``state_permissions``.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(self.root.stat().st_mode)
        if os.name == "posix" and mode & 0o077:
            raise InputError("state_permissions", f"{self.root} has mode {mode:04o}; allow its owner only (0700)")
        for name in _SUBFOLDERS:
            (self.root / name).mkdir(mode=0o700, exist_ok=True)

    def exists(self) -> bool:
        """Return whether a site was set up here."""
        return self.database.exists()

    @property
    def database(self) -> Path:
        """Return the database file."""
        return self.root / "state.db"

    @property
    def lock(self) -> Path:
        """Return the file that the running agent holds locked."""
        return self.root / "agent.lock"

    @property
    def evidence(self) -> Path:
        """Return the folder of evidence; nothing in it is ever removed."""
        return self.root / "evidence"

    @property
    def tls_file(self) -> Path:
        """Return the PEM file of chain and encrypted key that `ssl` reads."""
        return self.root / "tls" / "site.pem"

    def model(self, digest: str) -> Path:
        """Return where a model version is kept."""
        return self.root / "models" / f"{digest}.safetensors"

    def models(self) -> list[Path]:
        """Return the files of all model versions that are here."""
        return list((self.root / "models").glob("*.safetensors"))

    def work(self, ctx_hash: str) -> Path:
        """Return the folder of a context's training result."""
        return self.root / "work" / ctx_hash

    def upload(self, ctx_hash: str) -> Path:
        """Return the folder of a context's masked chunks and share blobs."""
        return self.root / "uploads" / ctx_hash

    def child(self, study: str) -> Path:
        """Return the folder the training child of a study runs in."""
        return self.root / "work" / f"study-{study}"

    def rounds_on_disk(self) -> set[str]:
        """Return the contexts that have files here."""
        parts = (self.root / "work", self.root / "uploads")
        return {folder.name for part in parts for folder in part.iterdir() if _CTX_HASH.fullmatch(folder.name)}

    def kek(self, given: Path | None) -> Secret:
        """Return the key-encryption key: from `given`, from systemd's credentials, or a file made here.

        Raises:
            InputError: ``key_file_permissions``, ``key_file_damaged``.
        """
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if given is None and credentials and (Path(credentials) / "mitral-site.kek").exists():
            given = Path(credentials) / "mitral-site.kek"
        return load_or_create_kek(given or self.root / "kek")

    def erase_round(self, ctx_hash: str) -> None:
        """Remove every file of a context."""
        for folder in (self.work(ctx_hash), self.upload(ctx_hash)):
            shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, parts: list[bytes] | list[memoryview], *, durable: bool = True) -> None:
    """Write a file so that it is whole whenever it is there: draft, rename. A `durable` one is on disk on return.

    Raises:
        Unavailable: ``disk_full``; no file is left.
    """
    draft = path.with_name(f".{path.name}.draft")
    with disk_errors(path):
        try:
            with draft.open("wb") as file:
                for part in parts:
                    file.write(part)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk into Mitral's error.

    Raises:
        Unavailable: ``disk_full``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable("disk_full", f"{path.parent} cannot take {path.name}: {error.strerror}") from error
        raise
