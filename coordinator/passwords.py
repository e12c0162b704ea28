"""Passwords: Argon2id, at most two at once, the same time whether or not anybody of that name exists."""

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from shared.crypto.secret import Secret
from shared.errors import InputError

SHORTEST, LONGEST = 12, 128
_LEAST_VARIETY = 6  # different characters
_HASHER = PasswordHasher()  # RFC 9106's second choice: 64 MiB, three passes, four lanes
# Each hash takes 64 MiB; a crowd at the door must not take the memory of a running round.
_GATE = threading.BoundedSemaphore(2)
_NOBODYS = _HASHER.hash("nobody has this password")


def check_password(password: str, operator: str) -> None:
    """Return if the password is good enough to be set.

    Raises:
        InputError: ``password_weak``.
    """
    text = _normal(password)
    if not SHORTEST <= len(text) <= LONGEST:
        raise InputError("password_weak", f"{SHORTEST} to {LONGEST} characters")
    if len(set(text.lower())) < _LEAST_VARIETY:
        raise InputError("password_weak", f"at least {_LEAST_VARIETY} different characters")
    if operator.lower() in text.lower():
        raise InputError("password_weak", "it contains the operator's name")


def hash_password(password: Secret) -> str:
    """Return the Argon2id hash that is stored, with its parameters and salt."""
    with _GATE:
        return _HASHER.hash(_normal(password.reveal().decode()))


def is_password(stored: str | None, password: Secret) -> bool:
    """Return whether the password fits; without a stored hash the same work is done, and it does not."""
    with _GATE:
        try:
            _HASHER.verify(stored or _NOBODYS, _normal(password.reveal().decode()))
        except (VerifyMismatchError, InvalidHashError):
            return False
    return stored is not None


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)  # the same keys on another keyboard are the same password
