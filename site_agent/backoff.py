"""Waiting between attempts: 1 s to 300 s with full jitter, unless the coordinator says how long (PROTOCOLS 1.9)."""

import secrets
from threading import Event

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 300.0
_UNIT = 2**32


class Backoff:
    """One loop's waiting. Full jitter spreads a hundred agents that lost the same coordinator at the same moment."""

    def __init__(self, first_seconds: float = FIRST_SECONDS, longest_seconds: float = LONGEST_SECONDS) -> None:
        """Start with no failures."""
        self._first = first_seconds
        self._longest = longest_seconds
        self._failures = 0

    def reset(self) -> None:
        """Forget the failures after a success."""
        self._failures = 0

    def next_seconds(self, retry_after_seconds: float | None = None) -> float:
        """Return how long to wait after one more failure; what the other side asked for wins."""
        ceiling = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        if retry_after_seconds is not None:
            return min(max(retry_after_seconds, 0.0), self._longest * 12)
        return ceiling * secrets.randbelow(_UNIT) / _UNIT

    def wait(self, stop: Event, retry_after_seconds: float | None = None) -> bool:
        """Wait, or less if `stop` is set; return whether it is."""
        return stop.wait(self.next_seconds(retry_after_seconds))
