"""The composition root: settings and a state directory in, a coordinator out."""

from datetime import datetime, timedelta
from pathlib import Path

import structlog

from coordinator import state as state_directory
from coordinator.audit import SYSTEM_ACTOR, Fact
from coordinator.bell import Bell
from coordinator.blobs.local import LocalBlobs
from coordinator.blobs.uploads import Uploads
from coordinator.config import Settings
from coordinator.denials import Denials
from coordinator.driver import Driver
from coordinator.keys import load_keys
from coordinator.log_rotation import open_log
from coordinator.nonces import Nonces
from coordinator.oidc import Oidc
from coordinator.presence import Holders, Presence
from coordinator.rate_limits import RateLimits
from coordinator.rounds.sweep import Desk
from coordinator.scheduler import Scheduler
from coordinator.storage import log as stored_log
from coordinator.storage import sites
from coordinator.witnesses import Witnesses
from shared.clock import Clock, parse_timestamp, timestamp
from shared.crypto.sealing import check_suite_available
from shared.errors import MitralError

HEARTBEAT = timedelta(hours=1)
_log = structlog.get_logger("coordinator")


class Coordinator:
    """Everything the routes work with. Threads run only between `start` and `stop`."""

    def __init__(self, state: Path, settings: Settings, clock: Clock) -> None:
        """Open an initialised state directory.

        Raises:
            InputError: ``state_missing``, ``state_newer``, ``key_file_permissions``.
            Unavailable: ``suite_unavailable``.
        """
        check_suite_available()
        self.state = state
        self.settings = settings
        self.federation = settings.federation
        self.clock = clock
        self.keys = load_keys(state / state_directory.KEYS)
        self.database = state_directory.open_database(state)
        self.database.listener = self._heard
        self.log = open_log(state, settings.federation, self.keys, self.database, clock.now())
        self.witnesses = Witnesses(self.log, state / state_directory.EVIDENCE, settings.confirm_heads)
        self.witnesses.begin(self.database)
        self.blobs = LocalBlobs(state / state_directory.BLOBS)
        self.uploads = Uploads(state / state_directory.UPLOADS)
        self.presence = Presence(settings.online_seconds, settings.gather_seconds, clock.now())
        self.holders = Holders(settings.online_seconds, clock.now())
        self.agents = Bell()
        self.operators = Bell()
        self.told: dict[
            str, tuple[str, frozenset[str]]
        ] = {}  # per site: the cursor it was given, and of which commands
        # (operator, digest): who has sent a blob itself, and so does not learn its content by naming its digest.
        self.senders: set[tuple[str, str]] = set()
        self.nonces = Nonces()
        self.limits = RateLimits()
        self.oidc = Oidc(settings)
        self.denials = Denials(self.database, self.log)
        self.scheduler = Scheduler()
        self.desk = Desk(
            database=self.database,
            log=self.log,
            blobs=self.blobs,
            uploads=self.uploads,
            keys=self.keys,
            presence=self.presence,
            clock=clock,
            gather_seconds=settings.gather_seconds,
            threads=settings.threads,
        )
        self.driver = Driver(self.desk, self._wake_at)
        self._shown = 0  # the size of the head that polls were last woken for
        self.agent_port = settings.agent_port
        self.operator_port = settings.operator_port

    def start(self) -> None:
        """Start the driver and the scheduler: whatever was under way goes on."""
        self.scheduler.start()
        self.scheduler.every("checkpoint", self.settings.checkpoint_seconds, self._recur)
        self.driver.start()

    def stop(self) -> None:
        """Stop the threads and close the database. Nothing is lost: what is left to do is in the state directory."""
        self.scheduler.stop()
        self.driver.stop()
        self.database.close()

    def ring_stop(self) -> None:
        """Answer every long poll now; the service is about to stop."""
        self.agents.stop()
        self.operators.stop()

    def saw(self, site: str) -> None:
        """Note a sign of life of a site; one that was offline may complete a cohort."""
        if self.presence.saw(site, self.clock.now()):
            self.driver.nudge_running()
            self.operators.ring()

    def lost(self, site: str) -> None:
        """Note that a site hung up while it waited."""
        self.presence.lost(site, self.clock.now())
        self.operators.ring()

    def _heard(self, touched: set[str]) -> None:
        if "agents" in touched:
            self.agents.ring()
        if "operators" in touched:
            self.operators.ring()
        for name in touched:
            kind, _, study = name.partition("/")
            if kind == "study":
                self.driver.nudge(study)

    def _wake_at(self, study: str, moment: datetime) -> None:
        self.scheduler.at(f"study/{study}", moment, lambda: self.driver.nudge(study))

    def tend_log(self) -> None:
        """Sign a head over new entries and show it to the witnesses; after an hour of silence, say so in the log.

        Raises:
            Unavailable: ``log_rolled_back``.
        """
        now = self.clock.now()
        with self.database.reading("read the log's head") as tx:
            size, last = stored_log.read_head(tx)
        if size and self.log.hold is None and now - parse_timestamp(last) >= HEARTBEAT:
            with self.database.transaction("write a heartbeat") as tx:
                self.log.append(tx, Fact("log.heartbeat", SYSTEM_ACTOR), now)
        self.log.sign_checkpoint(self.database)
        with self.database.reading("read the newest head") as tx:
            newest = stored_log.read_newest_note(tx)
        if newest is not None and newest.size != self._shown:
            self._shown = newest.size
            self.agents.ring()

    def _recur(self) -> None:
        try:
            self.tend_log()
            with self.database.transaction("remember who was seen") as tx:
                for site in sites.read_sites_in(tx, "approved"):
                    seen = self.presence.last_seen(site.site)
                    if seen is not None and timestamp(seen) != site.last_seen_at:
                        sites.set_seen(tx, site.site, timestamp(seen))
        except MitralError as error:
            _log.warning("recurring_work_failed", code=error.code, detail=error.detail)
