"""The whole agent in one process: three loops, a desk, real threads, a coordinator in memory."""

import io
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from shared.crypto.x509 import pem
from shared.errors import MitralError, Refusal, Unavailable
from shared.protocol.round_context import Context
from site_agent import journal
from site_agent.agent import Agent, State
from site_agent.config import Settings
from site_agent.coordinator_client import CoordinatorClient
from site_agent.logs import make_log
from site_agent.storage.database import Database
from tests.support.fake_coordinator import problem
from tests.support.hospitals import STUDY, FakeTrainer, Hospitals, one_hot_sum
from tests.support.log_server import LogServer
from tests.support.wire import TlsServer

SECONDS = 30.0


@dataclass
class Running:
    """An agent that runs in a thread."""

    agent: Agent
    thread: threading.Thread
    logged: io.StringIO
    raised: list[BaseException]
    state: State


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.02)


@contextmanager
def running(
    hospitals: Hospitals, site: str, trainer: FakeTrainer | None = None, **settings: object
) -> Iterator[Running]:
    """Run the agent of a site; it is stopped at the end."""
    hospital = hospitals[site]
    hospital.close()
    database = Database(hospital.folder.database, hospital.folder.kek(None))
    state = State(hospital.folder, database, Settings(poll_seconds=0, threads=1, **settings))  # type: ignore[arg-type]
    # The coordinator in memory knows no threads, so requests pass one at a time.
    lock = LOCKS.setdefault(id(hospitals), threading.Lock())
    transport = hospitals.coordinator.transport(site, lambda _name: _take(lock), lambda _name: lock.release())
    client = CoordinatorClient(transport, "https://coordinator.example", hospital.clock)
    logged = io.StringIO()
    agent = Agent(
        state,
        client=client,
        children=trainer or hospital.trainer,
        log=make_log("debug", stream=logged),
        clock=hospital.clock,
    )
    raised: list[BaseException] = []

    def run() -> None:
        try:
            agent.run()
        except MitralError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield Running(agent, thread, logged, raised, state)
    finally:
        agent.stop()
        thread.join(SECONDS)
        client.close()
        database.close()


LOCKS: dict[int, threading.Lock] = {}


def _take(lock: threading.Lock) -> None:
    lock.acquire()


def test_four_agents_take_two_rounds_from_open_to_attestation(hospitals: Hospitals) -> None:
    coordinator = hospitals.coordinator
    coordinator.instances.clear()
    with (
        running(hospitals, "site-a"),
        running(hospitals, "site-b"),
        running(hospitals, "site-c"),
        running(hospitals, "site-d"),
    ):
        for _ in range(2):
            ctx = coordinator.open_round(STUDY)
            round_ = coordinator.rounds[ctx.ctx_hash]
            wait_until(lambda r=round_: len(r.manifests) == 4, "four uploads")  # type: ignore[misc]
            coordinator.close(ctx)
            wait_until(lambda r=round_: len(r.decisions) == 4, "four decisions")  # type: ignore[misc]
            coordinator.certify(ctx)
            wait_until(lambda r=round_: len(r.responses) == 4, "four responses")  # type: ignore[misc]
            coordinator.publish(ctx)
            wait_until(lambda c=ctx: len(coordinator.attestations.get(c.ctx_hash, {})) == 4, "four attestations")  # type: ignore[misc]
            assert one_hot_sum(hospitals, ctx, hospitals.sites)
    assert coordinator.conflicts == []


def test_the_agent_keeps_its_own_log_and_copies_it_to_the_log_server(hospitals: Hospitals, tmp_path: Path) -> None:
    hospitals.coordinator.instances.clear()
    tls = TlsServer(tmp_path)
    tls.server_context.verify_mode = ssl.CERT_NONE
    (tmp_path / "ca.pem").write_bytes(pem(tls.authority.root.cert_der))
    server = LogServer(tls.server_context)
    try:
        with running(hospitals, "site-a", syslog=server.address, syslog_ca_file=tmp_path / "ca.pem") as one:
            ctx = hospitals.coordinator.open_round(STUDY)
            wait_until(lambda: "site-a" in hospitals.coordinator.rounds[ctx.ctx_hash].manifests, "an upload")
            server.wait(2)
            one.agent.stop()
            one.thread.join(SECONDS)
            with one.state.database.reading("look") as tx:
                entries = list(journal.read_checked(tx))
        events = [entry.event for entry in entries]
        assert events[-1] == "stopped"
        assert "started" in events
        traffic = {flow.traffic for entry in entries for flow in entry.flows}
        assert {"poll", "masked_update", "shares", "model"} <= traffic
        assert len(server.wait(len(entries))) == len(entries), "the stop was copied too"
    finally:
        server.close()
        tls.close_listener()


def test_an_agent_stops_within_five_seconds_while_it_trains(hospitals: Hospitals) -> None:
    coordinator = hospitals.coordinator
    coordinator.instances.clear()
    ctx: Context = coordinator.open_round(STUDY)
    trainer = Slow(0)
    with running(hospitals, "site-a", trainer) as one:
        wait_until(trainer.started.is_set, "training began")
        began = time.monotonic()
        one.agent.stop()
        one.thread.join(SECONDS)
        assert time.monotonic() - began < 5
        assert "all" in trainer.stopped, "the children were killed"
        assert one.raised == []
    with running(hospitals, "site-a"):
        wait_until(lambda: "site-a" in coordinator.rounds[ctx.ctx_hash].manifests, "it trains again after the start")


class Slow(FakeTrainer):
    """Trains until it is killed."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.started = threading.Event()
        self.killed = threading.Event()

    def run(self, _study: str, _job: object, _timeout_seconds: float) -> object:  # type: ignore[override]
        self.started.set()
        self.killed.wait(SECONDS)
        raise Unavailable("training_stopped", "killed")

    def stop_all(self) -> None:
        super().stop_all()
        self.killed.set()


def test_a_second_agent_on_the_folder_says_so_and_ends(hospitals: Hospitals) -> None:
    hospitals.coordinator.instances.clear()
    with running(hospitals, "site-a") as first:
        wait_until(lambda: "agent started" in first.logged.getvalue(), "the first one runs")
        second = Agent(
            first.state, client=first.agent.session.client, children=FakeTrainer(0), log=make_log(stream=io.StringIO())
        )
        with pytest.raises(Unavailable, match=r"^state_in_use:"):
            second.run()


def test_a_revoked_site_stops_and_says_why(hospitals: Hospitals) -> None:
    hospitals.coordinator.script = lambda _s, _m, _p: problem(Refusal("site_revoked", "you are out"))
    with running(hospitals, "site-a") as one:
        one.thread.join(SECONDS)
        assert [getattr(error, "code", "") for error in one.raised] == ["site_revoked"]
    hospitals["site-a"].start()
    assert "site_revoked" in hospitals["site-a"].notices()


def test_an_agent_lives_through_a_coordinator_that_is_away(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("site_agent.backoff.Backoff.next_seconds", lambda _self, _after=None: 0.01)
    coordinator = hospitals.coordinator
    coordinator.instances.clear()
    ctx = coordinator.open_round(STUDY)
    away = threading.Event()
    away.set()
    coordinator.script = lambda _s, _m, _p: httpx.Response(502, text="bad gateway") if away.is_set() else None
    with running(hospitals, "site-a") as one:
        wait_until(lambda: "poll failed" in one.logged.getvalue(), "it noticed")
        away.clear()
        wait_until(lambda: "site-a" in coordinator.rounds[ctx.ctx_hash].manifests, "it goes on")
