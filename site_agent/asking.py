"""The asking loop: long polls and nothing else. What it learns it hands over; it never waits for work to be done."""

import threading
from collections.abc import Callable
from datetime import datetime

from shared.clock import parse_timestamp, timestamp
from shared.errors import MitralError, PeerFault, Unavailable
from shared.protocol.work import Command, PollAnswer
from site_agent.backoff import Backoff
from site_agent.lease import Instance
from site_agent.renewal import Renewer
from site_agent.rounds.session import Session
from site_agent.state_reset import StateCheck
from site_agent.storage import notices

CLOCK_SKEW_SECONDS = 60.0
CONTACT_SECONDS = 10.0  # how often the time of the last contact is written down
LEAST_SECONDS = 0.2  # between two polls that brought nothing new; a coordinator that does not wait must not be flooded
# No waiting helps: the site is out, or another agent speaks for it, or this state is behind what the site has signed.
FATAL = {"instance_conflict", "seq_reused", "site_revoked", "site_mismatch", "site_unknown"}


class AskLoop:
    """Owns the poll, its cursor and the instance lease."""

    def __init__(
        self,
        session: Session,
        instance: Instance,
        offer: Callable[[list[Command]], None],
        stop: threading.Event,
        fail: Callable[[MitralError], None],
        *,
        wait_seconds: int,
        recovered: Callable[[], None] = lambda: None,
        check: StateCheck | None = None,
        settled: threading.Event | None = None,
        renewer: Renewer | None = None,
    ) -> None:
        """Prepare; `offer` takes over a set of commands, `fail` is told why the agent cannot go on.

        `recovered` is told that the coordinator answers again. Before the first poll `check` settles whether this state
        is the newest one; `settled` is set when this process holds the lease. `renewer`
        keeps the certificate young.
        """
        self._session = session
        self._instance = instance
        self._offer = offer
        self._stop = stop
        self._fail = fail
        self._wait_seconds = wait_seconds
        self._recovered = recovered
        self._check = check
        self._renewer = renewer
        self._settled = settled or threading.Event()
        self._is_checked = False
        self._cursor = ""
        self._noted_at = float("-inf")
        self._skewed: bool | None = None
        self._failing = False
        self._backoff = Backoff()

    def run(self) -> None:
        """Ask until `stop` is set."""
        while not self._stop.is_set():
            try:
                self.ask_once()
            except MitralError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 (a bug must be seen and must not end the loop)
                self._session.log.critical("unexpected failure", loop="ask", error=error)
                self._backoff.wait(self._stop)

    def ask_once(self) -> None:
        """Make one poll and pass on what it brought.

        Raises:
            MitralError: what the poll failed with.
        """
        session = self._session
        if self._renewer is not None:
            self._renewer.keep()
        if self._check is not None and not self._is_checked:
            self._check.settle()
        self._is_checked = True
        began = session.clock.monotonic()
        answer, arrived = session.client.poll(
            self._wait_seconds, self._cursor, self._instance.id, self._instance.previous
        )
        if self._stop.is_set():
            return
        self._instance.confirm()
        self._settled.set()
        self._backoff.reset()
        back = self._failing
        self._note_contact(answer, arrived)
        if back:
            self._recovered()
        if answer.action == "stop":
            self._fail(Unavailable("coordinator_stop", answer.reason or "the coordinator asked this agent to stop"))
        elif answer.action == "sleep":
            session.log.info("sleeping", seconds=answer.sleep_seconds, reason=answer.reason)
            self._stop.wait(answer.sleep_seconds)
        elif answer.cursor != self._cursor or back:
            # What could not be done while nobody answered is done now, not when somebody's waiting is over.
            self._cursor = answer.cursor
            self._offer(answer.commands)
        else:
            self._stop.wait(max(0.0, LEAST_SECONDS - (session.clock.monotonic() - began)))

    def _failed(self, error: MitralError) -> None:
        session = self._session
        if error.code == "instance_conflict" and self._is_checked:
            if self._instance.rejected():
                return
            if self._check is not None and not self._instance.is_confirmed:
                self._is_checked = False
                self._take_over(self._check)
                return
        if error.code in FATAL:
            self._fail(error)
            return
        if self._renewer is not None:
            self._renewer.refused(error.code)
        level = session.log.error if isinstance(error, PeerFault) else session.log.info
        level("poll failed", code=error.code, detail=error.detail)
        if not self._failing:
            self._failing = True
            session.notice(error.code, "connection", error.detail)
        self._backoff.wait(self._stop, getattr(error, "retry_after_seconds", None))

    def _take_over(self, check: StateCheck) -> None:
        """Reset the state and take the lease: the agent that holds it is gone, or this one ends here."""
        try:
            check.take_over()
        except MitralError as error:
            self._failed(error)

    def _note_contact(self, answer: PollAnswer, arrived: datetime) -> None:
        """Write down that the coordinator was reached, and whether the clocks agree; no round depends on that."""
        session, now = self._session, self._session.clock.monotonic()
        skew = (arrived - parse_timestamp(answer.time)).total_seconds()
        session.skew.seconds = skew
        skewed = abs(skew) > CLOCK_SKEW_SECONDS
        if skewed == self._skewed and not self._failing and now - self._noted_at < CONTACT_SECONDS:
            return
        with session.database.transaction("note contact") as tx:
            at = timestamp(arrived)
            notices.set_fact(tx, "last_contact_at", at)
            notices.remove_subject(tx, "connection")
            if skewed:
                detail = f"this site's clock is {skew:+.0f} s against the coordinator's"
                notices.add_notice(tx, "clock_skew", "clock", detail, at)
            else:
                notices.remove_subject(tx, "clock")
        if skewed and not self._skewed:
            session.log.warning("notice", code="clock_skew", seconds=round(skew))
        self._noted_at, self._skewed, self._failing = now, skewed, False
