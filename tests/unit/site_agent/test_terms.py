"""The steward's terms: hours of the day, and limits that nobody else can raise."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError, Refusal
from site_agent.terms import Terms, check_plan, seconds_until_open, without_limits
from tests.support.hospitals import demo_plan

FRIDAY = datetime(2026, 11, 20, 12, tzinfo=UTC)
PLAN = demo_plan(["site-a", "site-b", "site-c"], "0" * 64)


def terms(**limits: Any) -> Terms:
    return Terms.check({**without_limits("Dr. Lind", "care").as_json(), **limits})


@pytest.mark.parametrize(
    ("hours", "zone", "hours_to_wait"),
    [
        ([], "UTC", 0),
        (["08:00-18:00"], "UTC", 0),
        (["18:00-06:00"], "UTC", 6),
        (["18:00-06:00"], "Europe/Berlin", 5),
        (["12:00-13:00"], "UTC", 0),
        (["11:00-12:00"], "UTC", 23),
        (["sat 00:00-24:00"], "UTC", 12),
        (["mon-fri 18:00-06:00"], "UTC", 6),
        (["sun-mon 06:00-07:00"], "UTC", 42),
        (["thu 20:00-13:00"], "UTC", 0),
        (["sat 08:00-09:00", "fri 14:00-15:00"], "UTC", 2),
        (["00:00-00:00"], "UTC", 0),
    ],
)
def test_work_begins_in_its_hours(hours: list[str], zone: str, hours_to_wait: float) -> None:
    assert seconds_until_open(terms(hours=hours, timezone=zone), FRIDAY) == hours_to_wait * 3600


@given(st.integers(0, 7 * 24 * 60 - 1), st.sampled_from(["mon-fri 18:00-06:00", "sat-sun 00:00-24:00", "22:30-03:15"]))
def test_after_the_wait_it_is_open_and_before_it_was_not(minute: int, window: str) -> None:
    limited, now = terms(hours=[window], timezone="Asia/Tokyo"), FRIDAY + timedelta(minutes=minute, seconds=17)
    wait = seconds_until_open(limited, now)
    assert seconds_until_open(limited, now + timedelta(seconds=wait)) == 0
    if wait > 1:
        assert seconds_until_open(limited, now + timedelta(seconds=wait - 1)) > 0


@pytest.mark.parametrize(
    "hours",
    ["", "18-06", "8:00-9:00", "25:00-26:00", "24:00-25:00", "mo 08:00-09:00", "xyz 08:00-09:00", "08:00-09:60"],
)
def test_hours_that_cannot_be_read(hours: str) -> None:
    with pytest.raises(InputError, match=r"^hours_malformed:"):
        check_plan(terms(hours=[hours]), PLAN, FRIDAY)


def test_a_time_zone_nobody_knows() -> None:
    for zone in ("Europe/Atlantis", "../../etc/passwd", ""):
        with pytest.raises(InputError, match=r"^hours_malformed:"):
            check_plan(terms(hours=["08:00-09:00"], timezone=zone), PLAN, FRIDAY)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"until": "2026-11-20T12:00:00.000Z"}, "approval_expired"),
        ({"most_epochs": PLAN.training.local_epochs - 1}, "approval_epochs"),
        ({"epsilon": "3"}, "approval_budget"),
    ],
)
def test_a_plan_that_asks_for_more_than_the_terms_allow(limits: dict[str, Any], code: str) -> None:
    plan = PLAN if "most_epochs" not in limits else demo_plan(list(PLAN.sites), "0" * 64, training={"local_epochs": 2})
    limits = {"most_epochs": 1} if "most_epochs" in limits else limits
    with pytest.raises(Refusal, match=f"^{code}:"):
        check_plan(terms(**limits), plan, FRIDAY)
    check_plan(terms(until="2026-11-20T12:00:00.001Z", most_epochs=2), plan, FRIDAY)
