"""The attack table of PROTOCOLS A13, the rows a site defends against: one test or more per row, named by its number."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy.exc import IntegrityError

from shared.canonical import b64u, from_b64u, hash_bytes, sha256_hex
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import open_envelope, sign_envelope
from shared.errors import Misuse, MitralError, PeerFault, Refusal
from shared.protocol.round_context import Context
from shared.protocol.unmask import UnmaskRequest
from shared.protocol.work import RosterCommand
from shared.secagg import certificate
from shared.secagg import roster as roster_rules
from shared.secagg.masking import MaskingContext, mask_update
from shared.secagg.packing import unpack
from shared.secagg.pair_secrets import make_share_blobs, mask_seed
from shared.secagg.parameters import Parameters, check_parameters, threshold
from shared.secagg.quantization import Quantizer, RandomBits
from shared.secagg.roster import roster_hash
from site_agent import rosters
from site_agent.policy import check_context
from site_agent.rounds import masked_update
from site_agent.rounds.pairing import pair_secrets
from site_agent.storage import pairings, rounds
from tests.support.fake_coordinator import reply
from tests.support.hospitals import STUDY, Hospital, Hospitals, one_hot_sum


def refused(code: str) -> Any:
    return pytest.raises(MitralError, match=rf"^{code}:")


def open_command(hospitals: Hospitals, ctx: Context) -> dict[str, Any]:
    return {"kind": "open", "ctx": ctx.as_json(), "upload_until": ctx.expires}


def close_command(hospitals: Hospitals, ctx: Context, survivors: list[str], /, **changes: Any) -> dict[str, Any]:
    manifests = hospitals.coordinator.rounds[ctx.ctx_hash].manifests
    pairs = [(site, manifests[site].digest if site in manifests else "0" * 64) for site in survivors]
    stmt = {**certificate.statement(ctx.ctx_hash, survivors, certificate.uploads_hash(pairs)), **changes}
    uploads = [{"site": site, "manifest": manifest} for site, manifest in pairs]
    return {"kind": "close", "ctx": ctx.as_json(), "stmt": stmt, "uploads": uploads}


def unmask_command(ctx: Context) -> dict[str, Any]:
    return {"kind": "unmask", "study": ctx.study, "ctx_hash": ctx.ctx_hash}


def certified(hospitals: Hospitals, train: list[str] | None = None) -> Context:
    """Return a context that is certified; nobody has released anything yet."""
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step(sites=train)
    hospitals.coordinator.close(ctx)
    hospitals.step()
    hospitals.coordinator.certify(ctx)
    return ctx


def serve_request(hospitals: Hospitals, change: Callable[[dict[str, Any], str], None]) -> None:
    """Let the coordinator hand out unmask requests that were changed."""

    def script(site: str, method: str, path: str) -> httpx.Response | None:
        if "unmask-request" not in path:
            return None
        ctx = hospitals.coordinator.rounds[path.split("/")[3]].ctx
        value = hospitals.coordinator.unmask_request(ctx, site).as_json()
        change(value, site)
        return reply(value)

    hospitals.coordinator.script = script


def check_site_refuses(hospital: Hospital, command: dict[str, Any], code: str) -> None:
    """Check that a command is refused with this code, and that nothing was signed or stored because of it."""
    before = hospital.seq(), hospital.query("SELECT * FROM round"), hospital.query("SELECT * FROM decision")
    with refused(code):
        hospital.give(command)
    assert before == (hospital.seq(), hospital.query("SELECT * FROM round"), hospital.query("SELECT * FROM decision"))


# --- 1: alive and dropped at once -------------------------------------------------------------------------------------


def test_row_01_no_site_ever_gives_both_kinds_of_share_for_one_peer(hospitals: Hospitals) -> None:
    ctx = certified(hospitals, train=["site-a", "site-b", "site-c"])
    hospitals.step()
    responses = hospitals.coordinator.rounds[ctx.ctx_hash].responses
    assert set(responses) == set(hospitals.sites)
    for message in responses.values():
        alive, dropped = set(message.body["b"]), {k for seeds in message.body["s"].values() for k in seeds}
        assert alive == {"site-a", "site-b", "site-c"} == set(message.body["s"])
        assert dropped == {"site-d"}


def test_row_01_a_request_whose_lists_overlap_releases_nothing(hospitals: Hospitals) -> None:
    ctx = certified(hospitals, train=["site-a", "site-b", "site-c"])

    def overlap(value: dict[str, Any], site: str) -> None:
        value["manifests"]["site-d"] = value["manifests"]["site-a"]
        value["shares"]["site-d"] = value["shares"]["site-a"]

    serve_request(hospitals, overlap)
    check_site_refuses(hospitals["site-a"], unmask_command(ctx), "unmask_request_invalid")


def test_row_01_the_database_holds_one_release_per_context(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    site = hospitals["site-a"]
    site.step()
    signed = site.seq()
    site.give(unmask_command(ctx))  # the same again: no second response is made
    assert site.seq() == signed
    with pytest.raises(IntegrityError), site.database.transaction("second release") as tx:
        rounds.add_release(tx, ctx.ctx_hash, "0" * 64, signed)


# --- 2: different survivor sets ---------------------------------------------------------------------------------------


def test_row_02_a_second_statement_is_not_signed(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    site = hospitals["site-a"]
    site.give(close_command(hospitals, ctx, hospitals.sites))
    check_site_refuses(site, close_command(hospitals, ctx, ["site-a", "site-b", "site-c"]), "decision_conflict")
    with pytest.raises(IntegrityError), site.database.transaction("second decision") as tx:
        rounds.add_decision(tx, ctx.ctx_hash, "0" * 64, ctx.sites, site.seq())


def test_row_02_a_split_view_certifies_neither_set(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    one = close_command(hospitals, ctx, ["site-a", "site-b", "site-c"])
    two = close_command(hospitals, ctx, ["site-b", "site-c", "site-d"])
    for site, command in zip(hospitals.sites, (one, one, two, two), strict=True):
        hospitals[site].give(command)
        hospitals[site].deliver()
    decisions = hospitals.coordinator.rounds[ctx.ctx_hash].decisions
    keys = roster_rules.site_keys(hospitals.coordinator.roster)
    for stmt, signers in ((one["stmt"], ["site-a", "site-b"]), (two["stmt"], ["site-c", "site-d"])):
        envelopes = [decisions[site].envelope for site in signers]
        with refused("certificate_short"):
            certificate.check_certificate(stmt, envelopes, ctx.as_json(), keys)


def test_row_02_a_certificate_for_another_set_than_mine_releases_nothing(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    # Site a signed for all four; c + 1 others are corrupt here and certify three behind its back.
    hospitals["site-a"].give(close_command(hospitals, ctx, hospitals.sites))
    for site in ("site-b", "site-c", "site-d"):
        hospitals[site].give(close_command(hospitals, ctx, ["site-b", "site-c", "site-d"]))
        hospitals[site].deliver()
    hospitals.coordinator.close(ctx, ["site-b", "site-c", "site-d"])
    hospitals.coordinator.certify(ctx)
    check_site_refuses(hospitals["site-a"], unmask_command(ctx), "decision_conflict")


# --- 3: certificates --------------------------------------------------------------------------------------------------


def _short(value: dict[str, Any], cert: list[bytes], _hospitals: Hospitals) -> None:
    value["cert"] = [b64u(one) for one in cert[:-1]]


def _doubled(value: dict[str, Any], cert: list[bytes], _hospitals: Hospitals) -> None:
    value["cert"] = [b64u(one) for one in (cert[0], cert[0], cert[1])]


def _outsider(value: dict[str, Any], cert: list[bytes], _hospitals: Hospitals) -> None:
    stranger = certificate.sign_decision(value["stmt"], "site-z", 1, "0" * 64, SigningKey.generate())
    value["cert"] = [b64u(one) for one in (*cert[:-1], stranger)]


def _own_key(value: dict[str, Any], cert: list[bytes], _hospitals: Hospitals) -> None:
    forged = certificate.sign_decision(value["stmt"], "site-d", 1, "0" * 64, SigningKey.generate())
    value["cert"] = [b64u(one) for one in (*cert[:-1], forged)]


def _other_kind(value: dict[str, Any], cert: list[bytes], hospitals: Hospitals) -> None:
    body = {"stmt": value["stmt"], "site": "site-d", "seq": 1, "prev": "0" * 64}
    wrong = sign_envelope("approval", body, "site-d", hospitals["site-d"].session.identity.idk)
    value["cert"] = [b64u(one) for one in (*cert[:-1], wrong)]


def _other_statement(value: dict[str, Any], _cert: list[bytes], _hospitals: Hospitals) -> None:
    value["stmt"]["uploads"] = sha256_hex(value["stmt"]["uploads"].encode())


@pytest.mark.parametrize("change", [_short, _doubled, _outsider, _own_key, _other_kind, _other_statement])
def test_row_03_a_bad_certificate_releases_nothing(
    hospitals: Hospitals, change: Callable[[dict[str, Any], list[bytes], Hospitals], None]
) -> None:
    ctx = certified(hospitals)
    cert = [from_b64u(one) for one in hospitals.coordinator.certificate(ctx)]
    serve_request(hospitals, lambda value, _site: change(value, cert, hospitals))
    site = hospitals["site-a"]
    before = site.seq()
    with pytest.raises(PeerFault, match=r"^certificate_"):
        site.give(unmask_command(ctx))
    assert site.state(ctx) == "DECIDED"
    assert site.seq() == before
    hospitals.coordinator.script = None
    site.step()
    assert site.state(ctx) == "RELEASED", "the honest request is answered afterwards"


# --- 4: rosters -------------------------------------------------------------------------------------------------------


def test_row_04_a_roster_that_nobody_approved_changes_nothing(hospitals: Hospitals) -> None:
    entries = list(hospitals.coordinator.roster["sites"])
    rogue = _invented_site()
    hospitals.coordinator.propose_roster([*entries, rogue])
    hospitals.step("roster")
    assert hospitals["site-a"].query("SELECT version FROM roster WHERE state = 'active'")[0].version == 1
    ctx = hospitals.coordinator.open_round(STUDY)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "roster_not_active")


def test_row_04_a_roster_with_other_keys_for_this_site_is_not_taken_in(hospitals: Hospitals) -> None:
    entries = json.loads(json.dumps(hospitals.coordinator.roster["sites"]))
    stranger = _invented_site()
    entries[0] = {**stranger, "id": "site-a"}
    hospitals.coordinator.propose_roster(entries)
    site = hospitals["site-a"]
    site.step("roster")
    assert "roster_own_entry" in site.notices()
    assert site.query("SELECT version FROM roster") == [(1,)]


def test_row_04_one_version_in_two_forms_is_noticed(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    site.step("roster")
    other = roster_rules.build_roster(
        "alpha", 2, roster_hash(hospitals.coordinator.rosters[1]), sites=hospitals.coordinator.roster["sites"], c=1,
        coordinator=hospitals.coordinator.roster["coordinator"], not_after=_day(hospitals),
    )  # fmt: skip
    hospitals.coordinator.rosters[2] = other
    command = RosterCommand(kind="roster", version=2, roster=roster_hash(other), approved_by=["site-b"])
    with refused("roster_equivocation"):
        rosters.follow(site.database, site.session.client, site.session.identity, command, site.clock.now())


def test_row_04_the_compared_fingerprint_must_be_the_rosters(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    site.step("roster")
    first = rosters.roster_fingerprint(roster_hash(hospitals.coordinator.rosters[1]))
    with refused("fingerprint_mismatch"), site.database.transaction("approve") as tx:
        rosters.approve(tx, site.session.identity, first, site.clock.now())


def test_row_04_a_bundle_under_a_swapped_key_is_not_taken_in(hospitals: Hospitals) -> None:
    bundle = hospitals.coordinator.studies[STUDY].bundles["site-b"]
    forged = sign_envelope("pairing", {**bundle.body, "serial": 2}, "site-b", SigningKey.generate())
    command = _bundles_command(hospitals, "site-b", forged)
    site = hospitals["site-a"]
    site.give(command)
    assert "signature_invalid" in site.notices()
    assert site.query("SELECT serial FROM peer_pairing WHERE site = 'site-b'") == [(1,)]


def _invented_site() -> dict[str, Any]:
    from shared.crypto.sealing import KemPrivateKey
    from shared.secagg.roster import attest_kem, site_entry

    idk, kem = SigningKey.generate(), KemPrivateKey.generate().public_key
    log_key = SigningKey.generate().verify_key
    return site_entry(
        "site-x", name="Nobody", legal="", idk=idk.verify_key, log_key=log_key, kem=kem, kem_seq=1,
        attest=attest_kem(idk, kem, 1),
    )  # fmt: skip


def _day(hospitals: Hospitals) -> Any:
    from datetime import date

    return date.fromisoformat(hospitals.coordinator.roster["not_after"])


def _bundles_command(hospitals: Hospitals, site: str, envelope: bytes) -> dict[str, Any]:
    hospitals.coordinator.put_blob(envelope)
    payload = json.loads(envelope)["payload"]
    import base64

    reference = {"site": site, "pairing": sha256_hex(base64.b64decode(payload)), "blob": sha256_hex(envelope)}
    return {"kind": "bundles", "study": STUDY, "bundles": [reference]}


# --- 5: cohorts -------------------------------------------------------------------------------------------------------


def check_site_refuses_to_bind(site: Hospital, hospitals: Hospitals, ctx: Context, code: str) -> None:
    """Check that a context is refused with this code: no training, no bound row, one signed refusal."""
    trained = len(site.trainer.runs)
    site.give(open_command(hospitals, ctx))
    assert site.refusal(ctx) == code
    assert site.state(ctx) is None
    assert len(site.trainer.runs) == trained
    site.give(open_command(hospitals, ctx))  # asked again: the same refusal stands, nothing more is signed
    assert len(site.query("SELECT * FROM outbox WHERE kind = 'refusal' AND ctx_hash = :c", c=ctx.ctx_hash)) == 1


def test_row_05_a_cohort_in_which_the_corrupt_sites_dominate(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY, sites=["site-a", "site-b"])
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "sa_c4")
    smaller = hospitals.coordinator.open_round(STUDY, c=0)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, smaller, "sa_c5")


def test_row_05_five_of_twenty_are_refused() -> None:
    roster = [f"site-{index:02}" for index in range(20)]
    cohort = roster[:5]
    t = threshold(5, 6)
    numbers = Parameters(n=5, t=min(t, 5), c=6, m=5, q=16, b=24, w_cap=1)
    with pytest.raises(Refusal, match="sa_c1"):
        check_parameters(numbers, cohort, site="site-00", roster_sites=roster, members=roster, roster_c=6)


def test_row_05_repeated_and_disordered_names(hospitals: Hospitals) -> None:
    honest = hospitals.coordinator.open_round(STUDY).as_json()["P"]
    for P in ([honest[0], honest[0], honest[1]], [honest[1], honest[0], honest[2]], honest[1:]):
        ctx = hospitals.coordinator.open_round(STUDY, P=P)
        site = hospitals["site-a"]
        with site.database.reading("check") as tx, refused("sa_c6"):
            check_context(tx, "site-a", ctx, site.clock.now())


def test_row_05_repeated_names_among_the_survivors(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    command = close_command(hospitals, ctx, hospitals.sites[:3])
    command["stmt"]["U"] = ["site-a", "site-a", "site-b"]
    check_site_refuses(hospitals["site-a"], command, "certificate_statement")


# --- 6: pairings ------------------------------------------------------------------------------------------------------


def test_row_06_a_context_with_another_bundle_than_mine_opens_nothing(hospitals: Hospitals) -> None:
    P = hospitals.coordinator.open_round(STUDY).as_json()["P"]
    P[1]["pairing"] = "e" * 64
    ctx = hospitals.coordinator.open_round(STUDY, P=P)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "pairing_unknown")


def test_row_06_an_old_bundle_is_not_used_again(hospitals: Hospitals) -> None:
    before = hospitals.coordinator.open_round(STUDY).as_json()["P"]
    hospitals.coordinator.studies[STUDY].pairing_serial = 2
    for _ in range(2):
        hospitals.step("pairing", "bundles")
    for P in (before, [*before[:1], *hospitals.coordinator.open_round(STUDY).as_json()["P"][1:]]):
        ctx = hospitals.coordinator.open_round(STUDY, P=P)
        check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "pairing_superseded")


def test_row_06_a_second_bundle_under_one_serial_is_noticed(hospitals: Hospitals) -> None:
    bundle = hospitals.coordinator.studies[STUDY].bundles["site-b"]
    key = hospitals["site-b"].session.identity.idk
    second = sign_envelope("pairing", {**bundle.body, "seq": 99}, "site-b", key)
    site = hospitals["site-a"]
    site.give(_bundles_command(hospitals, "site-b", second))
    assert "pairing_serial_used" in site.notices()


def test_row_06_pairing_hashes_are_in_every_pair_secret(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    with hospitals["site-a"].database.reading("a") as tx:
        of_a = pair_secrets(tx, "site-a", ctx)
    with hospitals["site-b"].database.reading("b") as tx:
        of_b = pair_secrets(tx, "site-b", ctx)
    assert of_a["site-b"] == of_b["site-a"]
    hospitals.coordinator.studies[STUDY].pairing_serial = 2
    for _ in range(2):
        hospitals.step("pairing", "bundles")
    later = hospitals.coordinator.open_round(STUDY)
    with hospitals["site-a"].database.reading("a") as tx:
        assert pair_secrets(tx, "site-a", later)["site-b"] != of_a["site-b"]


# --- 7, 8: models, plans, the chain -----------------------------------------------------------------------------------


def test_row_07_a_context_with_another_model_is_refused(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY, model="d" * 64)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "model_not_accepted")


def test_row_07_two_models_for_two_halves_share_no_seed(hospitals: Hospitals) -> None:
    one, two = hospitals.coordinator.open_round(STUDY), hospitals.coordinator.open_round(STUDY, model="d" * 64)
    with hospitals["site-a"].database.reading("a") as tx:
        pair = pair_secrets(tx, "site-a", one)["site-b"]
    assert mask_seed(pair, one.digest) != mask_seed(pair, two.digest)


def test_row_07_other_bytes_under_the_models_name_are_not_trained_on(hospitals: Hospitals) -> None:
    hospitals.coordinator.blobs[hospitals.plan.initial_model] = b"another model"
    ctx = hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    site.give(open_command(hospitals, ctx))
    assert site.trainer.runs == []
    assert site.refusal(ctx) == "blob_damaged"


def test_row_08_an_unapproved_plan(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY, plan="c" * 64)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "plan_not_approved")
    with hospitals["site-b"].database.transaction("withdraw") as tx:
        from site_agent import approvals

        approvals.withdraw(tx, hospitals["site-b"].session.identity, STUDY, hospitals["site-b"].clock.now())
    check_site_refuses_to_bind(
        hospitals["site-b"], hospitals, hospitals.coordinator.open_round(STUDY), "study_not_approved"
    )


def test_row_08_a_study_cannot_change_its_plan(hospitals: Hospitals) -> None:
    study = hospitals.coordinator.studies[STUDY]
    study.plan = study.plan.model_copy(update={"title": "something else"})
    hospitals.coordinator.put_blob(study.plan.canonical())
    hospitals["site-a"].step("study")
    assert "plan_equivocation" in hospitals["site-a"].notices()


def test_row_08_a_stale_model_and_a_skipped_round(hospitals: Hospitals) -> None:
    first = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(first)
    hospitals.step()
    stale = hospitals.coordinator.open_round(STUDY, score=None, model=first.model)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, stale, "model_not_accepted")
    skipping = hospitals.coordinator.open_round(STUDY, prev="b" * 64)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, skipping, "outcome_not_newest")
    starting_over = hospitals.coordinator.open_round(STUDY, score=None, prev=None, model=first.model)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, starting_over, "outcome_not_newest")


def test_row_08_an_outcome_with_another_model_than_the_sum_leads_to(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    hospitals.step()
    trap = hospitals.coordinator.put_blob(b"trap weights")
    hospitals.coordinator.publish(ctx, model_sha256=trap)
    site = hospitals["site-a"]
    site.step()
    assert "model_differs" in site.notices()
    assert site.query("SELECT * FROM outcome") == []
    assert ctx.ctx_hash not in hospitals.coordinator.attestations


def test_row_08_an_invented_outcome_is_not_taken(hospitals: Hospitals) -> None:
    site, study = hospitals["site-a"], hospitals.coordinator.studies[STUDY]
    ctx = certified(hospitals)
    hospitals.step()
    published = hospitals.coordinator.publish(ctx)
    study.outcomes[0] = published.model_copy(update={"inclusion": hospitals.coordinator.inclusion(0)})
    site.step("study")
    assert "outcome_not_logged" in site.notices()
    unsigned = {**published.inclusion, "checkpoint": published.inclusion["checkpoint"].replace("log/1\n", "log/2\n", 1)}
    study.outcomes[0] = published.model_copy(update={"inclusion": unsigned})
    site.step("study")
    few = published.outcome.model_copy(update={"U": published.outcome.U[:2]})
    study.outcomes[0] = hospitals.coordinator.log_outcome(ctx, few).model_copy(update={"index": 1})
    site.step("study")
    assert {"outcome_not_logged", "checkpoint_origin", "outcome_invalid"} <= set(site.notices())
    assert site.query("SELECT * FROM outcome") == []


def test_row_08_a_gap_needs_c_plus_one_attestations(hospitals: Hospitals) -> None:
    """A site that was away believes c+1 others, and nobody less; else it computes every version itself."""
    away = hospitals["site-d"]
    others = ["site-a", "site-b", "site-c"]
    first = hospitals.coordinator.open_round(STUDY, sites=others)
    hospitals.run_round(first, train=others, finish=others)
    for site in others:
        hospitals[site].step("study")
    attested = hospitals.coordinator.attestations[first.ctx_hash]
    assert set(attested) == set(others)
    hospitals.coordinator.attestations[first.ctx_hash] = {"site-a": attested["site-a"]}
    for path in away.folder.models():
        path.unlink()
    hospitals.coordinator.requests.clear()
    away.step("study")
    assert away.query("SELECT origin FROM model_version WHERE outcome = 1") == [("recomputed",)]


def test_row_08_attestations_of_strangers_and_of_other_models_do_not_count(hospitals: Hospitals) -> None:
    from site_agent.rounds.close import check_attestations

    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step("study")
    published = hospitals.coordinator.studies[STUDY].outcomes[0]
    keys = roster_rules.site_keys(hospitals.coordinator.roster)
    said = {site: b64u(one.envelope) for site, one in hospitals.coordinator.attestations[ctx.ctx_hash].items()}
    assert check_attestations(keys, published.model_copy(update={"attestations": said})) == set(hospitals.sites)
    body = hospitals.coordinator.attestations[ctx.ctx_hash]["site-a"].body
    of_b = hospitals["site-b"].session.identity.idk
    bad = {
        "site-a": b64u(sign_envelope("attestation", body, "site-b", of_b)),
        "site-b": b64u(sign_envelope("attestation", {**body, "site": "site-b", "model": "9" * 64}, "site-b", of_b)),
        "site-c": said["site-a"],
        "site-d": b64u(sign_envelope("attestation", {**body, "site": "site-d"}, "site-d", SigningKey.generate())),
    }
    assert check_attestations(keys, published.model_copy(update={"attestations": bad})) == set()


def test_row_08_one_model_serves_three_updates(hospitals: Hospitals) -> None:
    for _ in range(3):
        ctx = hospitals.coordinator.open_round(STUDY, score=None)
        hospitals.step()
        hospitals.coordinator.end(ctx, "LOST")
        hospitals.step()
    fourth = hospitals.coordinator.open_round(STUDY, score=None)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, fourth, "model_overused")


# --- 9, 10: replays, mask reuse ---------------------------------------------------------------------------------------


def test_row_09_replays_are_refused_or_change_nothing(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    signed, trained = site.seq(), len(site.trainer.runs)
    site.give(open_command(hospitals, ctx))
    assert (site.seq(), len(site.trainer.runs)) == (signed, trained)
    command = close_command(hospitals, ctx, hospitals.sites)
    site.give(command)
    site.give(command)
    assert site.seq() == signed + 1
    again = Context.check({**ctx.as_json(), "expires": "2029-01-01T00:00:00Z"})
    with site.database.reading("check") as tx, refused("round_not_newer"):
        check_context(tx, "site-a", again, site.clock.now())
    with pytest.raises(IntegrityError), site.database.transaction("bind twice") as tx:
        rounds.add_round(tx, again, upload_until=None, bound_at="2026-11-21T09:00:00Z")


def test_row_09_every_message_continues_one_chain(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step()
    for site in hospitals.sites:
        messages = hospitals.coordinator.messages[site]
        assert [message.body["seq"] for message in messages] == list(range(1, len(messages) + 1))
        before = ["0" * 64, *(message.digest for message in messages)]
        assert [message.body["prev"] for message in messages] == before[:-1]


def test_row_10_a_restored_snapshot_masks_under_a_fresh_secret(hospitals: Hospitals, tmp_path: Path) -> None:
    """The pair masks of a context are the same after a restore; without a fresh b the difference would be x - x'."""
    ctx = hospitals.coordinator.open_round(STUDY)
    restored = hospitals.copy(tmp_path / "snapshot")
    vectors = []
    for federation, scale in ((hospitals, 1.0), (restored, 0.5)):
        site = federation["site-a"]
        site.trainer.result = lambda job, scale=scale, site=site: _scaled(site, job, scale)
        site.give(open_command(federation, ctx))
        chunk = (site.folder.upload(ctx.ctx_hash) / "0").read_bytes()
        vectors.append(unpack(chunk, ctx.b, len(chunk) * 8 // ctx.b).astype(np.int64))
    difference = (vectors[0] - vectors[1]) % 2**ctx.b
    quiet = np.minimum(difference, 2**ctx.b - difference) <= 2**ctx.q
    assert quiet.mean() < 0.5, "the difference of two masked vectors shows the difference of the updates"


def _scaled(site: Hospital, job: dict[str, Any], scale: float) -> Any:
    made = site.trainer.honest(job)
    assert made.update is not None
    return type(made)(made.update * np.float32(scale), made.values)


def test_row_10_what_was_sealed_is_never_masked_again(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.give(open_command(hospitals, ctx))
    chunk = (site.folder.upload(ctx.ctx_hash) / "0").read_bytes()
    site.restart()
    site.give(open_command(hospitals, ctx))
    assert (site.folder.upload(ctx.ctx_hash) / "0").read_bytes() == chunk
    assert len(site.query("SELECT * FROM upload")) == 1
    site.deliver()
    (site.folder.upload(ctx.ctx_hash) / "0").unlink()
    assert hospitals.coordinator.rounds[ctx.ctx_hash].chunks["site-a"][0] == chunk


def test_row_10_a_lost_chunk_means_no_upload_for_that_context(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.give(open_command(hospitals, ctx))
    (site.folder.upload(ctx.ctx_hash) / "0").unlink()
    site.restart()
    site.step()
    assert hospitals.coordinator.rounds[ctx.ctx_hash].manifests == {}
    assert "upload_damaged" in site.notices()
    assert len(site.trainer.runs) == 1


# --- 12: differencing -------------------------------------------------------------------------------------------------


def test_row_12_scores_of_a_model_are_sealed_once_in_any_kind(hospitals: Hospitals) -> None:
    lost = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    hospitals.coordinator.end(lost, "LOST")
    hospitals.step()
    site = hospitals["site-a"]
    again = hospitals.coordinator.open_round(STUDY)
    check_site_refuses_to_bind(site, hospitals, again, "histogram_repeated")
    elsewhere = hospitals.coordinator.open_round(STUDY, "metrics", "validation")
    check_site_refuses_to_bind(site, hospitals, elsewhere, "histogram_repeated")
    without = hospitals.coordinator.open_round(STUDY, score=None)
    site.give(open_command(hospitals, without))
    assert site.state(without) == "SEALED"
    test_part = hospitals.coordinator.open_round(STUDY, "metrics", "test")
    site.give(open_command(hospitals, test_part))
    assert site.state(test_part) == "SEALED", "the test part is another item (ADR 0004)"


def test_row_12_statistics_are_sealed_once_whatever_the_model(hospitals: Hospitals) -> None:
    first = hospitals.coordinator.open_round(STUDY, "statistics")
    hospitals.run_round(first)
    hospitals.step()
    update = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(update)
    hospitals.step()
    again = hospitals.coordinator.open_round(STUDY, "statistics")
    assert again.model != first.model
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, again, "statistics_repeated")


def test_row_12_nothing_is_signed_for_a_round_after_a_later_one_was_bound(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    first = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    late = close_command(hospitals, first, hospitals.sites)
    second = hospitals.coordinator.open_round(STUDY, score=None)
    site.give(open_command(hospitals, second))
    check_site_refuses(site, late, "round_superseded")
    assert site.state(first) == "WIPED"


def test_row_12_shares_are_not_released_for_an_older_round(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    site = hospitals["site-a"]
    site.give(open_command(hospitals, hospitals.coordinator.open_round(STUDY, score=None)))
    check_site_refuses(site, unmask_command(ctx), "round_superseded")


# --- 13: shares -------------------------------------------------------------------------------------------------------


def test_row_13_a_blob_for_somebody_else_releases_nothing(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)

    def misroute(value: dict[str, Any], site: str) -> None:
        value["shares"]["site-b"] = b64u(hospitals.coordinator.share_blob(ctx, "site-b", "site-c"))

    serve_request(hospitals, misroute)
    check_site_refuses(hospitals["site-a"], unmask_command(ctx), "unmask_request_invalid")


@pytest.mark.parametrize("place", [0, 20, -1])
def test_row_13_one_changed_byte_of_a_blob_releases_nothing(hospitals: Hospitals, place: int) -> None:
    ctx = certified(hospitals)

    def change(value: dict[str, Any], site: str) -> None:
        blob = bytearray(from_b64u(value["shares"]["site-b"]))
        blob[place] ^= 1
        value["shares"]["site-b"] = b64u(bytes(blob))

    serve_request(hospitals, change)
    check_site_refuses(hospitals["site-a"], unmask_command(ctx), "unmask_request_invalid")


@pytest.mark.parametrize(("place", "code"), [(20, "share_unreadable"), (-1, "share_commitment")])
def test_row_13_a_dealers_bad_blob_is_left_out_and_complained_about(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch, place: int, code: str
) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)

    def bad_dealer(ctx_hash: bytes, dealer: str, *arguments: Any, **named: Any) -> Any:
        made = make_share_blobs(ctx_hash, dealer, *arguments, **named)
        blob = bytearray(made.blobs["site-a"])
        blob[place] ^= 1
        return type(made)({**made.blobs, "site-a": bytes(blob)}, made.own_shares)

    with monkeypatch.context() as patch:
        patch.setattr(masked_update, "make_share_blobs", bad_dealer)
        hospitals["site-b"].step()
    hospitals.step()
    hospitals.coordinator.close(ctx)
    hospitals.step()
    hospitals.coordinator.certify(ctx)
    hospitals.step()
    response = hospitals.coordinator.rounds[ctx.ctx_hash].responses["site-a"].body
    assert set(response["b"]) == {"site-a", "site-c", "site-d"} == set(response["s"])
    blob = hospitals.coordinator.share_blob(ctx, "site-b", "site-a")
    told = [one for one in hospitals.coordinator.complaints if one["site"] == "site-a"]
    assert [(one["about"], one["code"], one["blob_hash"]) for one in told] == [("site-b", code, sha256_hex(blob))]
    assert one_hot_sum(hospitals, hospitals.coordinator.publish(ctx).ctx, hospitals.sites), "t good answers suffice"


# --- 16: survivors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("survivors", "changes"),
    [
        (["site-a", "site-b"], {}),
        (["site-a", "site-b", "site-z"], {}),
        (["site-a", "site-b", "site-c"], {"ctx": "9" * 64}),
    ],
)
def test_row_16_survivors_that_no_site_confirms(hospitals: Hospitals, survivors: list[str], changes: Any) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    check_site_refuses(
        hospitals["site-a"], close_command(hospitals, ctx, survivors, **changes), "certificate_statement"
    )


def test_row_16_another_manifest_in_my_name(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    for other in ("site-b", "site-c", "site-d"):
        hospitals[other].step()
    site = hospitals["site-a"]
    site.desk.held = True
    site.give(open_command(hospitals, ctx))
    check_site_refuses(site, close_command(hospitals, ctx, hospitals.sites), "manifest_foreign")
    hospitals["site-a"].desk.finish()
    site.deliver()
    wrong = close_command(hospitals, ctx, hospitals.sites)
    wrong["uploads"][0]["manifest"] = "8" * 64
    check_site_refuses(site, wrong, "certificate_statement")


def test_row_16_being_left_out_is_no_reason_to_refuse(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    site = hospitals["site-a"]
    site.give(close_command(hospitals, ctx, ["site-b", "site-c", "site-d"]))
    assert site.state(ctx) == "DECIDED"


# --- 18, 19: one vector, no overflow ----------------------------------------------------------------------------------


def test_row_18_a_masking_context_takes_one_vector(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    with hospitals["site-a"].database.reading("a") as tx:
        pairs = pair_secrets(tx, "site-a", ctx)
    seeds = {peer: mask_seed(pair, ctx.digest) for peer, pair in pairs.items()}
    masking = MaskingContext(ctx.digest, "site-a", ctx.sites, self_secret=b"\x01" * 32, seeds=seeds)
    layout = masked_update.vector_layout_of(ctx)
    values = hospitals["site-a"].trainer.honest({"job": "train", "score": ["validation"]}).values

    def mask() -> None:
        quantizer = Quantizer([(ctx.d, 1.0)], weight=1, w_cap=1, q=ctx.q, random=RandomBits(b"\x02" * 32))
        update = np.zeros(ctx.d, np.float32)
        mask_update(masking, layout, update, quantizer, tail={**values, "n_sites": [1]}, sink=lambda _i, _c: None)

    mask()
    with pytest.raises(Misuse, match=r"^mask_reuse:"):
        mask()


def test_row_18_scores_and_update_travel_in_one_vector(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals["site-a"].step()
    manifest = hospitals.coordinator.rounds[ctx.ctx_hash].manifests["site-a"].body
    assert manifest["vec"]["elems"] == ctx.d + ctx.tail_words
    with pytest.raises(IntegrityError), hospitals["site-a"].database.transaction("second upload") as tx:
        rounds.add_upload(tx, ctx.ctx_hash, manifest_hash="7" * 64, own_shares=[b"\x00" * 32], chunk_sha256=[], size=1)


def test_row_19_words_that_could_overflow_are_refused(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY, b=16, q=16)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "sa_overflow")


# --- 23, 24: parsing and keys -----------------------------------------------------------------------------------------


def _poll_with(hospitals: Hospitals, raw: bytes) -> None:
    content_type = {"Content-Type": "application/json"}
    hospitals.coordinator.script = lambda _site, _method, path: (
        httpx.Response(200, content=raw, headers=content_type) if "poll" in path else None
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"v": "SA1"', '"v": "SA1", "v": "SA1"', 1),
        lambda text: text.replace('"sleep_seconds": 0', '"sleep_seconds": 9007199254740993', 1),
        lambda text: text.replace('"sleep_seconds": 0', '"sleep_seconds": 0.0', 1),
        lambda text: text.replace('"group": 0', '"group": 0, "extra": 1', 1),
        lambda text: text.replace('"site-b"', '"site\u2010b"', 1),
        lambda text: text.replace('"round": 1', '"round": true', 1),
    ],
)
def test_row_23_an_ambiguous_answer_is_not_acted_on(hospitals: Hospitals, change: Callable[[str], str]) -> None:
    hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    honest: list[bytes] = []
    original = hospitals.coordinator._poll

    def remember(name: str, method: str, path: str) -> httpx.Response | None:
        if "poll" not in path or honest:
            return None
        request = httpx.Request("GET", "https://c/v1/agent/poll?instance=i&previous=i&cursor=&wait=0")
        honest.append(original(name, request).content)
        changed = change(honest[0].decode())
        assert changed != honest[0].decode()
        return httpx.Response(200, content=changed.encode(), headers={"Content-Type": "application/json"})

    hospitals.coordinator.script = remember
    with pytest.raises(MitralError):
        site.poll()
    assert site.query("SELECT * FROM round") == []


def test_row_23_a_receipt_counts_only_under_the_pinned_key(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    true_key = hospitals.coordinator.idk
    hospitals.coordinator.idk = SigningKey.generate()
    with refused("signature_invalid"):
        site.step()
    assert site.query("SELECT COUNT(*) AS n FROM outbox WHERE state = 'pending'")[0].n == 1
    hospitals.coordinator.idk = true_key
    hospitals.coordinator.receipts.clear()
    site.deliver()
    assert site.state(ctx) == "SENT"


def test_row_23_a_receipt_for_another_message_does_not_count(hospitals: Hospitals) -> None:
    hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    other = next(iter(hospitals.coordinator.receipts.values()))
    hospitals.coordinator.script = lambda _s, method, path: reply(other) if "manifest" in path else None
    with refused("receipt_invalid"):
        site.step()
    assert site.query("SELECT COUNT(*) AS n FROM outbox WHERE state = 'pending'")[0].n == 1


@pytest.mark.parametrize("envelope", ["AAAA", b64u(b"\x00" * 1168), b64u(b"\xff" * 1168)])
def test_row_24_a_bad_key_envelope_is_answered_with_a_complaint(hospitals: Hospitals, envelope: str) -> None:
    bundle = hospitals.coordinator.studies[STUDY].bundles["site-b"]
    body = {**bundle.body, "serial": 2, "env": {**bundle.body["env"], "site-a": envelope}}
    signed = sign_envelope("pairing", body, "site-b", hospitals["site-b"].session.identity.idk)
    site = hospitals["site-a"]
    site.give(_bundles_command(hospitals, "site-b", signed))
    site.deliver()
    told = hospitals.coordinator.complaints[-1]
    assert (told["about"], told["code"], told["ctx_hash"]) == ("site-b", "envelope_unreadable", None)
    with site.database.reading("look") as tx:
        peer = pairings.read_peer(tx, STUDY, told["pairing_hash"])
    assert peer is not None
    assert peer.half is None
    message = open_envelope(signed, "pairing", roster_rules.site_keys(hospitals.coordinator.roster))
    P = hospitals.coordinator.open_round(STUDY).as_json()["P"]
    P[1]["pairing"] = message.digest
    ctx = hospitals.coordinator.open_round(STUDY, P=P)
    check_site_refuses_to_bind(site, hospitals, ctx, "pairing_not_covering")


# --- 27: secrets in logs ----------------------------------------------------------------------------------------------


def test_row_27_nothing_secret_is_logged_in_a_whole_round(hospitals: Hospitals) -> None:
    for site in hospitals.each():
        site.trainer.result = None
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step()
    broken = hospitals["site-b"]
    broken.session.log.critical("unexpected failure", error=ValueError(broken.session.identity.idk.seed))
    for site in hospitals.each():
        text = site.logged.getvalue()
        assert "released" in text
        secrets = _secrets_of(site)
        assert len(secrets) > 6
        for name, secret in secrets.items():
            for form in (secret.hex(), b64u(secret), repr(secret)[2:-1], str(list(secret))):
                assert form not in text, f"{name} stands in the log of {site.site}"


def test_row_27_no_repr_shows_a_secret(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    with site.database.reading("look") as tx:
        own = pairings.read_own(tx, STUDY)
    shown = repr((site.session.identity, own, site.session, site.folder.kek(None)))
    for name, secret in _secrets_of(site).items():
        assert secret.hex() not in shown, name
        assert repr(secret)[2:-1] not in shown, name


def _secrets_of(site: Hospital) -> dict[str, bytes]:
    identity = site.session.identity
    found = {
        "kek": site.folder.kek(None).reveal(),
        "idk": identity.idk.seed.reveal(),
        "log key": identity.log_key.seed.reveal(),
        "kem": identity.kem.seeds.reveal(),
    }
    with site.database.reading("secrets") as tx:
        own = pairings.read_own(tx, STUDY)
    assert own is not None
    return {**found, **{f"half for {member}": half.reveal() for member, half in own.halves.items()}}


# --- 28: clocks -------------------------------------------------------------------------------------------------------


def test_row_28_a_skewed_clock_reopens_nothing(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.desk.held = True
    site.step()
    assert site.state(ctx) == "BOUND"
    honest = site.clock.now()
    site.clock.at = honest + timedelta(days=365)
    site.step("close")
    assert site.state(ctx) == "WIPED"
    site.clock.at = honest - timedelta(days=365)
    site.step()
    site.desk.finish()
    assert site.state(ctx) == "WIPED"
    assert site.trainer.runs == []
    with site.database.reading("check") as tx, refused("round_not_newer"):
        check_context(
            tx, "site-a", Context.check({**ctx.as_json(), "expires": "2031-01-01T00:00:00Z"}), site.clock.now()
        )


def test_row_28_a_context_that_ran_out_is_refused_after_everything_else(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    site = hospitals["site-a"]
    site.clock.at += timedelta(days=1)
    check_site_refuses_to_bind(site, hospitals, ctx, "context_expired")
    wrong = hospitals.coordinator.open_round(STUDY, model="d" * 64)
    check_site_refuses_to_bind(site, hospitals, wrong, "model_not_accepted")


def test_a_request_is_what_the_wire_type_says(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    request = hospitals.coordinator.unmask_request(ctx, "site-a")
    assert UnmaskRequest.check(request.as_json()) == request
    assert hash_bytes(ctx.ctx_hash) == ctx.digest
