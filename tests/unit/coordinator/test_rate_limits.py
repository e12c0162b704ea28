"""Buckets: a burst, then a steady drip; one caller's bucket is nobody else's."""

from datetime import UTC, datetime, timedelta

import pytest

from coordinator import rate_limits
from coordinator.rate_limits import RATES, RateLimits
from shared.errors import Unavailable

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def taken(limits: RateLimits, caller: str, now: datetime, most: int = 5000) -> int:
    for count in range(most):
        try:
            limits.take("login", caller, now)
        except Unavailable:
            return count
    return most


def test_a_burst_then_a_drip() -> None:
    limits, rate = RateLimits(), RATES["login"]
    assert taken(limits, "a", NOW) == rate.burst
    assert taken(limits, "a", NOW) == 0
    assert taken(limits, "a", NOW + timedelta(seconds=3 * rate.seconds)) == 3
    assert taken(limits, "b", NOW) == rate.burst
    assert taken(limits, "a", NOW + timedelta(days=1)) == rate.burst


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    limits = RateLimits()
    assert taken(limits, "a", NOW, most=4) == 4
    assert taken(limits, "a", NOW - timedelta(hours=1)) == RATES["login"].burst - 4


def test_the_memory_of_callers_is_bounded_and_forgets_the_rested_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_MOST_BUCKETS", 10)
    limits = RateLimits()
    assert taken(limits, "busy", NOW) == 10
    for number in range(9):
        limits.take("login", f"caller-{number}", NOW - timedelta(hours=1))
    limits.take("login", "one more", NOW)
    assert taken(limits, "busy", NOW) == 0
    for number in range(100):
        limits.take("login", f"crowd-{number}", NOW)
    assert len(limits._levels) <= 10


@pytest.mark.parametrize("pace", RATES)
def test_every_rate_lets_a_normal_caller_live(pace: rate_limits.Pace) -> None:
    assert RATES[pace].burst >= 10
