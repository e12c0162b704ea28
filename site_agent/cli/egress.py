"""`mitral-site egress`."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from shared.clock import SystemClock
from shared.errors import InputError
from site_agent import journal
from site_agent.egress import Report, in_words, make_report
from site_agent.egress_page import page
from site_agent.journal import Verified
from site_agent.state_folder import write_whole
from site_agent.traffic import MEANINGS, Traffic

_PERIOD = re.compile(r"(\d{1,4})([hdw])", re.ASCII)
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


def egress(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="From when on: a date (UTC), or 24h, 30d, 8w back; or `all`.")] = "30d",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print one self-contained page.")] = False,
    daily: Annotated[bool, typer.Option("--daily", help="Print one line per day.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of standard output.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the whole log: every signature and link.")] = False,
    head: Annotated[str, typer.Option(help="With --verify: a head that was noted, NUMBER:DIGEST; must stand.")] = "",
) -> None:
    """Show what left this hospital and what entered, by class and destination, from the site's own signed log.

    Every entry that is counted is checked first. Note the head that is shown: with it, a later --verify finds out
    whether anything before it was changed or cut off.
    """
    now = SystemClock().now()
    with context.obj.open() as state, state.database.reading("report egress") as tx:
        if verify or head:
            found = journal.verify(tx, journal.parse_head(head) if head else None)
            text = json.dumps(_verified(found), indent=2) if as_json else "\n".join(_verified_lines(found))
        else:
            report = make_report(tx, read_since(since, now), now)
            if as_html:
                text = page(report)
            else:
                text = json.dumps(report.as_json(), indent=2) if as_json else "\n".join(_lines(report, daily=daily))
    if out is None:
        typer.echo(text)
    else:
        write_whole(out.absolute(), [text.encode()])


def read_since(text: str, now: datetime) -> datetime | None:
    """Return the moment that a person means by a date or a period; None for all there is.

    Raises:
        InputError: ``period_malformed``.
    """
    if text == "all":
        return None
    period = _PERIOD.fullmatch(text)
    if period is not None:
        return now - timedelta(hours=int(period[1]) * _HOURS[period[2]])
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError("period_malformed", f"{text[:50]!r} is neither a date nor a period") from error


def _lines(report: Report, *, daily: bool) -> list[str]:
    if daily:
        return [f"{day.day}  left {in_words(day.sent)}, entered {in_words(day.received)}" for day in report.days]
    lines = [
        f"What left {report.name or report.site} ({report.site} of {report.federation})",
        (
            f"{report.since[:16]}Z to {report.until[:16]}Z: {in_words(report.sent)} left,"
            f" {in_words(report.received)} entered"
        ),
    ]
    for destination, flow in report.by("destination").items():
        lines.append(f"  {destination}: {in_words(flow.sent)} left, {in_words(flow.received)} entered")
    lines.append("By class (bytes of TCP payload):")
    for traffic, flow in report.by("traffic").items():
        title = MEANINGS[Traffic(traffic)].title
        lines.append(f"  {title:26} {flow.exchanges:>7} times {flow.sent:>14} left {flow.received:>14} entered")
    lines += [
        f"! {at}: the run before ended without closing the log; its last moments are missing" for at in report.unclosed
    ]
    if report.first_at is None or report.since < report.first_at:
        lines.append(f"The log begins at {report.first_at or 'the first start of the agent'}.")
    return [*lines, f"head {report.head}"]


def _verified(found: Verified) -> dict[str, object]:
    return {
        "entries": found.entries,
        "from": found.first_at,
        "to": found.last_at,
        "head": str(found.head),
        "fingerprints": found.fingerprints,
        "unclosed": found.gaps,
    }


def _verified_lines(found: Verified) -> list[str]:
    return [
        f"{found.entries} entries verify, from {found.first_at} to {found.last_at}",
        *(f"signed by {fingerprint}" for fingerprint in found.fingerprints),
        *(f"! {at}: the run before ended without closing the log; its last moments are missing" for at in found.gaps),
        f"head {found.head}",
    ]
