"""The forwarding loop: copies the site's own log to the hospital's log server, entry by entry, in order."""

import threading
from collections.abc import Callable

from shared.errors import MitralError
from site_agent import journal, syslog
from site_agent.backoff import Backoff
from site_agent.logs import Log
from site_agent.storage import notices
from site_agent.storage.database import Database

LOOK_SECONDS = 5.0  # how soon entries of the command line are noticed
FORWARDED = "syslog_forwarded"
SUBJECT = "syslog"
_BATCH = 200


class ForwardLoop:
    """Owns the connection to the log server, and remembers how far it got."""

    def __init__(
        self,
        database: Database,
        site: str,
        connection: syslog.SyslogConnection,
        log: Log,
        notice: Callable[[str, str, str], None],
    ) -> None:
        """Prepare; `notice` shows a person what is wrong: code, subject, detail."""
        self._database = database
        self._site = site
        self._connection = connection
        self._log = log
        self._notice = notice
        self._woken = threading.Event()
        self._forwarding = threading.Lock()
        self._failing = False

    def wake(self) -> None:
        """Look for entries now."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Forward until `stop` is set (and `wake` was called)."""
        backoff = Backoff()
        while not stop.is_set():
            self._woken.clear()
            try:
                self.forward()
                backoff.reset()
                self._woken.wait(LOOK_SECONDS)
            except MitralError as error:
                self._failed(error)
                backoff.wait(stop)
            except Exception as error:  # noqa: BLE001 (a bug must be seen and must not end the loop)
                self._log.critical("unexpected failure", loop="forward", error=error)
                backoff.wait(stop)

    def finish(self) -> None:
        """Forward the rest if the server answered so far, and close; the next start forwards what is left."""
        if self._failing or not self._forwarding.acquire(timeout=1.0):
            return
        self._forwarding.release()
        try:
            self.forward()
        except MitralError as error:
            self._log.info("syslog put off", code=error.code, detail=error.detail)
        self._connection.close()

    def forward(self) -> None:
        """Forward every entry that was not forwarded yet.

        Raises:
            Unavailable: ``syslog_unreachable``.
            PeerFault: ``journal_broken``; nothing after the broken entry is forwarded.
        """
        with self._forwarding:
            self._forward_all()

    def _forward_all(self) -> None:
        hostname = syslog.own_hostname()
        while True:
            with self._database.reading("read entries to forward") as tx:
                done = int(notices.read_facts(tx).get(FORWARDED, "0"))
                found = [entry for entry, _ in zip(journal.read_checked(tx, done), range(_BATCH), strict=False)]
            if not found:
                return
            self._connection.send([syslog.message(entry, self._site, hostname) for entry in found])
            with self._database.transaction("forwarded") as tx:
                notices.set_fact(tx, FORWARDED, str(found[-1].head.number))
                if self._failing:
                    notices.remove_subject(tx, SUBJECT)
            self._failing = False

    def _failed(self, error: MitralError) -> None:
        self._log.info("syslog put off", code=error.code, detail=error.detail)
        if not self._failing:
            self._failing = True
            self._notice(error.code, SUBJECT, error.detail)
