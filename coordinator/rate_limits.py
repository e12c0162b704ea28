"""Rate limits: one bucket per rule and caller, in memory; who empties his waits, and nobody else does."""

import threading
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NamedTuple

from shared.errors import Unavailable

Pace = Literal["login", "stranger", "enrol", "operator", "instance", "approval", "complaint"]


class Rate(NamedTuple):
    """So many at once, and one more every so many seconds."""

    burst: int
    seconds: float


RATES: Mapping[Pace, Rate] = MappingProxyType(
    {
        # Per address, of callers who are nobody yet.
        "login": Rate(10, 6),
        "stranger": Rate(300, 0.2),
        "enrol": Rate(60, 1),
        # Per operator.
        "operator": Rate(1200, 0.05),
        # Per site: an agent starts seldom, a steward approves seldom, a site can complain of every peer in every round.
        "instance": Rate(20, 30),
        "approval": Rate(60, 5),
        "complaint": Rate(400, 1),
    }
)
_MOST_BUCKETS = 20_000


class RateLimits:
    """The buckets of one process; a restart fills them."""

    def __init__(self) -> None:
        """Start with every bucket full."""
        self._levels: dict[tuple[Pace, str], tuple[float, datetime]] = {}
        self._lock = threading.Lock()

    def take(self, pace: Pace, caller: str, now: datetime) -> None:
        """Take one out of the caller's bucket.

        Raises:
            Unavailable: ``rate_limited`` when it is empty.
        """
        with self._lock:
            level = self._level(pace, caller, now)
            if level < 1:
                raise Unavailable("rate_limited", f"too many requests of this kind ({pace}) from one caller")
            if len(self._levels) >= _MOST_BUCKETS:
                self._forget_full(now)
            self._levels[pace, caller] = (level - 1, now)

    def _level(self, pace: Pace, caller: str, now: datetime) -> float:
        rate = RATES[pace]
        level, at = self._levels.get((pace, caller), (float(rate.burst), now))
        return min(float(rate.burst), level + max(0.0, (now - at).total_seconds()) / rate.seconds)

    def _forget_full(self, now: datetime) -> None:
        full = [key for key in self._levels if self._level(*key, now) >= RATES[key[0]].burst]
        for key in full or list(self._levels)[: _MOST_BUCKETS // 2]:  # the oldest ones, if nobody has rested
            del self._levels[key]
