"""A real site agent without its threads: its loops' steps are taken when the simulation says so.

Database, keys, phases, policy, client, outbox and lease are the product's own. Training returns one-hot *i* for site
*i*, so that a published sum says who was counted, twice or never.
"""

import functools
import io
import os
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.canonical import JsonObject
from shared.crypto.x509 import der_list, read_site_certificate
from shared.errors import MitralError, Unavailable
from shared.protocol.enrolment import Invitation
from shared.protocol.work import Command
from site_agent import approvals, rosters
from site_agent.asking import AskLoop
from site_agent.coordinator_client import CoordinatorClient
from site_agent.enrolment import ask_for_certificate, prepare_request, send_request
from site_agent.identity import read_identity
from site_agent.lease import Instance
from site_agent.logs import make_log
from site_agent.outbox import FATAL, Delivery
from site_agent.renewal import Renewer
from site_agent.rounds import dispatch
from site_agent.rounds.close import erase_leftovers
from site_agent.rounds.session import Session
from site_agent.state_folder import StateFolder
from site_agent.state_reset import StateCheck
from site_agent.storage import datasets
from site_agent.storage.database import Database
from site_agent.storage.enrolment import read_enrolment
from site_agent.storage.schema import migrate
from site_agent.tls import ClientCertificate
from site_agent.training.result_file import TrainingResult, read_result, write_result
from tests.fault.faults import SITE_KILLED, SiteKilled
from tests.fault.network import SiteTransport

if TYPE_CHECKING:
    from tests.fault.simulation import Simulation

DIMENSION = 8
BINS = 2
WEIGHT = 10
_MANIFEST: JsonObject = {"name": "cases", "kind": "csv_table", "path": "cases.csv"}


def cases_of(index: int) -> int:
    """Return how many cases site `index` scores: their sum says which sites a histogram counts."""
    return 32 << 3 * index


class OneHotTrainer:
    """Moves element *i* by the clip, and scores all of site *i*'s cases the same way every time."""

    def __init__(self, index: int) -> None:
        self._index = index

    def run(self, _study: str, job: JsonObject, _timeout_seconds: float) -> TrainingResult:
        values: dict[str, list[int]] = {}
        for part in job["score"]:
            half = cases_of(self._index) // 2
            name = "score_histogram" if part == "validation" else "test_histogram"
            values |= {name: [0, half, half, 0], "loss": [half], "correct": [2 * half], "cases": [2 * half]}
        update = None
        if job["job"] == "train":
            update = np.zeros(DIMENSION, np.float32)
            update[self._index] = 1.0
            values["weight"] = [WEIGHT]
        write_result(Path(job["result"]), update, values)
        return TrainingResult(update, values)

    def read_result(self, job: JsonObject) -> TrainingResult:
        return read_result(Path(job["result"]))

    def warm(self, _study: str) -> None:
        return

    def stop(self, _study: str) -> None:
        return


class PatientDesk:
    """Keeps long work until `finish`; like the real desk, one context per study, and what cannot be done stays."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[str, Callable[[], None]]] = {}

    def start(self, study: str, ctx_hash: str, work: Callable[[], None]) -> None:
        if self.waiting.get(study, ("", None))[0] != ctx_hash:
            self.waiting[study] = (ctx_hash, work)

    def warm(self, _study: str) -> None:
        return

    def give_up(self, study: str, ctx_hash: str) -> None:
        if self.waiting.get(study, ("", None))[0] == ctx_hash:
            del self.waiting[study]

    def finish(self) -> None:
        for study, (ctx_hash, work) in list(self.waiting.items()):
            try:
                work()
            except Unavailable:
                continue
            if self.waiting.get(study, ("", None))[0] == ctx_hash:
                del self.waiting[study]


class NoWaiting(threading.Event):
    """A stop flag on which nobody ever waits."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


class SimulatedSite:
    """One hospital."""

    def __init__(self, simulation: "Simulation", name: str, index: int, folder: Path) -> None:
        self.simulation, self.name, self.index = simulation, name, index
        self.folder = StateFolder(folder)
        self.certificate: bytes | None = None
        self.is_away = False
        self.failure: MitralError | None = None  # why the agent stopped for good
        self.points: list[str] = []
        self.binds: list[tuple[int, str, str, int]] = []  # (messages signed before, study, kind, round)
        self.polled: list[list[Command]] = []

    # --- set-up ------------------------------------------------------------------------------------------------------

    def enrol(self) -> None:
        """Join the federation, as `mitral-site enrol` and an administrator would."""
        scene, clock = self.simulation.scene, self.simulation.scene.clock
        self.folder.prepare()
        database = Database(self.folder.database, self.folder.kek(None))
        migrate(database)
        client = self._client()
        invitation = Invitation.check(
            scene.operator("POST", "/v1/sites/invitations", {"site": self.name}, role="administrator")
        )
        prepared = prepare_request(database, invitation, f"Hospital {self.name}", os.urandom)
        send_request(database, client)
        body: JsonObject = {"fingerprint": prepared.fingerprint}
        scene.operator("POST", f"/v1/sites/{self.name}/approve", body, role="administrator")
        assert ask_for_certificate(database, client, clock.now())
        with database.transaction("add data set") as tx:
            datasets.add_dataset(tx, "cases", "1" * 64, _MANIFEST, "2026-11-21T09:00:00.000Z")
        client.close()
        database.close()

    def approve_roster(self) -> None:
        """Approve the newest roster in the administrator's name."""
        with self.database.transaction("approve roster") as tx:
            fingerprint = rosters.picture(tx).fingerprint
            rosters.approve(tx, self.session.identity, fingerprint, self.simulation.now())

    def approve_study(self, study: str) -> None:
        """Approve a study in the steward's name."""
        with self.database.transaction("approve study") as tx:
            approvals.approve(tx, self.session.identity, study, "cases", None, self.simulation.now())

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the agent; it knows nothing but its state directory."""
        self.failure = None
        self.database = Database(self.folder.database, self.folder.kek(None), self.pass_point)
        self._look = sqlite3.connect(self.folder.database, isolation_level=None)
        self._look.row_factory = _named
        self.desk = PatientDesk()
        with self.database.reading("identity") as tx:
            identity = read_identity(tx)
        clock = self.simulation.scene.clock
        self.session = Session(
            database=self.database, identity=identity, client=self._client(), folder=self.folder,
            trainer=OneHotTrainer(self.index), desk=self.desk, clock=clock, random=os.urandom, log=_LOG,
        )  # fmt: skip
        self.show_certificate()
        erase_leftovers(self.session)
        self._delivery = Delivery(self.session)
        self._settled = threading.Event()
        self._commands: list[Command] = []
        self._is_unfinished = False
        instance = Instance(self.database, clock.now())
        self._ask = AskLoop(
            self.session, instance, self._offer, NoWaiting(), self._fail, wait_seconds=0,
            check=StateCheck(self.session, instance.id), settled=self._settled,
            renewer=Renewer(self.session, self._client, self.show_certificate),
        )  # fmt: skip

    def show_certificate(self) -> None:
        """Connect with the certificate in the state directory from now on."""
        with self.database.reading("certificate") as tx:
            stored = read_enrolment(tx)
        assert stored is not None
        assert stored.chain is not None
        self.certificate = der_list(stored.chain)[0]
        facts = read_site_certificate(self.certificate)
        self.session.client.certificate = ClientCertificate(facts.not_before, facts.not_after)

    def restart(self) -> None:
        """Come back after a kill: nothing of the old process is asked to tidy up."""
        self.close()
        while True:
            try:
                return self.start()
            except SiteKilled:  # killed again while it started
                self.close()

    def close(self) -> None:
        """Let go of files and connections, as the end of a process does."""
        self._look.close()
        self.database.close()
        self.session.client.close()

    def poll(self) -> None:
        """Ask once, and answer what is new or was left unfinished."""
        try:
            self._ask.ask_once()
        except MitralError as error:
            self._ask._failed(error)
        if self._is_unfinished:
            self._is_unfinished = False
            self._is_unfinished = dispatch.answer(self.session, self._commands, self.simulation.now()) is not None

    def answer_old(self, back: int) -> None:
        """Answer an old set of commands once more, the `back`-th last one."""
        if self.polled:
            old = self.polled[-1 - back % len(self.polled)]
            dispatch.answer(self.session, old, self.simulation.now())

    def train(self) -> None:
        """Let the training under way come to its end."""
        self.desk.finish()

    def deliver(self) -> bool:
        """Take one step of the delivering loop; return whether there was something to deliver, and it worked."""
        try:
            return self._settled.is_set() and self._delivery.deliver_next()
        except MitralError as error:
            if error.code in FATAL:
                self._fail(error)
            return False

    def work(self) -> None:
        """Do everything there is to do: ask, answer, train, deliver."""
        self.poll()
        self.train()
        while self.failure is None and self.deliver():
            continue

    # --- looking -----------------------------------------------------------------------------------------------------

    def query(self, sql: str, **values: object) -> list[Any]:
        """Look into the site's database, past the agent: what is not committed is not seen."""
        return self._look.execute(sql, values).fetchall()

    def pass_point(self, name: str) -> None:
        """Note that the agent passes a named point, and die there if that is what the history says."""
        self.points.append(name)
        if name == "after bind":
            row = self.query('SELECT study, kind, "round" FROM round ORDER BY rowid DESC LIMIT 1')[0]
            signed = self.query("SELECT COALESCE(MAX(seq), 0) AS seq FROM signed_message")[0].seq
            self.binds.append((signed, row.study, row.kind, row.round))
        if self.simulation.armed.strikes(SITE_KILLED, name, self.name):
            raise SiteKilled(self.name, name)

    def _client(self) -> CoordinatorClient:
        transport = SiteTransport(self.simulation, self.name)
        return CoordinatorClient(transport, "https://coordinator.example", self.simulation.scene.clock)

    def _offer(self, commands: list[Command]) -> None:
        self.polled.append(commands)
        self._commands, self._is_unfinished = commands, True

    def _fail(self, error: MitralError) -> None:
        self.failure = error


@functools.lru_cache(maxsize=256)
def _row_type(columns: tuple[str, ...]) -> Any:
    return namedtuple("Row", columns, rename=True)  # noqa: PYI024 (the columns are known at run time only)


def _named(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Any:
    return _row_type(tuple(column[0] for column in cursor.description))._make(row)


_LOG = make_log("error", stream=io.StringIO())
