"""The recording loop: takes what the meters counted into the site's own log, and sums up every day that is over.

What is more than asking for work is written down within a second, the rest every ten minutes and at the stop. An agent
that is killed leaves at most that much uncounted, and its next start says so; what it had signed stands in the outbox.
"""

import threading
from collections.abc import Callable
from datetime import date, datetime

from shared.clock import Clock, parse_timestamp
from shared.errors import MitralError
from site_agent import journal
from site_agent.egress import sum_up
from site_agent.journal import Keeper
from site_agent.logs import Log
from site_agent.storage import journal as rows
from site_agent.storage.database import Database, Transaction
from site_agent.traffic import QUIET, Flow, Meter

LOOK_SECONDS = 1.0
QUIET_SECONDS = 600.0


class RecordLoop:
    """Owns the site's own log while the agent runs."""

    def __init__(
        self,
        database: Database,
        keeper: Keeper,
        meters: list[Meter],
        clock: Clock,
        log: Log,
        *,
        wrote: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `wrote` is told after every entry."""
        self._database = database
        self._keeper = keeper
        self._meters = meters
        self._clock = clock
        self._log = log
        self._wrote = wrote
        self._since = clock.now()
        self._summed_on: date | None = None

    def begin(self, instance: str) -> None:
        """Note that the agent started, and whether the run before it was closed.

        Raises:
            Unavailable: ``disk_full``.
        """
        self._since = self._clock.now()
        with self._database.transaction("journal started") as tx:
            before = rows.read_last(tx, journal.STARTED, journal.STOPPED)
            unclosed = before is not None and before.event == journal.STARTED
            facts = {"instance": instance, "unclosed": unclosed}
            journal.append(tx, self._keeper, journal.STARTED, facts, self._since)
            tx.after_commit.append(self._wrote)
        if unclosed:
            self._log.warning("the last run was not closed; what it sent at its very end is not in the site's log")

    def run(self, stop: threading.Event) -> None:
        """Record until `stop` is set; `finish` is called once nothing is sent any more."""
        while not stop.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Write down what is due; what cannot be written is counted on and tried again."""
        now = self._clock.now()
        try:
            if self._is_due(now):
                self.write(now)
            if self._summed_on != now.date():
                self._sum_up_days(now)
                self._summed_on = now.date()
        except MitralError as error:
            self._log.error("the site's own log cannot be written", code=error.code, detail=error.detail)
        except Exception as error:  # noqa: BLE001 (a bug must be seen and must not end the loop)
            self._log.critical("unexpected failure", loop="record", error=error)

    def finish(self) -> None:
        """Write down the rest and that the agent stopped.

        Raises:
            Unavailable: ``disk_full``; the next start says that this run was not closed.
        """
        now = self._clock.now()
        self.write(now)
        with self._database.transaction("journal stopped") as tx:
            journal.append(tx, self._keeper, journal.STOPPED, {}, now)
            tx.after_commit.append(self._wrote)

    def write(self, now: datetime) -> None:
        """Write down what was counted, if anything was."""
        taken = [(meter, meter.take()) for meter in self._meters]
        flows = [flow for _, counted in taken for flow in counted]
        if flows:
            try:
                with self._database.transaction("journal traffic") as tx:
                    journal.append_traffic(tx, self._keeper, flows, self._since, now)
                    tx.after_commit.append(self._wrote)
            except BaseException:
                for meter, counted in taken:
                    meter.give_back(counted)
                raise
        self._since = now

    def _is_due(self, now: datetime) -> bool:
        counted: set[str] = set().union(*(meter.classes() for meter in self._meters))
        if counted - QUIET or now.date() != self._since.date():
            return True
        return bool(counted) and (now - self._since).total_seconds() >= QUIET_SECONDS

    def _sum_up_days(self, now: datetime) -> None:
        with self._database.transaction("journal days") as tx:
            for day, flows, after, through in days_over(tx, now):
                facts = {"day": day, "after": after, "through": through, "flows": [flow._asdict() for flow in flows]}
                head = journal.append(tx, self._keeper, journal.DAY, facts, now)
                sent, received = sum(flow.sent for flow in flows), sum(flow.received for flow in flows)
                self._log.info("daily summary", day=day, sent=sent, received=received, head=str(head))
                tx.after_commit.append(self._wrote)


def days_over(tx: Transaction, now: datetime) -> list[tuple[str, list[Flow], int, int]]:
    """Return for every day (UTC) that is over and not summed up: its flows, and between which entries they stand."""
    last = rows.read_last(tx, journal.DAY)
    after = 0
    if last is not None:
        after = journal.read_entry(tx, last.number).facts["through"]
    by_day: dict[str, list[Flow]] = {}
    through = after
    for entry in journal.read_checked(tx, after):
        if entry.event != journal.TRAFFIC:
            continue
        day = parse_timestamp(entry.facts["since"]).date()
        if day >= now.date():
            break
        by_day.setdefault(day.isoformat(), []).extend(entry.flows)
        through = entry.head.number
    return [(day, sum_up(flows), after, through) for day, flows in sorted(by_day.items())]


def record_command(database: Database, keeper: Keeper, meter: Meter, since: datetime, now: datetime) -> None:
    """Write down what a command of `mitral-site` that dialled out has sent and got."""
    flows = meter.take()
    if flows:
        with database.transaction("journal traffic") as tx:
            journal.append_traffic(tx, keeper, flows, since, now)
