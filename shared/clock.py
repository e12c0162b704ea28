"""The only clock: everything that needs the time is given one of these (ARCHITECTURE rule 6)."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import PeerFault

_FORMAT = "%Y-%m-%dT%H:%M:%S"
_WIRE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)


class Clock(Protocol):
    """Tells wall-clock time in UTC and monotonic seconds."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin that never go backwards."""
        ...


class SystemClock:
    """The operating system's clock."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()


@dataclass
class FixedClock:
    """A clock that stands still until it is moved; tests and rehearsals use it."""

    at: datetime
    elapsed_seconds: float = 0.0

    def now(self) -> datetime:
        """Return the time it was set to."""
        return self.at

    def monotonic(self) -> float:
        """Return the seconds it was moved by."""
        return self.elapsed_seconds


def timestamp(moment: datetime) -> str:
    """Format a UTC moment as RFC 3339 with millisecond precision and ``Z``, as wire objects carry it."""
    moment = moment.astimezone(UTC)
    return f"{moment.strftime(_FORMAT)}.{moment.microsecond // 1000:03d}Z"


def parse_timestamp(text: str) -> datetime:
    """Parse what `timestamp` writes (seconds or milliseconds, ``Z`` only).

    Raises:
        PeerFault: ``timestamp_malformed``.
    """
    fault = PeerFault("timestamp_malformed", f"{text[:40]!r} is not an RFC 3339 UTC time ending in Z")
    if not _WIRE.fullmatch(text):
        raise fault
    try:
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise fault from error
