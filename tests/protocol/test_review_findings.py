"""What an attacker tried at the seams between rules: between two transactions, two processes, two roster versions."""

import gzip
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.canonical import JsonObject
from shared.clock import timestamp
from shared.crypto.secret import Secret
from shared.secagg.roster import roster_hash
from site_agent import approvals, rosters
from site_agent.answers import Retry
from site_agent.coordinator_client import CoordinatorClient
from site_agent.rounds.masked_update import bind
from site_agent.storage import pairings
from site_agent.storage import rosters as stored_rosters
from site_agent.training.result_file import TrainingResult
from tests.support.hospitals import STUDY, Hospital, Hospitals


def during_training(site: Hospital, monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """Let something happen between the first step of training and its result."""
    train = site.trainer.run

    def run(study: str, job: JsonObject, timeout_seconds: float) -> TrainingResult:
        happens()
        return train(study, job, timeout_seconds)

    monkeypatch.setattr(site.trainer, "run", run)


def test_row_08_an_approval_withdrawn_during_training_stops_the_upload(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = hospitals["site-a"]
    during_training(site, monkeypatch, lambda: withdraw(site))
    ctx = hospitals.coordinator.open_round(STUDY)
    site.step()
    assert site.refusal(ctx) == "study_not_approved"
    assert site.query("SELECT * FROM upload") == []
    assert not hospitals.coordinator.rounds[ctx.ctx_hash].chunks
    assert not site.folder.work(ctx.ctx_hash).exists()
    assert not site.folder.upload(ctx.ctx_hash).exists()


def withdraw(site: Hospital) -> None:
    with site.database.transaction("the command line withdraws") as tx:
        approvals.withdraw(tx, site.session.identity, STUDY, site.clock.now())


def secrets_left(site: Hospital) -> int:
    own = site.query("SELECT 1 FROM pairing WHERE secrets IS NOT NULL")
    return len(own) + len(site.query("SELECT 1 FROM peer_pairing WHERE secret IS NOT NULL"))


def test_an_update_that_waits_to_be_sent_is_not_sent_once_the_approval_is_withdrawn(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    site.step(deliver=False)
    assert site.state(ctx) == "SEALED"
    withdraw(site)
    site.step()
    there = hospitals.coordinator.rounds[ctx.ctx_hash]
    assert not there.chunks
    assert not there.manifests
    assert there.refusals == {"site-a": "study_not_approved"}
    assert (site.state(ctx), secrets_left(site)) == ("WIPED", 0)
    assert not site.folder.upload(ctx.ctx_hash).exists()


def send_and_withdraw_after(site: Hospital, part: str) -> None:
    """Deliver a sealed update; the steward withdraws right after a request whose path holds `part`."""
    put = site.session.client.put

    def put_then_withdraw(path: str, body: bytes, **how: Any) -> Any:
        answer = put(path, body, **how)
        if part in path:
            withdraw(site)
        return answer

    site.session.client.put = put_then_withdraw  # type: ignore[method-assign]
    site.deliver()


def test_an_approval_withdrawn_between_two_parts_of_an_upload_stops_the_rest(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    site.step(deliver=False)
    send_and_withdraw_after(site, "/uploads/")
    there = hospitals.coordinator.rounds[ctx.ctx_hash]
    assert list(there.chunks) == ["site-a"]
    assert not there.shares
    assert not there.manifests
    assert site.notices() == []


def test_an_approval_withdrawn_while_the_shares_travel_keeps_the_manifest_back(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    site.step(deliver=False)
    send_and_withdraw_after(site, "/shares/")
    there = hospitals.coordinator.rounds[ctx.ctx_hash]
    assert list(there.shares) == ["site-a"]
    assert not there.manifests
    assert there.refusals == {"site-a": "study_not_approved"}


def test_a_delivered_update_is_not_opened_by_the_site_that_withdrew(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    site = hospitals["site-a"]
    withdraw(site)
    hospitals.coordinator.close(ctx)
    site.step()
    assert "site-a" not in hospitals.coordinator.rounds[ctx.ctx_hash].decisions
    assert site.query("SELECT * FROM decision") == []
    hospitals.step(sites=["site-b", "site-c", "site-d"])
    assert len(hospitals.coordinator.rounds[ctx.ctx_hash].decisions) == 3


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_the_secrets_of_a_study_that_is_over_are_erased(hospitals: Hospitals, state: str) -> None:
    site = hospitals["site-a"]
    assert secrets_left(site) == 4  # its own bundle and three of the others
    hospitals.coordinator.studies[STUDY].state = state
    site.step()
    assert secrets_left(site) == 0


def test_row_22_a_sum_that_was_signed_and_then_called_lost_counts(hospitals: Hospitals) -> None:
    """ADR 0007: the round may have been opened in secret; the outcomes alone would show nothing."""
    three = ["site-a", "site-b", "site-c"]
    hospitals.run_round(hospitals.coordinator.open_round(STUDY), train=three)
    hospitals.step()
    secret = hospitals.coordinator.open_round(STUDY, score=None)
    hospitals.step()
    hospitals.coordinator.close(secret)
    hospitals.step()
    assert hospitals["site-d"].state(secret) == "DECIDED"
    assert hospitals["site-d"].notices() == ["cohort_differs_by_this_site"]
    assert hospitals["site-a"].notices() == []


@pytest.mark.parametrize("days", [31, 0])
def test_a_worn_pairing_is_refused_by_the_site_itself(hospitals: Hospitals, days: int) -> None:
    site = hospitals["site-a"]
    with site.database.transaction("age the bundle, or use it up") as tx:
        made_at = timestamp(site.clock.now() - timedelta(days=days))
        tx.run("UPDATE pairing SET made_at = :made_at", made_at=made_at)
        for number in range(0 if days else 128):
            tx.run(
                "INSERT INTO round (ctx_hash, study, round, kind, model, ctx, state, expires, bound_at)"
                " VALUES (:c, :study, :number, 'metrics', '', '', 'WIPED', '', :at)",
                c=f"{number:064x}", study=STUDY, number=number, at=made_at,
            )  # fmt: skip
    ctx = hospitals.coordinator.open_round(STUDY)
    site.step()
    assert site.refusal(ctx) == "pairing_superseded"


def test_row_22_a_hospital_notices_that_two_sums_differ_by_its_update_alone(hospitals: Hospitals) -> None:
    hospitals.run_round(hospitals.coordinator.open_round(STUDY))
    hospitals.step()
    three = ["site-a", "site-b", "site-c"]
    hospitals.run_round(hospitals.coordinator.open_round(STUDY, score=None), train=three)
    hospitals.step()
    assert hospitals["site-d"].notices() == ["cohort_differs_by_this_site"]
    assert [hospitals[site].notices() for site in three] == [[], [], []]


def test_row_04_a_roster_replaced_during_training_stops_the_upload(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = hospitals["site-a"]

    def replace() -> None:
        with site.database.transaction("another version becomes active") as tx:
            tx.run("UPDATE roster SET state = 'superseded'")

    during_training(site, monkeypatch, replace)
    ctx = hospitals.coordinator.open_round(STUDY)
    site.step()
    assert site.refusal(ctx) == "roster_not_active"
    assert site.query("SELECT * FROM upload") == []


def test_w6_an_update_that_was_not_sealed_is_erased_with_the_release(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-d"]
    with monkeypatch.context() as patched:
        patched.setattr("site_agent.rounds.masked_update.seal", lambda *_: None)  # the disk is full, say
        site.step()
    assert site.state(ctx) == "TRAINED"
    folder = site.folder.work(ctx.ctx_hash)
    folder.mkdir(exist_ok=True)
    (folder / "result.safetensors").write_bytes(b"the clear update")
    hospitals.step(sites=["site-a", "site-b", "site-c"])
    hospitals.coordinator.close(ctx)
    site.step("close")
    hospitals.step(sites=["site-a", "site-b", "site-c"])
    hospitals.coordinator.certify(ctx)
    site.step("unmask")
    assert site.state(ctx) == "RELEASED"
    assert not folder.exists()


def test_w6_a_result_that_comes_after_the_round_was_wiped_is_erased(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = hospitals["site-a"]
    ctx = hospitals.coordinator.open_round(STUDY)

    def wipe() -> None:
        site.give({"kind": "ended", "study": STUDY, "ctx_hash": ctx.ctx_hash, "state": "LOST", "reason": "lost"})
        folder = site.folder.work(ctx.ctx_hash)
        folder.mkdir()
        (folder / "result.safetensors").write_bytes(b"the clear update")

    during_training(site, monkeypatch, wipe)
    site.step()
    assert site.state(ctx) == "WIPED"
    assert not site.folder.work(ctx.ctx_hash).exists()


def test_row_26_superseded_pairing_secrets_go_with_the_last_context_that_needs_them(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    ctx = hospitals.coordinator.open_round(STUDY)
    with site.database.reading("consent") as tx:
        approvals.read_consent(tx, STUDY, site.clock.now())
    bind(site.session, ctx, None, site.clock.now())
    with site.database.transaction("a peer and this site made newer bundles") as tx:
        for peer in ("site-b", "site-c"):
            pairings.add_peer(
                tx, STUDY, peer, 9, pairing_hash=peer[-1] * 64, roster_hash=ctx.roster, half=Secret(bytes(32)),
                code=None,
            )  # fmt: skip
        pairings.add_own(
            tx, STUDY, 9, pairing_hash="9" * 64, roster_hash=ctx.roster, halves={"site-b": Secret(bytes(32))},
            at=ctx.expires,
        )  # fmt: skip
        pairings.erase_superseded(tx, STUDY, {participant.pairing for participant in ctx.P})
    old = "SELECT * FROM {} WHERE study = 'demo' AND serial < 9 AND {} IS NOT NULL"
    own, peers = old.format("pairing", "secrets"), old.format("peer_pairing", "secret") + " AND site <> 'site-d'"
    own, peers = own.replace("'demo'", f"'{STUDY}'"), peers.replace("'demo'", f"'{STUDY}'")
    assert (len(site.query(own)), len(site.query(peers))) == (1, 2)
    site.give({"kind": "ended", "study": STUDY, "ctx_hash": ctx.ctx_hash, "state": "LOST", "reason": "lost"})
    assert (len(site.query(own)), len(site.query(peers))) == (0, 0)


def test_row_25_a_compressed_answer_is_not_unpacked(hospitals: Hospitals) -> None:
    bomb = gzip.compress(gzip.compress(bytes(2**24)))

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, headers={"Content-Encoding": "gzip, gzip"}, stream=httpx.ByteStream(bomb)
        )  # nothing of it is read

    clock = hospitals["site-a"].clock
    client = CoordinatorClient(httpx.MockTransport(answer), "https://coordinator.example", clock)
    with pytest.raises(Retry, match="compressed"):
        client.request("GET", "/v1/agent/poll")


@pytest.mark.skipif(sys.platform == "win32", reason="core files are a POSIX matter")
@pytest.mark.parametrize("module", ["site_agent.cli.main", "coordinator.cli.main"])
def test_row_27_no_process_of_ours_leaves_a_core_file(module: str) -> None:
    code = (
        f"import resource, {module} as cli\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
        "cli.app = lambda *_, **__: print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "(0, 0)", done.stderr


def test_row_04_a_hospital_that_joins_later_activates_the_version_it_compared(
    hospitals: Hospitals, tmp_path: Path
) -> None:
    newcomer = Hospital("site-e", 4, tmp_path / "newcomer" / "site-e", hospitals.coordinator)
    newcomer.folder.root.parent.mkdir()
    newcomer.found()
    newcomer.start()
    everybody = [*hospitals.each(), newcomer]
    listed = hospitals.coordinator.roster["sites"]
    roster = hospitals.coordinator.propose_roster([*listed, newcomer.entry])
    fingerprint = rosters.roster_fingerprint(roster_hash(roster))
    for site in everybody:
        site.step("roster")
        with site.database.transaction("approve roster") as tx:
            rosters.approve(tx, site.session.identity, fingerprint, site.clock.now())
        site.deliver()
    for site in everybody:
        site.step("roster")
    for site in everybody:
        with site.database.reading("active roster") as tx:
            active = stored_rosters.read_active(tx)
        assert active is not None, site.site
        assert active.version == 2
    newcomer.close()
