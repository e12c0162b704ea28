"""The report of what left and what entered, from the checked entries of the site's own log."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from shared.canonical import JsonObject
from shared.clock import timestamp
from shared.errors import InputError, Refusal
from site_agent import approvals, journal
from site_agent.journal import Entry, Head
from site_agent.storage import journal as rows
from site_agent.storage import studies
from site_agent.storage.database import Transaction
from site_agent.storage.enrolment import read_enrolment
from site_agent.storage.studies import StoredStudy
from site_agent.traffic import Flow, Traffic


@dataclass(frozen=True, slots=True)
class DayTotal:
    """What left and entered on one day (UTC)."""

    day: str
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What stands decided about a study: by whom, for how long, or why the approval does not count."""

    study: str
    title: str
    decision: str  # approve, withdraw, none, or the code why an approval does not count
    approver: str | None
    until: str | None
    data: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows, for people and for scripts."""

    site: str
    name: str
    federation: str
    fingerprint: str
    since: str
    until: str
    first_at: str | None  # when the log begins; an earlier `since` says nothing about the time before
    flows: list[Flow]  # one per class and destination
    days: list[DayTotal]
    studies: list[Decision]
    unclosed: list[str]  # starts of the agent after a run that was not closed
    entries: int
    head: Head

    @property
    def sent(self) -> int:
        """Return all bytes that left."""
        return sum(flow.sent for flow in self.flows)

    @property
    def received(self) -> int:
        """Return all bytes that entered."""
        return sum(flow.received for flow in self.flows)

    def by(self, name: str) -> dict[str, Flow]:
        """Return the totals by ``traffic`` or by ``destination``, the largest that left first."""
        totals: dict[str, list[Flow]] = {}
        for flow in self.flows:
            totals.setdefault(getattr(flow, name), []).append(flow)
        found = [
            Flow(
                group[0].traffic, group[0].destination, sum(one.exchanges for one in group),
                sum(one.sent for one in group), sum(one.received for one in group),
            )
            for group in totals.values()
        ]  # fmt: skip
        return {getattr(flow, name): flow for flow in sorted(found, key=lambda one: (-one.sent, one.traffic))}

    def as_json(self) -> JsonObject:
        """Return the report for scripts."""
        return {
            "site": self.site,
            "federation": self.federation,
            "since": self.since,
            "until": self.until,
            "log_begins": self.first_at,
            "sent": self.sent,
            "received": self.received,
            "flows": [flow._asdict() for flow in self.flows],
            "days": [{"day": one.day, "sent": one.sent, "received": one.received} for one in self.days],
            "studies": [asdict(one) for one in self.studies],
            "unclosed": self.unclosed,
            "entries": self.entries,
            "head": str(self.head),
        }


def make_report(tx: Transaction, since: datetime | None, now: datetime) -> Report:
    """Return what left and entered since a moment, or since the log began; every entry it counts was checked.

    Raises:
        InputError: ``not_enrolled``.
        PeerFault: ``journal_broken``.
    """
    stored = read_enrolment(tx)
    if stored is None:
        raise InputError("not_enrolled", "this state directory has no keys yet, so nothing was sent")
    after = 0 if since is None else rows.read_number_since(tx, timestamp(since))
    entries = list(journal.read_checked(tx, after))
    begin = "" if since is None else timestamp(since)  # a clock that was set back lets earlier entries come later
    traffic = [entry for entry in entries if entry.event == journal.TRAFFIC and entry.at >= begin]
    days: dict[str, list[Flow]] = {}
    for entry in traffic:
        days.setdefault(entry.facts["since"][:10], []).extend(entry.flows)
    first = next(rows.read_entries(tx), None)
    return Report(
        site=stored.site,
        name=stored.name,
        federation=stored.federation,
        fingerprint=stored.fingerprint,
        since=timestamp(since) if since is not None else timestamp(now) if first is None else first.at,
        until=timestamp(now),
        first_at=None if first is None else first.at,
        flows=sum_up(flow for entry in traffic for flow in entry.flows),
        days=[
            DayTotal(day, sum(one.sent for one in flows), sum(one.received for one in flows))
            for day, flows in sorted(days.items())
        ],
        studies=[_decision(tx, one) for one in studies.read_studies(tx)],
        unclosed=[entry.at for entry in entries if _is_gap(entry)],
        entries=len(entries),
        head=entries[-1].head if entries else journal.read_head(tx),
    )


def sum_up(flows: Iterable[Flow]) -> list[Flow]:
    """Return one flow per class and destination, in the order of the classes."""
    totals: dict[tuple[str, str], list[int]] = {}
    for flow in flows:
        total = totals.setdefault((flow.traffic, flow.destination), [0, 0, 0])
        for position, count in enumerate((flow.exchanges, flow.sent, flow.received)):
            total[position] += count
    order = [str(traffic) for traffic in Traffic]
    names = sorted(totals, key=lambda name: (order.index(name[0]) if name[0] in order else len(order), name))
    return [Flow(*name, *totals[name]) for name in names]


def in_words(count: int) -> str:
    """Return a number of bytes as people read it, in powers of a thousand."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"


def _decision(tx: Transaction, stored: StoredStudy) -> Decision:
    title = stored.study if stored.plan is None else stored.plan.title
    approval = studies.read_approval(tx, stored.study)
    if approval is None or not approval.approved:
        said = "none" if approval is None else approval.decision
        return Decision(stored.study, title, said, None, None, None)
    try:
        agreed = approvals.read_terms(tx, approval)
    except Refusal as reason:
        return Decision(stored.study, title, reason.code, None, None, None)
    until = agreed.until or (None if stored.plan is None else stored.plan.not_after)
    return Decision(stored.study, title, approval.decision, agreed.approver, until, approval.dataset)


def _is_gap(entry: Entry) -> bool:
    return entry.event == journal.STARTED and bool(entry.facts.get("unclosed"))
