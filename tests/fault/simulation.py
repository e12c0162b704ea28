"""A whole federation in one thread: the real coordinator, real site agents, and a network and a clock that can fail.

Nothing runs by itself. A history is a list of operations; the invariants hold after each of them. What counts as a
failure stands in `invariants.py`. These are *not* failures: a site that is left out of a round because a fault struck
it, a round that is ABANDONED or LOST, a refusal with a reason, a study that pauses until its researcher starts it
again.
"""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from coordinator.rounds.sweep import sweep_files
from coordinator.storage import rounds, studies
from coordinator.storage.database import Transaction
from shared.canonical import sha256_hex
from shared.clock import FixedClock
from shared.model_state import to_bytes
from tests.fault import invariants
from tests.fault.faults import COORDINATOR_KILLED, Armed, CoordinatorKilled, Fault, SiteKilled
from tests.fault.network import Network
from tests.fault.simulated_site import BINS, DIMENSION, WEIGHT, SimulatedSite
from tests.support.coordinator_scene import FEDERATION, Scene, new_scene
from tests.support.plans import plan_with

STUDY = "study-1"
HOP_SECONDS = 50.0  # sites that poll so often count as online
# A killed process loses nothing that it wrote into memory; only a machine that dies would.
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: `verb` on site `site`, with a number that means what the verb says, under a fault."""

    verb: str
    site: int = 0
    number: int = 0
    fault: Fault | None = None


class Simulation:
    """The federation. Operations are its methods; `apply` takes one with a fault and checks every invariant."""

    def __init__(self, folder: Path, scene: Scene, names: list[str], updates: int) -> None:
        self.folder, self.scene, self.updates = folder, scene, updates
        self.armed = self.saboteur = Armed(None)
        self.is_down = False
        self.deaths = 0
        self.network = Network(self)
        self.sites = {name: SimulatedSite(self, name, i, folder / name) for i, name in enumerate(names)}
        self.points: list[str] = []
        self.memory = invariants.Memory()
        self._watch_coordinator()

    # --- operations --------------------------------------------------------------------------------------------------

    def apply(self, op: Op) -> None:
        """Do one operation under its fault, let killed processes come back, and check the invariants."""
        self.armed = self.saboteur if op.fault is None else Armed(op.fault)
        site = list(self.sites.values())[op.site % len(self.sites)]
        try:
            self._do(op, site)
        except SiteKilled as killed:
            self.deaths += 1
            self.sites[killed.args[0]].restart()
        except CoordinatorKilled:
            self.is_down = True
        self.armed = Armed(None)
        if self.is_down:
            self.deaths += 1
            self.kill_coordinator()
        invariants.check(self)

    def run(self, *history: Op) -> None:
        """Apply operations one after the other."""
        for op in history:
            self.apply(op)

    def _do(self, op: Op, site: SimulatedSite) -> None:
        if op.verb in _SITE_VERBS:
            if not site.is_away and site.failure is None:
                _SITE_VERBS[op.verb](site, op.number)
        elif op.verb in {"leave", "return"}:
            site.is_away = op.verb == "leave"
        elif op.verb == "kill":
            self.deaths += 1
            site.restart()
        else:
            _VERBS[op.verb](self, op.number)

    def everybody(self) -> None:
        """Let every site that is there do what it has to do, and the coordinator after it; then a head is signed."""
        for site in self.sites.values():
            if not site.is_away and site.failure is None:
                site.work()
            self.scene.coordinator.driver.drain()
        self.scene.coordinator.tend_log()

    def advance(self, seconds: float) -> None:
        """Move the clock; deadlines that came nudge the coordinator, which acts at its next sweep."""
        self.scene.clock.at += timedelta(seconds=seconds)
        for study, moment in list(self.scene.woken.items()):
            if moment <= self.now():
                del self.scene.woken[study]
                self.scene.coordinator.driver.nudge(study)

    def end_round(self, position: int = 0) -> tuple[str, str]:
        """Let everybody work until a context has ended; return its state and who was counted."""
        for _ in range(30):
            found = self.rounds()
            if len(found) > position and found[position].state in invariants.ENDED:
                return found[position].state, letters(found[position].survivors)
            before = self._picture()
            self.apply(Op("everybody"))
            if self._picture() == before:
                self._await_deadline()
        raise AssertionError(f"context {position} does not end\n{self.story()}")

    def kill_coordinator(self) -> None:
        """Replace the coordinator by a new one on the same database and folder."""
        self.scene.coordinator.database.engine.dispose()
        self.scene.woken.clear()
        self.scene.boot()
        self.is_down = False
        self._watch_coordinator()
        sweep_files(self.scene.coordinator.desk)
        self.scene.coordinator.driver.nudge_running()

    def finish(self) -> None:
        """Stop all faults and go on until the study has finished: liveness.

        The one other end: sites that sealed three updates of a model version seal no fourth one (R5), so a study whose
        rounds failed that often is stopped by its researcher.

        Raises:
            AssertionError: it does not.
        """
        for site in self.sites.values():
            site.is_away = False
            if site.failure is not None:
                site.restart()  # as the service manager does
        for _ in range(60):
            self._settle()
            state = self.study().state
            if state == "finished":
                break
            if state == "paused" and "model_overused" in str(self.rounds()[-1].reason):
                self.scene.operator("POST", f"/v1/studies/{STUDY}/stop")
                break
            if state == "paused":
                assert self.memory.resumed < 5, self.story()
                self.memory.resumed += 1
                self.scene.operator("POST", f"/v1/studies/{STUDY}/start")
                continue
            self._await_deadline()
        assert self.study().state in {"finished", "stopped"}, self.story()
        self._settle()
        invariants.check(self)
        invariants.check_finished(self)

    def _await_deadline(self) -> None:
        assert self.scene.woken, f"nothing is due and nothing moves\n{self.story()}"
        due = (min(self.scene.woken.values()) - self.now()).total_seconds()
        self.advance(min(max(due, 0.001), HOP_SECONDS))

    def _settle(self) -> None:
        """Let everybody work until nothing changes any more."""
        for _ in range(40):
            before = self._picture()
            self.apply(Op("everybody"))
            if self._picture() == before:
                return
        raise AssertionError(f"it never comes to rest\n{self.story()}")

    # --- looking -----------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the time."""
        return self.scene.clock.now()

    def study(self) -> studies.Study:
        """Return the study as the coordinator has it."""
        with self.reading() as tx:
            found = studies.read_study(tx, STUDY)
        assert found is not None
        return found

    def rounds(self) -> list[rounds.Round]:
        """Return all contexts."""
        with self.reading() as tx:
            return rounds.read_rounds(tx, STUDY)

    def survivors(self) -> list[tuple[str, int, str, str]]:
        """Return kind, number, state and who was counted, of every context."""
        return [(one.kind, one.number, one.state, letters(one.survivors)) for one in self.rounds()]

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Look into the coordinator's database."""
        with self.scene.coordinator.database.reading("look") as tx:
            yield tx

    def story(self) -> str:
        """Return what there is to know when something went wrong."""
        lines = [f"{self.study().state}: {self.study().reason}"]
        lines += [f"{one.kind} {one.number} {one.state} U={one.survivors} {one.reason}" for one in self.rounds()]
        for site in self.sites.values():
            states = [f"{row.kind} {row.round} {row.state}" for row in site.query("SELECT * FROM round")]
            outbox = [
                f"{row.seq} {row.kind} {row.state} {row.code or ''}"
                for row in site.query("SELECT * FROM outbox WHERE state <> 'delivered'")
            ]
            notices = [f"{row.code}: {row.detail}" for row in site.query("SELECT code, detail FROM notice")]
            lines.append(f"{site.name} {site.failure or ''} {states} {outbox} {notices}")
        return "\n".join(lines)

    def _picture(self) -> Any:
        with self.reading() as tx:
            head = tx.value("SELECT size FROM log_head WHERE id = 1")
        sites = [
            (
                site.query("SELECT COALESCE(MAX(seq), 0) FROM signed_message")[0][0],
                site.query("SELECT COUNT(*) FROM outbox WHERE state = 'pending'")[0][0],
                [tuple(row) for row in site.query("SELECT ctx_hash, state FROM round ORDER BY ctx_hash")],
                site.query("SELECT COUNT(*) FROM outcome")[0][0],
                site.query("SELECT COUNT(*) FROM peer_pairing")[0][0],
                site._is_unfinished,
            )
            for site in self.sites.values()
        ]
        contexts = [(one.id, one.state, one.upload_until) for one in self.rounds()]
        return self.deaths, self.network.faults, head, contexts, sites

    def _watch_coordinator(self) -> None:
        """Give the coordinator's database points around every commit, as the agent's has them."""
        database = self.scene.coordinator.database
        original = database.transaction

        @contextmanager
        def transaction(name: str) -> Iterator[Transaction]:
            with original(name) as tx:
                tx.after_commit.append(lambda: self._pass_point(f"after {name}"))
                yield tx
                self._pass_point(f"before {name}")

        database.transaction = transaction  # type: ignore[method-assign]

    def _pass_point(self, name: str) -> None:
        self.points.append(name)
        if self.armed.strikes(COORDINATOR_KILLED, name, "coordinator"):
            raise CoordinatorKilled(name)

    # --- set-up ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of files."""
        for site in self.sites.values():
            site.close()
        self.scene.close()

    def found(self) -> "Simulation":
        """Enrol the sites, activate the roster, submit, approve and start the study, by the real paths."""
        scene = self.scene
        for site in self.sites.values():
            site.enrol()
            site.start()
        scene.operator("POST", "/v1/rosters", {}, role="administrator")
        self.everybody()
        for site in self.sites.values():
            site.approve_roster()
        for _ in range(2):
            self.everybody()
        model = to_bytes({"w": np.zeros(DIMENSION, np.float32)})
        scene.operator("PUT", f"/v1/blobs/{sha256_hex(model)}", model)
        plan = plan_with(
            study=STUDY, federation=FEDERATION, sites=list(self.sites), preprocessing={"normalise": "none"},
            initial_model=sha256_hex(model), dimension=DIMENSION, metrics={"bins": BINS},
            training={"rounds": self.updates}, secure_aggregation={"w_cap": WEIGHT},
            deadlines={"upload_seconds": 60, "grace_seconds": 5, "expire_seconds": 200},
        )  # fmt: skip
        scene.operator("POST", "/v1/studies", plan.as_json())
        self.everybody()
        for site in self.sites.values():
            site.approve_study(STUDY)
        self.everybody()
        scene.operator("POST", f"/v1/studies/{STUDY}/start")
        return self

    def copy_to(self, folder: Path) -> "Simulation":
        """Return a simulation that goes on from here in its own directory; this one must be closed."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        scene = Scene(folder / "coordinator" / "state", self.scene.settings, FixedClock(self.now()))
        scene.tokens = dict(self.scene.tokens)
        scene.boot()
        scene.coordinator.log.hold = None  # a copy goes on in the middle; only a start waits for its witnesses
        scene.coordinator.witnesses._heard = set(self.sites)
        made = Simulation(folder, scene, list(self.sites), self.updates)
        made.scene.coordinator.driver.nudge_running()
        for site in made.sites.values():
            site.start()
        return made


_SITE_VERBS: dict[str, Callable[[SimulatedSite, int], object]] = {
    "poll": lambda site, _: site.poll(),
    "train": lambda site, _: site.train(),
    "deliver": lambda site, _: site.deliver(),
    "work": lambda site, _: site.work(),
    "answer old": lambda site, number: site.answer_old(number),
}
_VERBS: dict[str, Callable[[Simulation, int], object]] = {
    "sweep": lambda made, _: made.scene.coordinator.driver.drain(),
    "everybody": lambda made, _: made.everybody(),
    "advance": lambda made, number: made.advance(number),
    "redeliver": lambda made, number: made.network.redeliver(number),
    "kill coordinator": lambda made, _: made.kill_coordinator(),
}


@functools.cache
def _prepared(count: int, updates: int, *, paired: bool) -> Simulation:
    """Return a closed federation that others are copied from: making keys and certificates takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="mitral-simulation-", dir=_MEMORY))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if paired:
        made = _prepared(count, updates, paired=False).copy_to(folder)
        while not made.rounds():
            made.everybody()
    else:
        names = [f"site-{chr(ord('a') + index)}" for index in range(count)]
        made = Simulation(folder, new_scene(folder / "coordinator", threads=1), names, updates).found()
    made.close()
    return made


@contextmanager
def simulation(count: int = 4, *, updates: int = 1, paired: bool = True) -> Iterator[Simulation]:
    """Give a federation whose study of some `updates` was just started; `paired`: the first round is open already."""
    folder = Path(tempfile.mkdtemp(prefix="mitral-history-", dir=_MEMORY))
    made: Simulation | None = None
    with _one_thread():
        try:
            made = _prepared(count, updates, paired=paired).copy_to(folder)
            yield made
        finally:
            if made is not None:
                made.close()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let handlers run where they are called: nothing runs beside anything else, and a history costs half the time."""

    async def inline(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    with ExitStack() as stack:
        for module in ("routes", "work", "rounds", "blobs"):
            stack.enter_context(mock.patch(f"coordinator.api.{module}.run_in_threadpool", inline))
        yield


def letters(sites: list[str]) -> str:
    """Return site-a, site-c as "ac"."""
    return "".join(site.removeprefix("site-") for site in sites)
