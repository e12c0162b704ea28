"""Asking, acting and delivering, each by itself."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from shared.errors import CODES, InputError, MitralError, Refusal
from shared.protocol.work import Command
from site_agent.acting import ActLoop
from site_agent.answers import Retry
from site_agent.asking import AskLoop
from site_agent.lease import Instance
from site_agent.outbox import DeliverLoop
from site_agent.storage import outbox
from tests.support.fake_coordinator import problem, reply
from tests.support.hospitals import STUDY, Hospital, Hospitals

SECONDS = 20.0  # a test that waits this long has failed


class Asking:
    """An asking loop and what it handed over."""

    def __init__(self, site: Hospital) -> None:
        self.offered: list[list[Command]] = []
        self.failures: list[MitralError] = []
        self.stop = threading.Event()
        self.instance = Instance(site.database, site.clock.now())
        self.loop = AskLoop(
            site.session, self.instance, self.offered.append, self.stop, self._fail, wait_seconds=0
        )  # fmt: skip

    def _fail(self, error: MitralError) -> None:
        self.failures.append(error)
        self.stop.set()


def answer_with(hospitals: Hospitals, **fields: Any) -> None:
    """Let every poll be answered with these fields."""
    value = {
        "v": "SA1", "action": "work", "sleep_seconds": 0, "reason": None, "cursor": "c",
        "time": "2026-11-21T09:00:00.000Z", "commands": [],
    }  # fmt: skip
    hospitals.coordinator.script = lambda _s, _m, path: reply({**value, **fields}) if "poll" in path else None


def test_a_set_is_handed_over_once_and_its_cursor_is_sent_back(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.instances.clear()
    asking = Asking(site)
    asking.loop.ask_once()
    asking.loop.ask_once()
    assert len(asking.offered) == 1
    hospitals.coordinator.open_round(STUDY)
    asking.loop.ask_once()
    assert [command.kind for command in asking.offered[1]][-1] == "open"


def test_the_first_answer_confirms_the_instance(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.instances.clear()
    asking = Asking(site)
    asking.loop.ask_once()
    assert Instance(site.database, site.clock.now()).previous == asking.instance.id


def test_a_conflict_stops_the_agent_and_says_why(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.instances["site-a"] = "somebody else"
    asking = Asking(site)
    asking.loop.run()
    assert [error.code for error in asking.failures] == ["instance_conflict"]


def test_an_unseen_start_before_this_one_is_no_conflict(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    known = Instance(site.database, site.clock.now())
    known.confirm()
    hospitals.coordinator.instances["site-a"] = known.id
    Instance(site.database, site.clock.now())  # killed before it could poll
    asking = Asking(site)
    asking.offered.append([])

    def offer(_commands: list[Command]) -> None:
        asking.stop.set()

    asking.loop = AskLoop(site.session, asking.instance, offer, asking.stop, asking._fail, wait_seconds=0)
    asking.loop.run()
    assert asking.failures == []
    assert hospitals.coordinator.instances["site-a"] == asking.instance.id


@pytest.mark.parametrize(
    ("error", "code"),
    [(Refusal("site_revoked", "out"), "site_revoked"), (InputError("instance_conflict", "two"), "instance_conflict")],
)
def test_what_no_waiting_helps_against_stops_the_agent(hospitals: Hospitals, error: MitralError, code: str) -> None:
    hospitals.coordinator.script = lambda _s, _m, _p: problem(error)
    asking = Asking(hospitals["site-a"])
    asking.loop.run()
    assert [failure.code for failure in asking.failures] == [code]


def test_the_coordinator_may_ask_the_agent_to_stop_or_to_sleep(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    answer_with(hospitals, action="sleep", sleep_seconds=0, cursor="new")
    asking = Asking(site)
    asking.loop.ask_once()
    assert asking.offered == []
    answer_with(hospitals, action="stop", reason="maintenance until noon")
    asking.loop.ask_once()
    assert [(error.code, error.detail) for error in asking.failures] == [("coordinator_stop", "maintenance until noon")]


def test_a_skewed_clock_is_shown_and_taken_back(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.instances.clear()
    asking = Asking(site)
    asking.loop.ask_once()
    assert "clock_skew" not in site.notices()
    site.clock.at += timedelta(minutes=5)
    asking.loop.ask_once()
    assert "clock_skew" in site.notices()
    site.clock.at -= timedelta(minutes=5)
    asking.loop.ask_once()
    assert "clock_skew" not in site.notices()


def test_a_failing_connection_is_noticed_once_and_forgotten_when_it_works(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.instances.clear()
    asking = Asking(site)
    error = Retry("coordinator_unreachable", "nobody answers", 0.0)
    for _ in range(3):
        asking.loop._failed(error)
    row = site.query("SELECT code, count FROM notice")
    assert [(one.code, one.count) for one in row] == [("coordinator_unreachable", 1)]
    asking.loop.ask_once()
    assert site.notices() == []


def test_what_waited_is_done_as_soon_as_the_coordinator_answers_again(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.instances.clear()
    asking = Asking(site)
    back: list[int] = []
    asking.loop = AskLoop(
        site.session, asking.instance, asking.offered.append, asking.stop, asking._fail, wait_seconds=0,
        recovered=lambda: back.append(1),
    )  # fmt: skip
    asking.loop.ask_once()
    asking.loop._failed(Retry("coordinator_unreachable", "away", 0.0))
    asking.loop.ask_once()
    asking.loop.ask_once()
    assert len(asking.offered) == 2, "the same set is offered again, once"
    assert back == [1]


def run_loop(loop: Any, stop: threading.Event, until: Callable[[], bool]) -> None:
    """Run a loop in its thread until a condition holds."""
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    pause = threading.Event()
    waited = 0.0
    while not until() and waited < SECONDS:
        pause.wait(0.02)
        waited += 0.02
    stop.set()
    loop.wake()
    thread.join(5)
    assert not thread.is_alive()
    assert until()


def test_acting_answers_the_newest_set_and_tries_again_what_failed(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    monkeypatch.setattr("site_agent.backoff.FIRST_SECONDS", 0.01)
    stop = threading.Event()
    loop = ActLoop(site.session, stop)
    failures = iter([httpx.Response(503, headers={"Retry-After": "0"}), None])
    hospitals.coordinator.script = lambda _s, _m, path: next(failures, None) if "blobs" in path else None
    for path in site.folder.models():
        path.unlink()
    loop.offer([])
    loop.offer(site.poll())
    run_loop(loop, stop, lambda: site.state(ctx) == "SEALED")


def test_a_bug_in_one_command_ends_no_loop(hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch) -> None:
    site = hospitals["site-a"]
    stop = threading.Event()
    loop = ActLoop(site.session, stop)

    def bug(*_arguments: Any) -> None:
        raise ZeroDivisionError("a secret in an argument")

    monkeypatch.setattr("site_agent.rounds.dispatch.answer", bug)
    loop.offer([])
    run_loop(loop, stop, lambda: "unexpected failure" in site.logged.getvalue())
    assert "ZeroDivisionError" in site.logged.getvalue()
    assert "a secret in an argument" not in site.logged.getvalue()


def test_delivering_notices_rows_that_another_process_wrote(hospitals: Hospitals) -> None:
    """The command line signs while the agent runs: the row is seen without a wake-up."""
    from site_agent import approvals

    site = hospitals["site-a"]
    stop = threading.Event()
    loop = DeliverLoop(site.session, stop, lambda _error: None)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    with site.database.transaction("withdraw") as tx:
        approvals.withdraw(tx, site.session.identity, STUDY, site.clock.now())
    pause, waited = threading.Event(), 0.0
    while "site-a" in hospitals.coordinator.studies[STUDY].approvals and waited < SECONDS:
        pause.wait(0.05)
        waited += 0.05
    stop.set()
    thread.join(5)
    assert "site-a" not in hospitals.coordinator.studies[STUDY].approvals


def test_a_state_older_than_what_was_signed_stops_the_agent(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.open_round(STUDY)
    site.step("open", deliver=False)
    hospitals.coordinator.script = lambda _s, method, _p: (
        problem(InputError("seq_reused", "seen")) if method == "PUT" else None
    )
    failures: list[MitralError] = []
    stop = threading.Event()

    def fail(error: MitralError) -> None:
        failures.append(error)
        stop.set()

    loop = DeliverLoop(site.session, stop, fail)
    run_loop(loop, stop, lambda: bool(failures))
    assert [error.code for error in failures] == ["seq_reused"]
    assert site.query("SELECT COUNT(*) AS n FROM outbox WHERE state = 'pending'")[0].n == 1


def test_a_message_that_comes_too_late_is_put_aside_quietly(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.step("open", deliver=False)
    hospitals.coordinator.rounds[ctx.ctx_hash].state = "CLOSING"
    site.deliver()
    with site.database.reading("look") as tx:
        assert [(kind, code) for _, kind, code in outbox.read_rejected(tx)] == [("manifest", "round_closed")]
    assert site.notices() == []
    assert CODES["round_closed"].status == 409


def test_an_upload_goes_on_where_it_was_cut(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.step("open", deliver=False)
    cut = iter([True])
    hospitals.coordinator.script = lambda _s, _m, path: (
        httpx.Response(503) if path.endswith("/shares/site-a") and next(cut, False) else None
    )
    with pytest.raises(Retry):
        site.deliver()
    hospitals.coordinator.requests.clear()
    site.restart()
    site.deliver()
    put = [path.split("/")[4] for _, method, path in hospitals.coordinator.requests if method == "PUT"]
    assert put == ["manifest", "shares", "manifest"], "the chunk that arrived is not sent again"
    assert site.state(ctx) == "SENT"
    assert json.dumps(hospitals.coordinator.conflicts) == "[]"
