"""The acting loop: answers the newest set of commands. A newer set replaces one that nobody looked at yet."""

import threading

from shared.protocol.work import Command
from site_agent.backoff import Backoff
from site_agent.rounds import dispatch
from site_agent.rounds.session import Session

IDLE_SECONDS = 60.0  # how often contexts that ran out are looked for while nothing comes


class ActLoop:
    """Owns the answering; training runs beside it, so that other contexts are answered meanwhile."""

    def __init__(self, session: Session, stop: threading.Event) -> None:
        """Prepare; `run` is the thread's function."""
        self._session = session
        self._stop = stop
        self._condition = threading.Condition()
        self._newest: list[Command] | None = None

    def offer(self, commands: list[Command]) -> None:
        """Hand over a set; called by the asking loop."""
        with self._condition:
            self._newest = commands
            self._condition.notify()

    def wake(self) -> None:
        """Notice that `stop` was set."""
        with self._condition:
            self._condition.notify()

    def run(self) -> None:
        """Answer until `stop` is set."""
        backoff = Backoff()
        current: list[Command] = []
        pause: float | None = None  # None: the current set is done
        while True:
            with self._condition:
                timeout = IDLE_SECONDS if pause is None else pause
                self._condition.wait_for(lambda: self._stop.is_set() or self._newest is not None, timeout)
                if self._stop.is_set():
                    return
                if self._newest is not None:
                    current, self._newest = self._newest, None
                    backoff.reset()
                elif pause is None:
                    current = []  # nothing came: an empty set still wipes what has run out
            pause = self._answer(current, backoff)

    def _answer(self, commands: list[Command], backoff: Backoff) -> float | None:
        """Answer a set; return after how many seconds it has to be answered again, None when it is done."""
        try:
            unfinished = dispatch.answer(self._session, commands, self._session.clock.now())
        except Exception as error:  # noqa: BLE001 (a bug must be seen and must not end the loop)
            self._session.log.critical("unexpected failure", loop="act", error=error)
            return backoff.next_seconds()
        if unfinished is None:
            backoff.reset()
            return None
        return backoff.next_seconds(unfinished.retry_after_seconds)
