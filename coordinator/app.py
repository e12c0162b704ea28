"""The composition root: settings and a state directory in, a coordinator out."""

from datetime import datetime
from pathlib import Path

import structlog

from coordinator import state as state_directory
from coordinator.audit import AuditLog
from coordinator.bell import Bell
from coordinator.blobs.local import LocalBlobs
from coordinator.blobs.uploads import Uploads
from coordinator.config import Settings
from coordinator.denials import Denials
from coordinator.driver import Driver
from coordinator.keys import load_keys
from coordinator.oidc import Oidc
from coordinator.presence import Presence
from coordinator.rate_limits import RateLimits
from coordinator.rounds.sweep import Desk
from coordinator.scheduler import Scheduler
from coordinator.storage import sites
from shared.clock import Clock, timestamp
from shared.crypto.sealing import check_suite_available
from shared.errors import MitralError

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
        self.log = AuditLog(settings.federation, self.keys.log_key, self.keys.idk)
        self.blobs = LocalBlobs(state / state_directory.BLOBS)
        self.uploads = Uploads(state / state_directory.UPLOADS)
        self.presence = Presence(settings.online_seconds, settings.gather_seconds, clock.now())
        self.agents = Bell()
        self.operators = Bell()
        self.told: dict[
            str, tuple[str, frozenset[str]]
        ] = {}  # per site: the cursor it was given, and of which commands
        # (operator, digest): who has sent a blob itself, and so does not learn its content by naming its digest.
        self.senders: set[tuple[str, str]] = set()
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

    def _recur(self) -> None:
        try:
            self.log.sign_checkpoint(self.database)
            with self.database.transaction("remember who was seen") as tx:
                for site in sites.read_sites_in(tx, "approved"):
                    seen = self.presence.last_seen(site.site)
                    if seen is not None and timestamp(seen) != site.last_seen_at:
                        sites.set_seen(tx, site.site, timestamp(seen))
        except MitralError as error:
            _log.warning("recurring_work_failed", code=error.code, detail=error.detail)
