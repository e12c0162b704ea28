"""Site agents without processes: real database, keys, phases and client; a trainer that returns what a test wants.

`Hospitals` is a federation of some of them around a `FakeCoordinator`, ready for rounds. A `Hospital` answers when it
is told to, so a test decides the order of everything, and can be killed at any commit and any request.
"""

import copy
import io
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from shared.canonical import JsonObject, sha256_hex
from shared.clock import FixedClock
from shared.crypto.fingerprint import site_fingerprint
from shared.crypto.identity import SigningKey
from shared.crypto.sealing import KemPrivateKey
from shared.crypto.secret import Secret
from shared.errors import MitralError
from shared.model_state import to_bytes
from shared.protocol.round_context import Context
from shared.protocol.study import Plan
from shared.protocol.work import Command, PollAnswer
from shared.secagg.roster import attest_kem, roster_hash, site_entry
from site_agent import approvals, rosters
from site_agent.coordinator_client import CoordinatorClient
from site_agent.identity import read_identity
from site_agent.logs import make_log
from site_agent.outbox import Delivery
from site_agent.rounds import dispatch
from site_agent.rounds.close import erase_leftovers
from site_agent.rounds.session import Session
from site_agent.state_folder import StateFolder
from site_agent.storage import datasets, enrolment
from site_agent.storage.database import Database
from site_agent.storage.schema import migrate
from site_agent.training.result_file import TrainingResult, read_result, write_result
from tests.support.fake_coordinator import START, FakeCoordinator
from tests.support.plans import plan_with

STUDY = "study-1"
DIMENSION = 40
BINS = 4


class Killed(BaseException):
    """The process is gone at this point; nothing below catches it."""


class FakeTrainer:
    """Returns one-hot updates (site i moves element i by 1/2) and small histograms; a test may replace `result`."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.runs: list[JsonObject] = []
        self.result: Callable[[JsonObject], TrainingResult] | MitralError | None = None
        self.stopped: list[str] = []

    def run(self, _study: str, job: JsonObject, _timeout_seconds: float) -> TrainingResult:
        self.runs.append(job)
        if isinstance(self.result, MitralError):
            raise self.result
        made = self.honest(job) if self.result is None else self.result(job)
        if made.update is None or np.isfinite(made.update).all():
            write_result(Path(job["result"]), made.update, made.values)
        return made

    def honest(self, job: JsonObject) -> TrainingResult:
        values: dict[str, list[int]] = {}
        if job["job"] == "statistics":
            return TrainingResult(None, _statistics(self.index))
        for part in job["score"]:
            name = "score_histogram" if part == "validation" else "test_histogram"
            values |= {name: [self.index + 10] * 2 * BINS, "loss": [2**16 * 80], "correct": [50], "cases": [80]}
        if job["job"] == "evaluate":
            return TrainingResult(None, values)
        update = np.zeros(DIMENSION, np.float32)
        # Values that quantisation keeps exactly, whatever the rounding draws: the sum says who was counted.
        update[self.index] = 1.0
        return TrainingResult(update, {"weight": [100], **values})

    def read_result(self, job: JsonObject) -> TrainingResult:
        return read_result(Path(job["result"]))

    def warm(self, study: str) -> None:
        self.stopped = [one for one in self.stopped if one != study]

    def stop(self, study: str) -> None:
        self.stopped.append(study)

    def stop_all(self) -> None:
        self.stopped.append("all")


class InlineDesk:
    """Does long work at once, or keeps it until `finish` when `held`."""

    def __init__(self) -> None:
        self.held = False
        self.waiting: dict[str, tuple[str, Callable[[], None]]] = {}

    def start(self, study: str, ctx_hash: str, work: Callable[[], None]) -> None:
        if self.held:
            self.waiting[study] = (ctx_hash, work)
        else:
            work()

    def warm(self, study: str) -> None:
        self.waiting.pop(f"warm {study}", None)

    def give_up(self, study: str, ctx_hash: str) -> None:
        if self.waiting.get(study, ("", None))[0] == ctx_hash:
            del self.waiting[study]

    def finish(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for _, work in waiting.values():
            work()


class Hospital:
    """One site agent that answers when it is told to."""

    def __init__(self, site: str, index: int, folder: Path, coordinator: FakeCoordinator) -> None:
        self.site, self.index, self.coordinator = site, index, coordinator
        self.folder = StateFolder(folder)
        self.clock = FixedClock(START)
        self.trainer = FakeTrainer(index)
        self.desk = InlineDesk()
        self.logged = io.StringIO()
        self.points: list[str] = []
        self.kill_at: int | None = None
        self.held_keys: dict[str, Any] = {}

    def found(self) -> None:
        """Make keys and an approved enrolment, as `enrol` would leave them."""
        self.folder.prepare()
        idk, log_key, kem = SigningKey.generate(), SigningKey.generate(), KemPrivateKey.generate()
        public = kem.public_key
        shutil.copyfile(_empty_database(self.folder.root.parent), self.folder.database)
        database = Database(self.folder.database, self.folder.kek(None))
        with database.transaction("found") as tx:
            enrolment.add_enrolment(
                tx, site=self.site, name=f"Hospital {self.site}", federation=self.coordinator.federation,
                url="https://coordinator.example", pin="0" * 64, root=b"", request=b"token",
                fingerprint=site_fingerprint(idk.verify_key.bytes, log_key.verify_key.bytes),
                idk=idk.verify_key.bytes, idk_seed=idk.seed, log_key=log_key.verify_key.bytes, log_seed=log_key.seed,
                kem_mlkem768=public.mlkem768, kem_x25519=public.x25519, kem_seeds=kem.seeds, kem_seq=1,
                tls_key=b"", tls_password=Secret(b"password"),
            )  # fmt: skip
            enrolment.set_approved(tx, b"", self.coordinator.idk.verify_key.bytes, self.coordinator.vkey.encode())
            datasets.add_dataset(tx, "cases", "1" * 64, MANIFEST, "2026-11-21T09:00:00.000Z")
        database.close()
        self.coordinator.keys[self.site] = idk.verify_key
        self.entry = site_entry(
            self.site, name=f"Hospital {self.site}", legal="", idk=idk.verify_key, log_key=log_key.verify_key,
            kem=public, kem_seq=1, attest=attest_kem(idk, public, 1),
        )  # fmt: skip

    def start(self) -> None:
        """Start the agent, after a kill too: only what is in the state directory is known."""
        self.desk = InlineDesk()
        self.database = Database(self.folder.database, self.folder.kek(None), self._point)
        with self.database.reading("identity") as tx:
            identity = read_identity(tx)
        client = CoordinatorClient(
            self.coordinator.transport(self.site, self._before, self._after), "https://coordinator.example", self.clock
        )
        self.session = Session(
            database=self.database, identity=identity, client=client, folder=self.folder, trainer=self.trainer,
            desk=self.desk, clock=self.clock, random=_random, log=make_log("debug", stream=self.logged),
        )  # fmt: skip
        erase_leftovers(self.session)
        self.delivery = Delivery(self.session)

    def restart(self) -> None:
        """Kill and start again."""
        self.kill_at = None
        self.database.close()
        self.session.client.close()
        self.start()

    def close(self) -> None:
        """Let go of files."""
        self.database.close()
        self.session.client.close()

    def seq(self) -> int:
        """Return how many messages this site has signed."""
        return int(self.query("SELECT COALESCE(MAX(seq), 0) AS seq FROM signed_message")[0].seq)

    def poll(self) -> list[Command]:
        """Ask for work, over the wire."""
        answer, _ = self.session.client.poll(0, "", "instance", "instance")
        assert isinstance(answer, PollAnswer)
        return answer.commands

    def step(self, *kinds: str, deliver: bool = True) -> dispatch.Unfinished | None:
        """Ask, answer (only commands of `kinds`, if given) and deliver everything."""
        work = [command for command in self.poll() if not kinds or command.kind in kinds]
        unfinished = dispatch.answer(self.session, work, self.clock.now())
        if deliver:
            self.deliver()
        return unfinished

    def give(self, value: JsonObject) -> None:
        """Answer one command that a test made up; its refusal or fault is raised."""
        command = TypeAdapter(Command).validate_python(value)
        dispatch.answer_one(self.session, command, self.clock.now())

    def deliver(self) -> None:
        """Deliver everything in the outbox."""
        while self.delivery.deliver_next():
            pass

    def query(self, sql: str, **values: object) -> list[Any]:
        with self.database.reading("look") as tx:
            return tx.rows(sql, **values)

    def state(self, ctx: Context) -> str | None:
        rows = self.query("SELECT state FROM round WHERE ctx_hash = :c", c=ctx.ctx_hash)
        return None if not rows else str(rows[0].state)

    def notices(self) -> list[str]:
        return [row.code for row in self.query("SELECT code FROM notice ORDER BY code")]

    def refusal(self, ctx: Context) -> str | None:
        rows = self.query("SELECT code FROM refusal WHERE ctx_hash = :c", c=ctx.ctx_hash)
        return None if not rows else str(rows[0].code)

    def _before(self, request: str) -> None:
        self._point(f"before {request}")

    def _after(self, request: str) -> None:
        self._point(f"after {request}")

    def _point(self, name: str) -> None:
        if " GET " in name:
            return  # reading changes nothing on either side: a kill here is a kill at the commit before
        self.points.append(name)
        if self.kill_at is not None and len(self.points) - 1 == self.kill_at:
            raise Killed(name)


class Hospitals:
    """A federation of hospitals around a fake coordinator: roster active, study approved, bundles exchanged."""

    def __init__(self, folder: Path, count: int = 4, **plan_changes: Any) -> None:
        self.coordinator = FakeCoordinator()
        self.sites = [f"site-{chr(ord('a') + index)}" for index in range(count)]
        self.all = {site: Hospital(site, i, folder / site, self.coordinator) for i, site in enumerate(self.sites)}
        self.model = to_bytes({"weights": np.zeros(DIMENSION, np.float32)})
        self.plan = demo_plan(self.sites, sha256_hex(self.model), **plan_changes)
        self.folder = folder

    def __getitem__(self, site: str) -> Hospital:
        return self.all[site]

    def each(self) -> list[Hospital]:
        return list(self.all.values())

    def found(self, c: int | None = None) -> "Hospitals":
        """Do the whole set-up, by the real paths from the roster on."""
        for hospital in self.each():
            hospital.found()
            hospital.start()
        roster = self.coordinator.propose_roster([hospital.entry for hospital in self.each()], c)
        fingerprint = rosters.roster_fingerprint(roster_hash(roster))
        for hospital in self.each():
            hospital.step()
            with hospital.database.transaction("approve roster") as tx:
                rosters.approve(tx, hospital.session.identity, fingerprint, hospital.clock.now())
            hospital.step()
        self.coordinator.submit(self.plan, self.model)
        for hospital in self.each():
            hospital.step()
            with hospital.database.transaction("approve study") as tx:
                approvals.approve(tx, hospital.session.identity, STUDY, "cases", None, hospital.clock.now())
            hospital.deliver()
        for _ in range(2):
            for hospital in self.each():
                hospital.step()
        return self

    def step(self, *kinds: str, sites: list[str] | None = None) -> None:
        """Let every site, or some, ask, answer and deliver."""
        for site in sites or self.sites:
            self.all[site].step(*kinds)

    def run_round(self, ctx: Context, *, train: list[str] | None = None, finish: list[str] | None = None) -> Any:
        """Take a context to its outcome; `train` upload, `finish` (default all) close and unmask."""
        self.step(sites=train)
        self.coordinator.close(ctx)
        self.step(sites=finish)
        self.coordinator.certify(ctx)
        self.step(sites=finish)
        return self.coordinator.publish(ctx)

    def copy(self, folder: Path) -> "Hospitals":
        """Return the same federation on copied state directories: what tests of many variants start from."""
        for hospital in self.each():
            hospital.database.close()
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        other = Hospitals.__new__(Hospitals)
        other.coordinator = copy.deepcopy(self.coordinator)
        other.sites, other.model, other.plan, other.folder = self.sites, self.model, self.plan, folder
        other.all = {site: Hospital(site, i, folder / site, other.coordinator) for i, site in enumerate(self.sites)}
        for hospital in other.each():
            hospital.clock = FixedClock(self.all[hospital.site].clock.now())
            hospital.start()
        return other

    def close(self) -> None:
        for hospital in self.each():
            hospital.close()


def demo_plan(sites: list[str], model: str, **changes: Any) -> Plan:
    """Return a plan for one-hot updates: nothing that rounding could blur."""
    value: dict[str, Any] = {
        "study": STUDY,
        "federation": "alpha",
        "sites": sites,
        "preprocessing": {"normalise": "none"},
        "initial_model": model,
        "dimension": DIMENSION,
        "metrics": {"bins": BINS},
        "secure_aggregation": {"w_cap": 100},
        "not_after": "2031-01-01T00:00:00Z",  # after the roster's last day
    }
    return plan_with(**{**value, **changes})


def one_hot_sum(hospitals: Hospitals, ctx: Context, survivors: list[str]) -> bool:
    """Return whether the published sum of a round is that of exactly these sites' one-hot updates."""
    published = next(one for one in hospitals.coordinator.studies[ctx.study].outcomes if one.ctx == ctx)
    words = np.frombuffer(hospitals.coordinator.blobs[published.outcome.aggregate_sha256], "<i4", ctx.d)
    quantum = 2 ** (ctx.q - 1) - 1
    expected = np.zeros(ctx.d, np.int64)
    for site in survivors:
        expected[hospitals[site].index] = quantum
    # Stochastic rounding of exactly Q may fall one short of it, never above.
    return bool((np.abs(words - expected) <= 1).all()) and survivors == published.outcome.U


def _statistics(index: int) -> dict[str, list[int]]:
    from shared.statistics import site_sums

    values = np.array([[1.0 + index, 2.0], [3.0, 4.0 + index], [5.0, 6.0]])
    return site_sums(values, np.array([0, 1, 1]), 2)


def _random(count: int) -> bytes:
    import os

    return os.urandom(count)


@cache
def _empty_database(folder: Path) -> Path:
    """Return a migrated, empty database file; migrating takes longer than a whole round."""
    path = folder / "empty.db"
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(path, Secret(b"0" * 32))
    migrate(database)
    database.close()
    return path


MANIFEST: JsonObject = {"name": "cases", "kind": "csv_table", "path": "cases.csv"}
