"""Sealed columns and files, and the key-encryption key (KEK) that seals them (PROTOCOLS C5).

A sealed text is ``0x01 || nonce (12) || AES-256-GCM ciphertext || tag (16)`` with the context as associated data, so
that a sealed value moved to another row or file does not open there.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.crypto.secret import Secret
from shared.errors import InputError, Misuse, PeerFault

KEK_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12


def seal_at_rest(kek: Secret, plaintext: bytes, context: str) -> bytes:
    """Seal `plaintext` under `kek`; `context` names where it lives, for instance ``"pairing_secret/demo/3/site-b"``.

    Raises:
        Misuse: ``key_length``.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + _cipher(kek).encrypt(nonce, plaintext, context.encode())


def open_at_rest(kek: Secret, sealed: bytes, context: str) -> bytes:
    """Return what was sealed under the same key and context.

    Raises:
        PeerFault: ``at_rest_damaged`` for another key or context, or one changed byte.
        Misuse: ``key_length``.
    """
    cipher = _cipher(kek)
    if sealed[:1] != _VERSION:
        raise PeerFault("at_rest_damaged", f"{context}: unknown version of a sealed value")
    try:
        return cipher.decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], context.encode())
    except (InvalidTag, ValueError) as error:
        raise PeerFault("at_rest_damaged", f"{context}: a sealed value does not open under this key") from error


def load_or_create_kek(path: Path) -> Secret:
    """Return the 32-byte KEK kept in `path`; make it (file 0400 in a directory 0700) when it is not there.

    Creation is atomic: of two processes that start at once, both get the key of the one that was first, and a crash
    leaves either no file or a whole one.

    Raises:
        InputError: ``key_file_permissions`` when others may read file or directory (POSIX), ``key_file_damaged``.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(path.parent.stat(), path.parent)
    if not os.path.lexists(path):
        _create(path)
    try:
        raw = _read_private(path)
    except OSError as error:
        raise InputError("key_file_damaged", f"{path}: {error.strerror}") from error
    if len(raw) != KEK_BYTES:
        raise InputError("key_file_damaged", f"{path} does not hold exactly {KEK_BYTES} bytes")
    return Secret(raw)


def _read_private(path: Path) -> bytes:
    # The checks are made on what was opened, not on what the name pointed to a moment before.
    flags = ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC")
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("key_file_damaged", f"{path} is not a regular file")
        _check_private(status, path)
        return os.read(descriptor, KEK_BYTES + 1)
    finally:
        os.close(descriptor)


def _create(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o400)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEK_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike rename, fails when another process was first; its key is then the one
        except FileExistsError:
            return
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_private(status: os.stat_result, path: Path) -> None:
    if os.name != "posix":
        return  # Windows: the installer sets the folder's access list
    if status.st_mode & 0o077:
        allowed = "0700" if stat.S_ISDIR(status.st_mode) else "0400"
        mode = f"{status.st_mode & 0o777:04o}"
        raise InputError("key_file_permissions", f"{path} has mode {mode}; allow its owner only ({allowed})")
    if status.st_uid not in (os.geteuid(), 0):
        raise InputError("key_file_permissions", f"{path} belongs to another user (uid {status.st_uid})")


def _cipher(kek: Secret) -> AESGCM:
    if len(kek) != KEK_BYTES:
        raise Misuse("key_length", f"a key-encryption key has {KEK_BYTES} bytes, not {len(kek)}")
    return AESGCM(kek.reveal())
