"""The log's signing key, and the last head it signed: kept apart from the database, so that a rollback shows (B4)."""

import os
from pathlib import Path

from shared.audit.log_checkpoint import (
    ED25519,
    LogCheckpoint,
    LogVkey,
    add_signature_lines,
    lines_of,
    sign_checkpoint,
    verify_checkpoint,
)
from shared.canonical import canonical_bytes, hash_bytes, parse_strict
from shared.crypto.identity import SigningKey
from shared.errors import Misuse, PeerFault


class LogSigner:
    """Signs ever larger heads. Whether a head continues the last one is asked before, where the tree is stored."""

    def __init__(self, origin: str, key: SigningKey, former: SigningKey | None, path: Path | None) -> None:
        """Sign for the log `origin`, under `former` too after a rotation; remember the last head in the file `path`."""
        self._keys = [key] if former is None else [key, former]
        self.vkeys = [LogVkey(origin, ED25519, one.verify_key) for one in self._keys]
        self._path = path
        self.last = self._read(origin)

    def sign(self, head: LogCheckpoint) -> str:
        """Return the signed note of a head; it is on disk that it was signed before anybody can see it.

        Raises:
            Misuse: ``log_regression`` for a head that is smaller than the last one, or another of the same size.
        """
        if self.last is not None and (
            head.size < self.last.size or (head.size == self.last.size and head.root != self.last.root)
        ):
            raise Misuse("log_regression", f"asked to sign {head.size} entries after {self.last.size}")
        self._keep(head)
        notes = [sign_checkpoint(head, key) for key in self._keys]
        others = [line for note, vkey in zip(notes[1:], self.vkeys[1:], strict=True) for line in lines_of(note, vkey)]
        return add_signature_lines(notes[0], others)

    def verify(self, note: str) -> LogCheckpoint:
        """Return the head in a note if it carries a signature of this log.

        Raises:
            PeerFault: ``checkpoint_malformed``, ``checkpoint_origin``, ``checkpoint_unsigned``, ``signature_invalid``.
        """
        for vkey in self.vkeys[:-1]:
            try:
                return verify_checkpoint(note, vkey, vkey.name)
            except PeerFault as error:
                if error.code != "checkpoint_unsigned":
                    raise
        return verify_checkpoint(note, self.vkeys[-1], self.vkeys[-1].name)

    def _keep(self, head: LogCheckpoint) -> None:
        self.last = head
        if self._path is None:
            return
        draft = self._path.with_name(f".{self._path.name}.draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(canonical_bytes({"origin": head.origin, "size": head.size, "root": head.root.hex()}))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    def _read(self, origin: str) -> LogCheckpoint | None:
        if self._path is None or not self._path.exists():
            return None
        found = parse_strict(self._path.read_bytes())
        return LogCheckpoint(origin, int(found["size"]), hash_bytes(found["root"]))
