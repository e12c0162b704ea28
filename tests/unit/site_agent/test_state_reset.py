"""A state that is older than what the site signed: noticed at the start, reset, and nobody else is concerned."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from shared.canonical import b64u
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import sign_envelope
from shared.errors import MitralError, PeerFault
from shared.protocol.state_reset import LastAccepted
from site_agent.state_reset import StateCheck, check_proof, read_last_accepted
from site_agent.storage import pairings
from tests.support.fake_coordinator import reply
from tests.support.hospitals import STUDY, Hospital, Hospitals, one_hot_sum


def snapshot(site: Hospital, folder: Path) -> None:
    """Copy a site's state directory as a backup would."""
    site.database.close()
    shutil.copytree(site.folder.root, folder)
    site.restart()


def restore(site: Hospital, folder: Path) -> None:
    """Put a copy back in place of the state directory; the agent starts on it."""
    site.close()
    shutil.rmtree(site.folder.root)
    shutil.copytree(folder, site.folder.root)
    site.start()


def check(site: Hospital) -> StateCheck:
    return StateCheck(site.session, "instance")


def signed(hospitals: Hospitals, site: str) -> list[str]:
    return [message.kind for message in hospitals.coordinator.messages[site]]


def test_a_state_that_is_the_newest_is_left_alone(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    before = site.seq()
    check(site).settle()
    assert site.seq() == before
    assert site.notices() == []


def test_row_10_a_restored_state_is_reset_and_takes_part_from_the_next_round_on(
    hospitals: Hospitals, tmp_path: Path
) -> None:
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    snapshot(site, tmp_path / "backup")
    first = coordinator.open_round(STUDY)
    hospitals.run_round(first)
    hospitals.step()
    lost = coordinator.messages["site-a"][-1]
    restore(site, tmp_path / "backup")
    check(site).settle()
    reset = coordinator.messages["site-a"][-1]
    assert reset.kind == "state.reset"
    assert (reset.body["seq"], reset.body["prev"]) == (lost.body["seq"] + 1, lost.digest)
    assert reset.body["instance"] == "instance"
    assert site.state(first) == "WIPED"
    assert site.notices() == ["state_was_reset"]
    hospitals.step()
    hospitals.step()
    second = coordinator.open_round(STUDY)
    hospitals.run_round(second)
    assert one_hot_sum(hospitals, second, hospitals.sites)
    assert coordinator.conflicts == []
    assert site.notices() == ["state_was_reset"]


def test_row_10_what_was_sealed_in_the_lost_state_is_not_sealed_again(hospitals: Hospitals, tmp_path: Path) -> None:
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    snapshot(site, tmp_path / "backup")
    ctx = coordinator.open_round(STUDY)
    hospitals.step()
    assert "site-a" in coordinator.rounds[ctx.ctx_hash].manifests
    restore(site, tmp_path / "backup")
    check(site).settle()
    uploads = site.query("SELECT * FROM upload")
    del coordinator.rounds[ctx.ctx_hash].manifests["site-a"]  # it asks for the same context again
    site.step("open")
    assert site.query("SELECT * FROM upload") == uploads == []
    items = site.query("SELECT item FROM released_item")
    assert [row.item for row in items] == ["score_histogram"]


def test_a_reset_erases_what_the_site_sealed_for_others_and_new_bundles_follow(
    hospitals: Hospitals, tmp_path: Path
) -> None:
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    snapshot(site, tmp_path / "backup")
    hospitals.run_round(coordinator.open_round(STUDY))
    restore(site, tmp_path / "backup")
    check(site).settle()
    with site.database.reading("look") as tx:
        own = pairings.read_own(tx, STUDY)
        assert own is not None
        assert own.halves == {}
    others = {name: coordinator.studies[STUDY].bundles[name].digest for name in hospitals.sites[1:]}
    hospitals.step()
    assert {name: coordinator.studies[STUDY].bundles[name].digest for name in hospitals.sites[1:]} == others
    with site.database.reading("look") as tx:
        own = pairings.read_own(tx, STUDY)
        assert own is not None
        assert set(own.halves) == set(hospitals.sites[1:])


def test_a_number_used_twice_is_noticed_though_it_is_not_higher(hospitals: Hospitals, tmp_path: Path) -> None:
    """Two copies went on from one snapshot: the other one was first, this one signed under the same number."""
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    snapshot(site, tmp_path / "backup")
    hospitals.step("pairing")
    coordinator.open_round(STUDY)
    site.step("open")
    restore(site, tmp_path / "backup")
    coordinator.open_round(STUDY, "metrics")
    site.step("open", deliver=False)
    check(site).settle()
    assert signed(hospitals, "site-a")[-1] == "state.reset"
    assert site.query("SELECT COUNT(*) AS n FROM outbox WHERE state = 'pending'")[0].n == 0


def test_what_a_steward_decided_on_the_restored_state_is_signed_again(hospitals: Hospitals, tmp_path: Path) -> None:
    site = hospitals["site-a"]
    snapshot(site, tmp_path / "backup")
    hospitals.run_round(hospitals.coordinator.open_round(STUDY))
    restore(site, tmp_path / "backup")
    from site_agent import approvals

    with site.database.transaction("withdraw") as tx:
        approvals.withdraw(tx, site.session.identity, STUDY, site.clock.now())
    check(site).settle()
    site.deliver()
    assert signed(hospitals, "site-a")[-2:] == ["state.reset", "approval"]
    assert "site-a" not in hospitals.coordinator.studies[STUDY].approvals


def test_a_reset_that_was_not_delivered_goes_out_first_after_the_next_start(
    hospitals: Hospitals, tmp_path: Path
) -> None:
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    snapshot(site, tmp_path / "backup")
    hospitals.run_round(coordinator.open_round(STUDY))
    restore(site, tmp_path / "backup")
    coordinator.alive.add("site-a")
    with pytest.raises(MitralError, match=r"^instance_conflict:"):
        check(site).settle()
    coordinator.alive.clear()
    site.restart()
    StateCheck(site.session, "instance-after-that").settle()
    assert signed(hospitals, "site-a").count("state.reset") == 1
    assert coordinator.instances["site-a"] == "instance"


def test_an_older_answer_after_a_reset_is_no_reason_to_reset_again(hospitals: Hospitals, tmp_path: Path) -> None:
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    snapshot(site, tmp_path / "backup")
    hospitals.run_round(coordinator.open_round(STUDY))
    hospitals.step()
    older = list(coordinator.messages["site-a"])
    restore(site, tmp_path / "backup")
    check(site).settle()
    coordinator.messages["site-a"] = older
    before = site.seq()
    check(site).settle()
    assert site.seq() == before


def test_an_end_that_the_site_did_not_sign_resets_nothing(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    identity = site.session.identity
    payload = {"site": "site-a", "seq": 99, "prev": "0" * 64}
    stranger = sign_envelope("refusal", payload, "site-a", SigningKey.generate())
    own = sign_envelope("refusal", payload, "site-a", identity.idk)

    def last(envelope: bytes | None, seq: int) -> LastAccepted:
        newest = None if envelope is None else {"kind": "refusal", "envelope": b64u(envelope)}
        return LastAccepted.check({"seq": seq, "digest": "1" * 64, "newest": newest, "acts": []})

    for found, code in (
        (last(stranger, 99), "signature_invalid"),
        (last(own, 99), "chain_end_invalid"),
        (last(own, 98), "chain_end_invalid"),
        (last(own, 99 + 257), "chain_end_invalid"),
        (last(None, 2**53 - 1), "chain_end_invalid"),
    ):
        with pytest.raises(PeerFault, match=f"^{code}:"):
            check_proof(identity, found)
    check_proof(identity, last(own, 100))
    hospitals.coordinator.script = lambda _s, _m, path: (
        reply(last(stranger, 99).as_json()) if "statements" in path else None
    )
    before = site.seq()
    with pytest.raises(PeerFault):
        check(site).settle()
    assert site.seq() == before


def test_an_act_with_another_context_is_not_remembered(hospitals: Hospitals, tmp_path: Path) -> None:
    site, coordinator = hospitals["site-a"], hospitals.coordinator
    ctx = coordinator.open_round(STUDY)
    site.step("open")
    other = coordinator.open_round(STUDY)
    found: dict[str, Any] = read_last_accepted(site.session.client, "site-a", 0).as_json()
    found["acts"][0]["ctx"] = other.as_json()
    assert ctx.ctx_hash != other.ctx_hash
    with pytest.raises(PeerFault, match=r"^chain_end_invalid:"):
        check_proof(site.session.identity, LastAccepted.check(found))
