"""Bytes that never print themselves: logs, tracebacks and crash reports show ``<secret>`` (PROTOCOLS A13 row 27)."""

import hmac
import os
import sys
from typing import NoReturn

from shared.errors import Misuse


class Secret:
    """A secret byte string: only `reveal` gives it away, comparison takes constant time, no pickling, no copying."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        """Wrap a private copy of `value`."""
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """Return the bytes. Every call site is a place a reviewer has to look at, so there is no other way."""
        return self._value

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self._value)

    def __bool__(self) -> bool:
        """Return True: a secret is present, whatever its length."""
        return True

    def __eq__(self, other: object) -> bool:
        """Compare in time that does not depend on the contents."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret is a fact about it

    def __repr__(self) -> str:
        """Return a fixed text."""
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Return a fixed text, whatever the format."""
        return "<secret>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled or copied.

        Raises:
            Misuse: ``secret_exposed``.
        """
        raise Misuse("secret_exposed", "a secret cannot be pickled or copied")


def guard_process() -> None:
    """Keep memory out of core files and new files from other users, here and in every child process."""
    os.umask(0o077)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
