"""The terms of an approval: who gave it, what for, and limits that nobody else can raise. Pure checks, no database."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from shared.clock import parse_timestamp
from shared.errors import InputError, Refusal
from shared.protocol.round_context import Context
from shared.protocol.study import Plan
from shared.protocol.wire import DecimalText, Timestamp, WireObject

Kind = Literal["update", "metrics", "statistics"]
KINDS: tuple[Kind, ...] = ("statistics", "update", "metrics")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_LONGEST_PAUSE = timedelta(days=8)  # every weekly window opens within it
_MINUTE = timedelta(minutes=1)
Limit = Annotated[int, Field(ge=1, le=10**9)] | None


class Terms(WireObject):
    """What the steward set beside study, plan and data set. An absent limit is None: the plan alone decides then."""

    approver: Annotated[str, Field(min_length=1, max_length=200)]
    purpose: Annotated[str, Field(max_length=2000)]
    until: Timestamp | None
    hours: list[str]  # windows in which work may begin, "mon-fri 18:00-06:00"; none: always
    timezone: Annotated[str, Field(max_length=64)]
    kinds: Annotated[list[Kind], Field(min_length=1)]  # what this hospital contributes to
    most_rounds: Limit  # training rounds under this approval
    most_epochs: Limit  # passes over the data in one round
    least_hospitals: Limit  # in every sum
    epsilon: DecimalText | None  # the privacy budget; a plan without differential privacy keeps none


class Window(NamedTuple):
    """A time of day on some days of the week; one that ends before it begins ends on the next day."""

    days: frozenset[int]
    start: int  # minutes after midnight
    end: int

    def holds(self, local: datetime) -> bool:
        """Return whether a moment lies in the window."""
        minute, today = 60 * local.hour + local.minute, local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        yesterday = (today - 1) % 7
        return (today in self.days and minute >= self.start) or (yesterday in self.days and minute < self.end)


def without_limits(approver: str, purpose: str) -> Terms:
    """Return terms that set no limit: the plan alone decides."""
    return Terms(
        approver=approver, purpose=purpose, until=None, hours=[], timezone="UTC", kinds=list(KINDS),
        most_rounds=None, most_epochs=None, least_hospitals=None, epsilon=None,
    )  # fmt: skip


def check_plan(terms: Terms, plan: Plan, now: datetime) -> None:
    """Check that a plan can be carried out under these terms at all: at the approval, and whenever it is used.

    Raises:
        Refusal: ``approval_expired``, ``approval_epochs``, ``approval_budget``.
        InputError: ``hours_malformed``.
    """
    windows(terms)
    if terms.until is not None and parse_timestamp(terms.until) <= now:
        raise Refusal("approval_expired", f"the approval of {plan.study} ended at {terms.until}")
    epochs = plan.training.local_epochs
    if terms.most_epochs is not None and epochs > terms.most_epochs:
        raise Refusal(
            "approval_epochs", f"{plan.study} trains {epochs} epochs a round, {terms.most_epochs} are allowed"
        )
    if terms.epsilon is not None and plan.dp is None:
        detail = f"a privacy budget of {terms.epsilon} was set, and {plan.study} has no differential privacy to keep it"
        raise Refusal("approval_budget", detail)


def check_contribution(terms: Terms, ctx: Context, sealed: int) -> None:
    """Check that this hospital may contribute to a context; `sealed` updates were contributed under these terms.

    Raises:
        Refusal: ``approval_kind``, ``approval_rounds``, ``approval_hospitals``.
    """
    if ctx.kind not in terms.kinds:
        raise Refusal(
            "approval_kind", f"the approval of {ctx.study} is for {', '.join(terms.kinds)}, not for {ctx.kind}"
        )
    if ctx.kind == "update" and terms.most_rounds is not None and sealed >= terms.most_rounds:
        raise Refusal("approval_rounds", f"{sealed} training rounds of {ctx.study} were allowed, and contributed to")
    if terms.least_hospitals is not None and ctx.m < terms.least_hospitals:
        detail = f"sums over {ctx.m} hospitals would be accepted, the approval asks for {terms.least_hospitals}"
        raise Refusal("approval_hospitals", detail)


def seconds_until_open(terms: Terms, now: datetime) -> float:
    """Return after how many seconds work may begin; 0 inside the hours.

    Raises:
        InputError: ``hours_malformed``.
    """
    opened, zone = windows(terms), zone_of(terms.timezone)
    if not opened:
        return 0.0
    moment = now
    while moment - now <= _LONGEST_PAUSE:
        if any(window.holds(moment.astimezone(zone)) for window in opened):
            return (moment - now).total_seconds()
        moment = moment.replace(second=0, microsecond=0) + _MINUTE
    raise InputError("hours_malformed", f"{', '.join(terms.hours)} never comes")


def windows(terms: Terms) -> list[Window]:
    """Return the parsed hours.

    Raises:
        InputError: ``hours_malformed``.
    """
    zone_of(terms.timezone)
    return [_window(text) for text in terms.hours]


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its IANA name.

    Raises:
        InputError: ``hours_malformed``.
    """
    if name == "UTC":
        return UTC  # known everywhere, also where the machine has no table of zones
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError("hours_malformed", f"this machine knows no time zone {name!r}; UTC always works") from error


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise InputError("hours_malformed", f"{text[:60]!r} is not like 18:00-06:00 or mon-fri 18:00-06:00")
    first, last, *times = found.groups()
    hour, minute, end_hour, end_minute = map(int, times)
    unknown = {day for day in (first, last) if day is not None} - set(_DAYS)
    if unknown or max(hour, end_hour) > 24 or max(minute, end_minute) > 59 or hour == 24:
        raise InputError("hours_malformed", f"{text[:60]!r} names no day or no time of day")
    start, end = 60 * hour + minute, (60 * end_hour + end_minute) % (24 * 60)
    if first is None:
        return Window(frozenset(range(7)), start, end or 24 * 60)
    begin, until = _DAYS.index(first), _DAYS.index(last or first)
    days = frozenset((begin + step) % 7 for step in range((until - begin) % 7 + 1))
    return Window(days, start, end or 24 * 60)
