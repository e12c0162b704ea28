"""Composition root: opens the state directory, puts the parts together, runs the loops, stops them."""

import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.clock import Clock, SystemClock
from shared.crypto.sealing import check_suite_available
from shared.crypto.secret import Secret
from shared.errors import InputError, Misuse, MitralError
from site_agent.acting import ActLoop
from site_agent.asking import AskLoop
from site_agent.config import Settings
from site_agent.coordinator_client import CoordinatorClient
from site_agent.coordinator_transport import counted_transport
from site_agent.forwarding import ForwardLoop
from site_agent.identity import SiteIdentity, read_identity
from site_agent.journal import read_keeper
from site_agent.lease import FolderLock, Instance
from site_agent.logs import Log, make_log
from site_agent.outbox import DeliverLoop
from site_agent.recording import RecordLoop
from site_agent.renewal import Renewer
from site_agent.rounds.close import erase_leftovers
from site_agent.rounds.session import Session
from site_agent.state_folder import StateFolder
from site_agent.state_reset import StateCheck
from site_agent.storage.database import Database
from site_agent.storage.enrolment import StoredEnrolment, read_enrolment
from site_agent.storage.schema import migrate
from site_agent.syslog import SyslogConnection, syslog_context
from site_agent.tls import ClientCertificate, load_client_certificate, server_context
from site_agent.traffic import Meter
from site_agent.trainings import Children, TrainingChildren, TrainingDesk

STOP_SECONDS = 2.0  # for a commit or a small request under way; nothing that takes longer is worth waiting for


@dataclass(frozen=True, slots=True)
class State:
    """An open state directory."""

    folder: StateFolder
    database: Database
    settings: Settings

    def __enter__(self) -> Self:
        """Return the open state."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database."""
        self.database.close()


def open_state(root: Path, settings: Settings, *, create: bool) -> State:
    """Open a state directory and bring its database to this release's schema.

    Raises:
        InputError: ``not_enrolled``, ``state_permissions``, ``state_newer``, ``key_file_permissions``.
    """
    folder = StateFolder(root)
    if not create and not folder.exists():
        raise InputError("not_enrolled", f"{root} is not the state directory of a site; `mitral-site enrol` makes one")
    folder.prepare()
    kek: Secret = folder.kek(settings.kek_file)
    database = Database(folder.database, kek)
    migrate(database)
    return State(folder, database, settings)


def connect(state: State, clock: Clock) -> CoordinatorClient:
    """Return a client that shows this site's certificate.

    Raises:
        InputError: ``not_enrolled``, ``certificate_key_mismatch``, ``extra_ca_unreadable``.
    """
    with state.database.reading("read enrolment") as tx:
        stored: StoredEnrolment | None = read_enrolment(tx)
    if stored is None or stored.chain is None:
        raise InputError("not_enrolled", "this state directory holds no approved enrolment")
    context, certificate = _with_certificate(state, stored, stored.chain)
    proxy, timeout = state.settings.proxy, state.settings.timeout_seconds
    return CoordinatorClient.dialling(stored.url, context, clock, certificate, proxy=proxy, timeout_seconds=timeout)


def connect_anonymously(state: State, clock: Clock, meter: Meter | None = None) -> CoordinatorClient:
    """Return a client that shows no certificate: for whoever has no valid one, and signs instead.

    Raises:
        InputError: ``not_enrolled``, ``extra_ca_unreadable``.
    """
    with state.database.reading("read enrolment") as tx:
        stored = read_enrolment(tx)
    if stored is None:
        raise InputError("not_enrolled", "this state directory holds no enrolment")
    context = server_context(stored.root, state.settings.extra_ca_file)
    proxy, timeout = state.settings.proxy, state.settings.timeout_seconds
    return CoordinatorClient.dialling(stored.url, context, clock, proxy=proxy, timeout_seconds=timeout, meter=meter)


def _reconnect(state: State, client: CoordinatorClient) -> None:
    with state.database.reading("read enrolment") as tx:
        stored = read_enrolment(tx)
    if stored is not None and stored.chain is not None:
        context, certificate = _with_certificate(state, stored, stored.chain)
        client.reconnect(counted_transport(context, state.settings.proxy, client.meter), certificate)


def _with_certificate(state: State, stored: StoredEnrolment, chain: bytes) -> tuple[ssl.SSLContext, ClientCertificate]:
    context = server_context(stored.root, state.settings.extra_ca_file)
    certificate = load_client_certificate(
        context, state.folder.tls_file, chain=chain, key=stored.tls_key, password=stored.tls_password
    )
    return context, certificate


class Agent:
    """One running agent: asking, acting, delivering and recording, each in a thread of its own; training beside them.

    It opens no listening socket. `run` returns when `stop` was called or when it cannot go on.
    """

    def __init__(
        self,
        state: State,
        *,
        client: CoordinatorClient | None = None,
        children: TrainingChildren | None = None,
        log: Log | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Put the parts together, real ones where none are given; nothing runs and nobody is dialled yet.

        Raises:
            InputError: ``not_enrolled``, ``syslog_files_unreadable`` and what `connect` raises.
            Unavailable: ``suite_unavailable``.
        """
        check_suite_available()
        clock = clock or SystemClock()
        settings = state.settings
        with state.database.reading("read identity") as tx:
            identity: SiteIdentity = read_identity(tx)
            keeper = read_keeper(tx)
        self.log = (log or make_log(settings.log_level)).bind(site=identity.site)
        self.failure: MitralError | None = None
        self._state = state
        self._stopping = threading.Event()
        self._children = children or Children(state.folder, settings.threads or os.cpu_count() or 1, self.log)
        self._desk = TrainingDesk(self._children, self.log)
        self.session = Session(
            database=state.database,
            identity=identity,
            client=client or connect(state, clock),
            folder=state.folder,
            trainer=self._children,
            desk=self._desk,
            clock=clock,
            random=os.urandom,
            log=self.log,
            queued=self._queued,
        )
        self._settled = threading.Event()
        self._renewer = Renewer(
            self.session,
            lambda: connect_anonymously(state, clock, self.session.client.meter),
            lambda: _reconnect(state, self.session.client),
        )
        self._deliver = DeliverLoop(self.session, self._stopping, self._fail, self._settled)
        self._act = ActLoop(self.session, self._stopping)
        self._forward: ForwardLoop | None = None
        meters = [self.session.client.meter]
        if settings.syslog is not None:
            trusted = syslog_context(settings.syslog_ca_file, settings.syslog_certificate_file)
            connection = SyslogConnection(settings.syslog, trusted)
            meters.append(connection.meter)
            self._forward = ForwardLoop(state.database, identity.site, connection, self.log, self.session.notice)
        self._record = RecordLoop(state.database, keeper, meters, clock, self.log, wrote=self._wrote)

    def run(self) -> None:
        """Run until `stop`.

        Raises:
            Unavailable: ``state_in_use`` when another agent runs on this state directory.
            MitralError: why the agent cannot go on: ``instance_conflict``, ``site_revoked``, ``seq_reused``.
        """
        with FolderLock(self._state.folder.lock):
            erase_leftovers(self.session)
            instance = Instance(self._state.database, self.session.clock.now())
            ask = AskLoop(
                self.session, instance, self._act.offer, self._stopping, self._fail,
                wait_seconds=self._state.settings.poll_seconds, recovered=self._deliver.wake,
                check=StateCheck(self.session, instance.id), settled=self._settled,
                renewer=self._renewer,
            )  # fmt: skip
            self._record.begin(instance.id)
            loops = {
                "ask": ask.run,
                "act": self._act.run,
                "deliver": self._deliver.run,
                "record": lambda: self._record.run(self._stopping),
            }
            forward = self._forward
            if forward is not None:
                loops["forward"] = lambda: forward.run(self._stopping)
            threads = [
                threading.Thread(target=self._guarded, args=(name, loop), name=name, daemon=True)
                for name, loop in loops.items()
            ]
            self.log.info("agent started", instance=instance.id, federation=self.session.identity.federation)
            for thread in threads:
                thread.start()
            self._stopping.wait()
            self._wind_down(threads)
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Ask the agent to stop; safe from a signal handler and from any thread."""
        self._stopping.set()

    def _wind_down(self, threads: list[threading.Thread]) -> None:
        """Kill the children, let commits under way finish; whatever else is under way is done again after a start."""
        self._desk.close()
        self._children.stop_all()
        self._act.wake()
        self._deliver.wake()
        self._wrote()
        for thread in threads:
            if thread.name != "ask":  # it hangs in a long poll and has nothing to lose
                thread.join(STOP_SECONDS)
        self._desk.join(STOP_SECONDS / 2)
        self._record.finish()
        if self._forward is not None:
            self._forward.finish()
        self.log.info("agent stopped", code=None if self.failure is None else self.failure.code)

    def _wrote(self) -> None:
        if self._forward is not None:
            self._forward.wake()

    def _queued(self) -> None:
        self._deliver.wake()

    def _guarded(self, name: str, loop: Callable[[], None]) -> None:
        """Run a loop; an agent that lost one must not look alive."""
        try:
            loop()
        except MitralError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (a bug: the service manager starts the agent again)
            self.log.critical("unexpected failure", loop=name, error=error)
            self._fail(Misuse("loop_ended", f"the loop {name} ended"))

    def _fail(self, error: MitralError) -> None:
        """Stop for good, and keep the reason for `status` and the exit code."""
        self.failure = error
        self._stopping.set()
        self.session.notice(error.code, "agent", error.detail)
        self.log.error("agent cannot go on", code=error.code, detail=error.detail, remedy=error.meaning.remedy)
