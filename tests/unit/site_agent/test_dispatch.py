"""The order in which commands are answered, and what a passing failure must not cost."""

import threading
from datetime import timedelta

import httpx
import pytest

from shared.errors import PeerFault, Refusal
from site_agent.acting import ActLoop
from site_agent.outbox import DeliverLoop
from tests.support.fake_coordinator import problem
from tests.support.hospitals import STUDY, Hospitals, one_hot_sum

SECONDS = 20.0


@pytest.mark.parametrize("missing", ["outcomes", "blobs", "rosters"])
def test_a_passing_failure_does_not_make_the_site_refuse_the_next_round(hospitals: Hospitals, missing: str) -> None:
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    first = coordinator.open_round(STUDY)
    hospitals.run_round(first)
    hospitals.step(sites=hospitals.sites[1:])
    if missing == "rosters":
        coordinator.propose_roster(list(coordinator.roster["sites"]), c=2)
        coordinator.rosters.pop(2)
        coordinator.roster_approvals[1].pop("site-d")  # something new about the version: it is fetched again
        with site.database.transaction("forget") as tx:
            tx.run("UPDATE roster SET state = 'known'")
    if missing == "blobs":
        coordinator.studies[STUDY].pairing_serial = 2
        hospitals.step("pairing", sites=hospitals.sites)
        hospitals.step("bundles", sites=hospitals.sites[1:])
    second = coordinator.open_round(STUDY)
    coordinator.script = lambda _s, _m, path: httpx.Response(503) if f"/{missing}" in path else None
    unfinished = site.step()
    assert unfinished is not None
    assert site.refusal(second) is None
    assert site.state(second) is None
    coordinator.script = None
    if missing == "rosters":
        return  # the version is really gone here; that nothing was refused is the point
    assert site.step() is None
    assert site.state(second) == "SENT"


def test_outcomes_come_before_the_next_context(hospitals: Hospitals) -> None:
    first = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(first)
    second = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    kinds = [message.kind for message in hospitals.coordinator.messages["site-a"]]
    assert kinds[-2:] == ["attestation", "manifest"]
    hospitals.coordinator.close(second)
    hospitals.step()
    hospitals.coordinator.certify(second)
    hospitals.step()
    hospitals.coordinator.publish(second)
    assert one_hot_sum(hospitals, second, hospitals.sites)


def test_a_deadline_is_the_coordinators_by_the_coordinators_clock(hospitals: Hospitals) -> None:
    """A clock that is five minutes ahead shows a notice; the upload window of one minute is met all the same."""
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.clock.at += timedelta(minutes=5)
    site.session.skew.seconds = 300.0
    site.step()
    assert site.state(ctx) == "SENT"


def test_an_upload_window_that_is_over_is_a_reason_to_refuse(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.clock.at += timedelta(minutes=5)
    site.step()
    assert site.refusal(ctx) == "upload_window_over"


def test_what_has_run_out_is_wiped_while_nothing_comes(hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site_agent.acting.IDLE_SECONDS", 0.02)
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.step()
    stop = threading.Event()
    loop = ActLoop(site.session, stop)
    thread = threading.Thread(target=loop.run, daemon=True)
    site.clock.at += timedelta(days=2)
    thread.start()
    pause, waited = threading.Event(), 0.0
    while site.state(ctx) != "WIPED" and waited < SECONDS:
        pause.wait(0.02)
        waited += 0.02
    stop.set()
    loop.wake()
    thread.join(5)
    assert site.state(ctx) == "WIPED"
    assert not site.folder.upload(ctx.ctx_hash).exists()


@pytest.mark.parametrize("code", ["certificate_superseded", "site_not_approved", "route_unknown"])
def test_a_message_is_kept_when_the_fault_is_not_its_own(hospitals: Hospitals, code: str) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    hospitals.coordinator.script = lambda _s, method, _p: problem(Refusal(code, "later")) if method == "PUT" else None
    with pytest.raises(Refusal, match=rf"^{code}:"):
        site.step()
    assert site.query("SELECT state FROM outbox WHERE kind = 'manifest'") == [("pending",)]
    hospitals.coordinator.script = None
    site.deliver()
    assert site.state(ctx) == "SENT"


def test_a_message_that_is_at_fault_is_put_aside_and_shown(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.open_round(STUDY)
    hospitals.coordinator.script = lambda _s, _m, path: (
        problem(PeerFault("manifest_mismatch", "no")) if "/manifest/" in path else None
    )
    site.step()
    assert site.query("SELECT state, code FROM outbox WHERE kind = 'manifest'") == [("rejected", "manifest_mismatch")]
    assert "manifest_mismatch" in site.notices()


def test_a_delivery_that_keeps_failing_is_shown(hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site_agent.backoff.Backoff.next_seconds", lambda _self, _after=None: 0.01)
    site = hospitals["site-a"]
    hospitals.coordinator.open_round(STUDY)
    site.step("open", deliver=False)
    hospitals.coordinator.script = lambda _s, _m, _p: problem(Refusal("site_not_approved", "not yet"))
    stop = threading.Event()
    loop = DeliverLoop(site.session, stop, lambda _error: None)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    pause, waited = threading.Event(), 0.0
    while "site_not_approved" not in site.notices() and waited < SECONDS:
        pause.wait(0.02)
        waited += 0.02
    stop.set()
    loop.wake()
    thread.join(5)
    assert "site_not_approved" in site.notices()
