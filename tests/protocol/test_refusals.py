"""Every refusal of R0, R2, R3 and R5 by its own: one thing is wrong, everything else is right."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.canonical import b64u
from shared.clock import timestamp
from shared.crypto.secret import Secret
from shared.crypto.signed_envelope import open_envelope, sign_envelope
from shared.protocol.outcome import PublishedOutcome
from shared.protocol.round_context import Context
from shared.protocol.study import Plan
from shared.protocol.work import StudyCommand
from shared.secagg import certificate
from shared.secagg import roster as roster_rules
from shared.secagg.roster import roster_hash
from site_agent import approvals, policy, rosters
from site_agent.rounds.close import check_follows, check_logged
from site_agent.storage import pairings
from site_agent.storage import rosters as stored_rosters
from site_agent.studies import check_plan
from tests.protocol.test_attack_table import (
    certified,
    check_site_refuses,
    check_site_refuses_to_bind,
    refused,
    serve_request,
    unmask_command,
)
from tests.support.hospitals import STUDY, Hospitals


# --- R0: the numbers are the plan's -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"d": 39}, "layout_differs"),
        ({"b": 32}, "layout_differs"),
        ({"q": 15}, "layout_differs"),
        ({"tail": []}, "layout_differs"),
        ({"w_cap": 101}, "layout_differs"),
        ({"clip": "1" * 64}, "clip_differs"),
        ({"dp": "1" * 64}, "dp_differs"),
    ],
)
def test_r0_numbers_that_are_not_the_plans(hospitals: Hospitals, changes: dict[str, Any], code: str) -> None:
    ctx = hospitals.coordinator.open_round(STUDY, **changes)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, code)


def test_r0_cohorts_and_survivors_are_those_of_roster_and_plan(hospitals: Hospitals) -> None:
    site, ctx, plan = hospitals["site-a"], hospitals.coordinator.open_round(STUDY), hospitals.plan
    with site.database.reading("look") as tx:
        roster = stored_rosters.read_active(tx)
    assert roster is not None
    policy._check_numbers(ctx, plan, roster, "site-a")
    without_d = replace(roster, roster={**roster.roster, "sites": roster.roster["sites"][:3]})
    with refused("sa_c6"):
        policy._check_numbers(ctx, plan, without_d, "site-a")
    with refused("sa_c6"):
        policy._check_numbers(ctx, plan.model_copy(update={"sites": plan.sites[:3]}), roster, "site-a")
    four = plan.model_copy(
        update={"secure_aggregation": plan.secure_aggregation.model_copy(update={"least_survivors": 4})}
    )
    with refused("least_survivors_low"):
        policy._check_numbers(ctx, four, roster, "site-a")


# --- R0: pairings -----------------------------------------------------------------------------------------------------
def test_r0_a_bundle_of_another_site_under_this_name(hospitals: Hospitals) -> None:
    P = hospitals.coordinator.open_round(STUDY).as_json()["P"]
    P[1]["pairing"], P[2]["pairing"] = P[2]["pairing"], P[1]["pairing"]
    ctx = hospitals.coordinator.open_round(STUDY, P=P)
    check_site_refuses_to_bind(hospitals["site-a"], hospitals, ctx, "pairing_unknown")


@pytest.mark.parametrize("table", ["pairing", "peer_pairing"])
def test_r0_a_bundle_of_another_roster(hospitals: Hospitals, table: str) -> None:
    site = hospitals["site-a"]
    with site.database.transaction("it was made under another roster") as tx:
        tx.run(f"UPDATE {table} SET roster_hash = :other", other="9" * 64)
    check_site_refuses_to_bind(site, hospitals, hospitals.coordinator.open_round(STUDY), "pairing_superseded")


def test_r0_an_own_bundle_that_does_not_cover_everybody(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    with site.database.transaction("a newer bundle for one member") as tx:
        pairings.add_own(
            tx, STUDY, 9, pairing_hash="9" * 64, roster_hash=ctx.roster, halves={"site-b": Secret(bytes(32))},
            at=timestamp(site.clock.now()),
        )  # fmt: skip
    P = ctx.as_json()["P"]
    P[0]["pairing"] = "9" * 64
    check_site_refuses_to_bind(site, hospitals, hospitals.coordinator.open_round(STUDY, P=P), "pairing_not_covering")


# --- approvals and plans ----------------------------------------------------------------------------------------------
def test_row_08_an_approval_ends_with_its_plan(hospitals: Hospitals) -> None:
    site, late = hospitals["site-a"], datetime(2031, 1, 2, tzinfo=UTC)
    with site.database.reading("consent") as tx, refused("plan_expired"):
        approvals.read_consent(tx, STUDY, late)
    with site.database.transaction("approve") as tx, refused("plan_expired"):
        approvals.approve(tx, site.session.identity, STUDY, "cases", None, late)


@pytest.mark.parametrize(
    "change",
    [
        {"study": "another"},
        {"federation": "beta"},
        {"sites": ["site-b", "site-a", "site-c"]},
        {"sites": ["site-b", "site-c", "site-d"]},
        {"dp": {"epsilon": "1"}},
        {"preprocessing": {"normalise": "sometimes"}},
        {"preprocessing": {"normalise": "none", "more": "x"}},
        {"task": {"name": "astrology"}},
        {"metrics": {"bins": 63}},
        {"strategy": {"name": "sorcery"}},
    ],
)
def test_row_08_a_plan_this_release_does_not_understand(hospitals: Hospitals, change: dict[str, Any]) -> None:
    plan = Plan.check({**hospitals.plan.as_json(), **change})
    command = StudyCommand(kind="study", study=STUDY, plan=plan.plan_hash, state="running", outcomes=0)
    with refused("plan_unacceptable"):
        check_plan(plan.canonical(), command, hospitals["site-a"].session.identity)


def test_row_23_a_plan_that_is_not_canonical(hospitals: Hospitals) -> None:
    plan = hospitals.plan
    command = StudyCommand(kind="study", study=STUDY, plan=plan.plan_hash, state="running", outcomes=0)
    check_plan(plan.canonical(), command, hospitals["site-a"].session.identity)
    with refused("plan_unacceptable"):
        check_plan(json.dumps(plan.as_json()).encode(), command, hospitals["site-a"].session.identity)


# --- R2, R3: what is this site's, what the statement names ------------------------------------------------------------
def test_row_16_another_manifest_in_my_name_that_the_statement_names(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    manifests = hospitals.coordinator.rounds[ctx.ctx_hash].manifests
    pairs = [(site, "8" * 64 if site == "site-a" else manifests[site].digest) for site in hospitals.sites]
    stmt = certificate.statement(ctx.ctx_hash, hospitals.sites, certificate.uploads_hash(pairs))
    uploads = [{"site": site, "manifest": manifest} for site, manifest in pairs]
    command = {"kind": "close", "ctx": ctx.as_json(), "stmt": stmt, "uploads": uploads}
    check_site_refuses(hospitals["site-a"], command, "manifest_foreign")


def test_row_16_nothing_is_decided_or_released_for_a_round_that_is_over(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    site, late = hospitals["site-a"], hospitals["site-b"]
    over = {"kind": "ended", "study": STUDY, "ctx_hash": ctx.ctx_hash, "state": "LOST", "reason": "x"}
    site.give(over)
    check_site_refuses(site, unmask_command(ctx), "round_wiped")
    with late.database.transaction("it did not decide before") as tx:
        tx.run("DELETE FROM decision")
    late.give(over)
    stmt = hospitals.coordinator.rounds[ctx.ctx_hash].stmt
    assert stmt is not None
    manifests = hospitals.coordinator.rounds[ctx.ctx_hash].manifests
    uploads = [{"site": one, "manifest": manifests[one].digest} for one in stmt.U]
    command = {"kind": "close", "ctx": ctx.as_json(), "stmt": stmt.as_json(), "uploads": uploads}
    check_site_refuses(late, command, "round_wiped")


def test_row_16_an_update_that_was_left_out_is_not_sent_any_more(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step(sites=["site-a", "site-b", "site-c"])
    late = hospitals["site-d"]
    late.step(deliver=False)
    hospitals.coordinator.close(ctx)
    late.step("close", deliver=False)
    assert late.query("SELECT state FROM outbox WHERE kind = 'manifest'") == [("dropped",)]


def test_row_03_a_manifest_that_the_statement_does_not_name_releases_nothing(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    honest = hospitals.coordinator.rounds[ctx.ctx_hash].manifests["site-b"].body
    other = sign_envelope("manifest", {**honest, "seq": 99}, "site-b", hospitals["site-b"].session.identity.idk)
    serve_request(hospitals, lambda value, _site: value["manifests"].update({"site-b": b64u(other)}))
    check_site_refuses(hospitals["site-a"], unmask_command(ctx), "unmask_request_invalid")


def test_row_10_a_restored_snapshot_releases_nothing_for_an_upload_it_does_not_know(hospitals: Hospitals) -> None:
    ctx, site = certified(hospitals), hospitals["site-a"]
    with site.database.transaction("a snapshot from before sealing") as tx:
        for table in ("decision", "upload"):
            tx.run(f"DELETE FROM {table}")
        tx.run("UPDATE round SET state = 'BOUND'")
    check_site_refuses(site, unmask_command(ctx), "manifest_foreign")


def test_row_04_nothing_is_released_for_a_context_of_an_older_roster(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    fingerprint = rosters.roster_fingerprint(roster_hash(hospitals.coordinator.roster))
    hospitals.step("roster")
    for site in hospitals.each():
        with site.database.transaction("approve roster") as tx:
            rosters.approve(tx, site.session.identity, fingerprint, site.clock.now())
        site.deliver()
    hospitals.step("roster")
    check_site_refuses(hospitals["site-a"], unmask_command(ctx), "roster_not_active")


def test_row_09_the_request_of_another_context_releases_nothing(hospitals: Hospitals) -> None:
    one = hospitals.coordinator.open_round(STUDY, "statistics")
    hospitals.step()
    two = certified(hospitals)
    hospitals.coordinator.script = lambda site, _method, path: None
    other = {"kind": "unmask", "study": STUDY, "ctx_hash": one.ctx_hash}
    from tests.support.fake_coordinator import reply

    hospitals.coordinator.script = lambda site, _method, path: (
        reply(hospitals.coordinator.unmask_request(two, site).as_json()) if "unmask-request" in path else None
    )
    check_site_refuses(hospitals["site-a"], other, "unmask_request_invalid")


# --- R5: the chain, link by link --------------------------------------------------------------------------------------
def changed(published: PublishedOutcome, **changes: Any) -> PublishedOutcome:
    """Return the outcome with fields of context, outcome or itself replaced; the rest still fits together."""
    of_ctx = {name: value for name, value in changes.items() if name in Context.model_fields}
    ctx = Context.check({**published.ctx.as_json(), **of_ctx})
    of_outcome = {name: value for name, value in changes.items() if name in {"U", "model_sha256", "ctx_hash"}}
    outcome = published.outcome.model_copy(update={"ctx_hash": ctx.ctx_hash, **of_outcome})
    update = {"ctx": ctx, "outcome": outcome, "index": changes.get("index", published.index)}
    return published.model_copy(update=update)


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 2},
        {"study": "another"},
        {"plan": "1" * 64},
        {"ctx_hash": "1" * 64},
        {"prev": "1" * 64},
        {"model": "1" * 64},
        {"kind": "metrics"},
        {"U": ["site-b", "site-a", "site-c"]},
        {"U": ["site-a", "site-a", "site-b"]},
        {"U": ["site-a", "site-b", "site-z"]},
        {"U": ["site-a", "site-b"]},
    ],
)
def test_row_08_an_outcome_that_is_not_the_next_link(hospitals: Hospitals, changes: dict[str, Any]) -> None:
    published = hospitals.run_round(hospitals.coordinator.open_round(STUDY))
    check_follows(hospitals.plan, None, changed(published))
    with refused("outcome_invalid"):
        check_follows(hospitals.plan, None, changed(published, **changes))


def test_row_08_the_logged_outcome_is_the_published_one(hospitals: Hospitals) -> None:
    published = hospitals.run_round(hospitals.coordinator.open_round(STUDY))
    with hospitals["site-a"].database.reading("look") as tx:
        active = stored_rosters.read_active(tx)
    assert active is not None
    check_logged(active, published)
    with refused("outcome_not_logged"):
        check_logged(active, changed(published, model_sha256="1" * 64))


def test_row_08_a_sites_own_attestation_is_not_somebody_elses_word(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step("study", sites=["site-a", "site-b", "site-c"])
    away, said = hospitals["site-d"], hospitals.coordinator.attestations[ctx.ctx_hash]
    body = {**said["site-a"].body, "site": "site-d"}
    keys = roster_rules.site_keys(hospitals.coordinator.roster)
    own = open_envelope(sign_envelope("attestation", body, "site-d", away.session.identity.idk), "attestation", keys)
    hospitals.coordinator.attestations[ctx.ctx_hash] = {"site-a": said["site-a"], "site-d": own}
    for path in away.folder.models():
        path.unlink()
    away.step("study")
    assert away.query("SELECT origin FROM model_version WHERE outcome = 1") == [("recomputed",)]


@pytest.mark.parametrize("field", ["study", "round", "ctx_hash"])
def test_row_08_an_attestation_of_another_round_does_not_count(hospitals: Hospitals, field: str) -> None:
    from site_agent.rounds.close import check_attestations

    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step("study")
    published = hospitals.coordinator.studies[STUDY].outcomes[0]
    keys = roster_rules.site_keys(hospitals.coordinator.roster)
    body = {**hospitals.coordinator.attestations[ctx.ctx_hash]["site-a"].body}
    body[field] = {"study": "another", "round": 9, "ctx_hash": "1" * 64}[field]
    key = hospitals["site-a"].session.identity.idk
    said = {"site-a": b64u(sign_envelope("attestation", body, "site-a", key))}
    assert check_attestations(keys, published.model_copy(update={"attestations": said})) == set()


def test_row_08_an_aggregate_of_another_length(hospitals: Hospitals) -> None:
    ctx = certified(hospitals)
    hospitals.step()
    raw, _ = hospitals.coordinator.aggregate(ctx)
    hospitals.coordinator.publish(ctx, aggregate_sha256=hospitals.coordinator.put_blob(raw[:-4]))
    hospitals["site-a"].step("study")
    assert "aggregate_malformed" in hospitals["site-a"].notices()


# --- A6: pairing ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("members", [["site-a"], ["site-a", "site-b", "site-z"]])
def test_a6_nobody_is_paired_with_who_is_not_of_roster_and_plan(hospitals: Hospitals, members: list[str]) -> None:
    site = hospitals["site-a"]
    before = site.seq()
    with refused("pairing_members"):
        site.give({"kind": "pairing", "study": STUDY, "serial": 9, "members": members})
    assert site.seq() == before


def _reference(hospitals: Hospitals, envelope: bytes, site: str, pairing: str) -> dict[str, Any]:
    blob = hospitals.coordinator.put_blob(envelope)
    return {"kind": "bundles", "study": STUDY, "bundles": [{"site": site, "pairing": pairing, "blob": blob}]}


def test_row_06_a_bundle_handed_out_as_another_sites(hospitals: Hospitals) -> None:
    site, key = hospitals["site-a"], hospitals["site-b"].session.identity.idk
    bundle = hospitals.coordinator.studies[STUDY].bundles["site-b"]
    newer = sign_envelope("pairing", {**bundle.body, "serial": 2}, "site-b", key)
    digest = open_envelope(newer, "pairing", hospitals.coordinator.keys).digest
    foreign = sign_envelope("pairing", {**bundle.body, "serial": 2, "study": "another"}, "site-b", key)
    foreign_digest = open_envelope(foreign, "pairing", hospitals.coordinator.keys).digest
    for envelope, name, pairing in (
        (newer, "site-c", digest), (newer, "site-b", "7" * 64), (foreign, "site-b", foreign_digest),
    ):  # fmt: skip
        site.give(_reference(hospitals, envelope, name, pairing))
    assert set(site.notices()) == {"pairing_mismatch"}
    assert site.query("SELECT 1 FROM peer_pairing WHERE serial = 2") == []


# --- A4: rosters ------------------------------------------------------------------------------------------------------
def test_row_04_a_roster_that_shrinks_without_a_quorum_is_not_activated(hospitals: Hospitals) -> None:
    """Two newcomers and one member sign everything that is listed; three of the four members did not agree."""
    from tests.support.hospitals import Hospital

    entries = [hospitals.coordinator.roster["sites"][0]]
    newcomers = []
    for index, name in enumerate(("site-x", "site-y")):
        made = Hospital(name, 5 + index, hospitals.folder / name, hospitals.coordinator)
        made.found()
        made.start()
        newcomers.append(made)
        entries.append(made.entry)
    roster = hospitals.coordinator.propose_roster(entries)
    fingerprint = rosters.roster_fingerprint(roster_hash(roster))
    site = hospitals["site-a"]
    for one in (*newcomers, site):
        one.step("roster")
        with one.database.transaction("approve roster") as tx:
            rosters.approve(tx, one.session.identity, fingerprint, one.clock.now())
        one.deliver()
    site.step("roster")
    assert site.query("SELECT version FROM roster WHERE state = 'active'") == [(1,)]
    for one in newcomers:
        one.close()


def test_row_04_a_roster_that_skips_the_active_one_is_not_signed(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    forked = roster_rules.build_roster(
        "alpha", 2, "7" * 64, sites=hospitals.coordinator.roster["sites"], c=2,
        coordinator=hospitals.coordinator.roster["coordinator"], not_after=datetime(2030, 1, 1, tzinfo=UTC).date(),
    )  # fmt: skip
    hospitals.coordinator.rosters[2], hospitals.coordinator.roster_approvals[2] = forked, {}
    site.step("roster")
    before = site.seq()
    with refused("roster_prev"), site.database.transaction("approve") as tx:
        rosters.approve(tx, site.session.identity, rosters.roster_fingerprint(roster_hash(forked)), site.clock.now())
    assert site.seq() == before


def test_row_04_a_roster_of_another_federation(hospitals: Hospitals) -> None:
    old = hospitals.coordinator.rosters[1]
    other = roster_rules.build_roster(
        "beta", 2, roster_hash(old), sites=old["sites"], c=2, coordinator=old["coordinator"],
        not_after=datetime(2030, 1, 1, tzinfo=UTC).date(),
    )  # fmt: skip
    hospitals.coordinator.rosters[2], hospitals.coordinator.roster_approvals[2] = other, {}
    hospitals["site-a"].step("roster")
    assert "roster_federation" in hospitals["site-a"].notices()


# --- receipts ---------------------------------------------------------------------------------------------------------
def test_row_23_a_receipt_with_the_proof_of_another_entry(hospitals: Hospitals) -> None:
    coordinator, site = hospitals.coordinator, hospitals["site-a"]
    coordinator.open_round(STUDY)
    site.step(deliver=False)
    coordinator.append("study.started", STUDY, {})
    original = coordinator._receipt

    def with_proof(*arguments: Any, **named: Any) -> Any:
        import httpx

        answer = json.loads(original(*arguments, **named).content)
        coordinator.append("study.started", STUDY, {})
        return httpx.Response(200, json={**answer, "inclusion": coordinator.inclusion(len(coordinator.leaves) - 1)})

    coordinator._receipt = with_proof  # type: ignore[method-assign]
    with refused("receipt_invalid"):
        site.deliver()
    assert site.query("SELECT COUNT(*) AS n FROM outbox WHERE state = 'pending'")[0].n == 1


def test_row_24_a_half_of_another_length_is_answered_with_a_complaint(hospitals: Hospitals) -> None:
    from shared.canonical import hash_bytes
    from shared.crypto.sealing import seal
    from shared.secagg.pair_secrets import pairing_info

    site, bundle = hospitals["site-a"], hospitals.coordinator.studies[STUDY].bundles["site-b"]
    info = pairing_info(hash_bytes(bundle.body["roster_hash"]), STUDY, 2, "site-b", "site-a")
    short = b64u(seal(site.session.identity.kem.public_key, bytes(31), info))
    body = {**bundle.body, "serial": 2, "env": {**bundle.body["env"], "site-a": short}}
    signed = sign_envelope("pairing", body, "site-b", hospitals["site-b"].session.identity.idk)
    digest = open_envelope(signed, "pairing", hospitals.coordinator.keys).digest
    site.give(_reference(hospitals, signed, "site-b", digest))
    site.deliver()
    assert [one["code"] for one in hospitals.coordinator.complaints] == ["envelope_unreadable"]


def test_row_04_the_first_roster_names_the_coordinator_of_the_enrolment(tmp_path: Any) -> None:
    from shared.crypto.identity import SigningKey
    from tests.support.fake_coordinator import FakeCoordinator
    from tests.support.hospitals import Hospital

    coordinator = FakeCoordinator()
    sites = [Hospital(f"site-{name}", 0, tmp_path / "all" / f"site-{name}", coordinator) for name in "abc"]
    for one in sites:
        one.found()
        one.start()
    coordinator.idk = SigningKey.generate()
    coordinator.propose_roster([one.entry for one in sites])
    sites[0].step("roster")
    assert sites[0].notices() == ["roster_own_entry"]
    assert sites[0].query("SELECT version FROM roster") == []
    for one in sites:
        one.close()


def test_row_10_a_sealed_chunk_that_changed_on_disk_is_not_sent(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.step(deliver=False)
    chunk = site.folder.upload(ctx.ctx_hash) / "0"
    raw = bytearray(chunk.read_bytes())
    raw[0] ^= 1
    chunk.write_bytes(raw)
    site.restart()
    site.step()
    assert hospitals.coordinator.rounds[ctx.ctx_hash].chunks == {}
    assert "upload_damaged" in site.notices()


def test_row_12_scores_bound_in_two_contexts_are_sealed_in_one(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    update = hospitals.coordinator.open_round(STUDY)
    metrics = hospitals.coordinator.open_round(STUDY, "metrics", "validation")
    site.desk.held = True
    for ctx in (update, metrics):
        site.give({"kind": "open", "ctx": ctx.as_json(), "upload_until": ctx.expires})
    assert (site.state(update), site.state(metrics)) == ("BOUND", "BOUND")
    site.desk.finish()
    assert site.state(metrics) == "SEALED"
    site.desk.held = False
    site.give({"kind": "open", "ctx": update.as_json(), "upload_until": update.expires})
    assert site.refusal(update) == "histogram_repeated"
    assert len(site.query("SELECT * FROM upload")) == 1
