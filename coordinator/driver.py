"""The one thread that moves rounds: after every commit that touched a study, at start-up, and at deadlines."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from coordinator.rounds.sweep import Desk, sweep_files, sweep_study
from coordinator.storage import studies

_RETRY = timedelta(seconds=5)
_log = structlog.get_logger("driver")
WakeAt = Callable[[str, datetime], None]  # (study, when): ask for a nudge at a time


class Driver:
    """Collects nudges and sweeps the nudged studies one after the other."""

    def __init__(self, desk: Desk, wake_at: WakeAt) -> None:
        """Work at this desk; `wake_at` schedules deadlines."""
        self._desk = desk
        self._wake_at = wake_at
        self._condition = threading.Condition()
        self._nudged: dict[str, None] = {}  # in order of the first nudge
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Clean up behind a crash, then start the thread with every running study nudged."""
        sweep_files(self._desk)
        self.nudge_running()
        self._thread = threading.Thread(target=self._run, name="round-driver", daemon=True)
        self._thread.start()

    def nudge(self, study: str) -> None:
        """Ask for a sweep of a study; never blocks."""
        with self._condition:
            self._nudged[study] = None
            self._condition.notify()

    def nudge_running(self) -> None:
        """Ask for a sweep of everything that may move: a site came online, or the service has just started."""
        with self._desk.database.reading("list studies") as tx:
            found = [study.study for study in studies.read_studies(tx) if study.state in {"running", "paused"}]
        for study in found:
            self.nudge(study)

    def stop(self) -> None:
        """Finish the sweep under way and end the thread. What is left to do is in the database."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=3)

    def sweep(self, study: str) -> None:
        """Sweep one study in the calling thread; what the thread does, and what tests do by hand.

        While the log is held nothing moves: whoever lets it go on nudges every study.
        """
        if self._desk.log.hold is not None:
            return
        again_at = sweep_study(self._desk, study)
        if again_at is not None:
            self._wake_at(study, again_at)

    def drain(self) -> None:
        """Sweep everything nudged so far in the calling thread, for tests without the thread."""
        while (study := self._next(wait=False)) is not None:
            self.sweep(study)

    def _run(self) -> None:
        while (study := self._next(wait=True)) is not None:
            try:
                self.sweep(study)
            except Exception:  # noqa: BLE001 (the thread outlives whatever one study does)
                # The state is in the database, so nothing is lost: a full disk, say, may have room again in a moment.
                _log.exception("sweep_failed", study=study)
                self._wake_at(study, self._desk.clock.now() + _RETRY)

    def _next(self, *, wait: bool) -> str | None:
        with self._condition:
            while wait and not self._nudged and not self._stopping:
                self._condition.wait()
            if self._stopping or not self._nudged:
                return None
            study = next(iter(self._nudged))
            del self._nudged[study]
            return study
