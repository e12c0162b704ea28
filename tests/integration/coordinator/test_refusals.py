"""Refusals of the coordinator that only one wrong thing leads to."""

import functools
from typing import Any

from coordinator.api.routes import OPERATOR_ROUTES
from shared.canonical import b64u, hash_bytes, length_prefixed
from shared.crypto.sealing import seal
from shared.protocol.study import Plan
from shared.protocol.unmask import SealedUnmaskResponse
from shared.secagg import roster as rosters
from tests.support.coordinator_scene import SITES, InProcess, Scene
from tests.support.fake_site import FakeSite, code_of

Running = tuple[Scene, Plan]


def without_d(scene: Scene) -> tuple[Plan, Any]:
    """Open a round to which site-d is not invited."""
    plan = scene.submit()
    for name in SITES[:3]:
        scene.sites[name].approve_study(plan)
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    scene.pair()
    scene.pass_time(6)
    scene.drain()
    ctx = scene.live(plan).ctx
    assert ctx.sites == list(SITES[:3])
    return plan, ctx


def complain(site: FakeSite, about: str, ctx_hash: str) -> None:
    body = {
        "ctx_hash": ctx_hash,
        "pairing_hash": None,
        "about": about,
        "code": "share_unreadable",
        "blob_hash": "0" * 64,
    }
    envelope = site.sign("complaint", body)
    site.call("PUT", f"/v1/complaints/{site.name}/{site.prev}", envelope)


def kept_out(scene: Scene) -> list[str]:
    listed = scene.operator("GET", "/v1/sites", role="administrator")["sites"]
    return [one["site"] for one in listed if one["kept_out"]]


def finish(scene: Scene, *names: str) -> None:
    for _ in range(3):
        for name in names:
            scene.sites[name].work()
        scene.drain()


def test_row_15_one_complaint_keeps_nobody_out(running: Running) -> None:
    scene, plan = running
    complain(scene.sites["site-a"], "site-d", scene.live(plan).ctx_hash)
    finish(scene, *SITES)
    assert scene.contexts(plan)[0].state == "PUBLISHED"
    assert kept_out(scene) == []


def test_row_15_complaints_of_sites_that_were_not_invited_do_not_count(scene: Scene) -> None:
    plan, ctx = without_d(scene)
    for name in ("site-a", "site-d"):
        complain(scene.sites[name], "site-b", ctx.ctx_hash)
    finish(scene, *SITES[:3])
    assert scene.contexts(plan)[0].state == "PUBLISHED"
    assert kept_out(scene) == []


def test_a_site_that_was_not_invited_takes_no_part(scene: Scene) -> None:
    _, ctx = without_d(scene)
    site, path = scene.sites["site-d"], f"/v1/rounds/{ctx.ctx_hash}"
    for call in (
        lambda: site.call("PUT", f"{path}/uploads/site-d/0", b"x"),
        lambda: site.call("PUT", f"{path}/shares/site-d", b"x"),
        lambda: site.call("GET", f"{path}/uploads/site-d"),
        lambda: site.call("GET", f"{path}/unmask-request/site-d"),
        lambda: site.refuse(ctx),
    ):
        assert code_of(call) == "site_not_invited"


def test_r5_attestations_of_another_round_and_of_strangers(running: Running) -> None:
    scene, plan = running
    finish(scene, *SITES)
    done = scene.contexts(plan)[0]
    assert done.state == "PUBLISHED"
    site, model = scene.sites["site-a"], done.result_model
    assert code_of(lambda: site.attest(plan.study, 2, done.ctx_hash, model)) == "attestation_mismatch"
    assert code_of(lambda: site.attest("another", 1, done.ctx_hash, model)) == "attestation_mismatch"
    stranger = FakeSite("site-e", InProcess(scene))
    scene.enrol(stranger)
    assert code_of(lambda: stranger.attest(plan.study, 1, done.ctx_hash, model)) == "site_not_in_roster"
    site.attest(plan.study, 1, done.ctx_hash, model)


def test_r3_a_response_is_bound_to_its_site_and_context_and_given_once(running: Running) -> None:
    scene, plan = running
    for site in scene.sites.values():
        site.upload(scene.live(plan).ctx)
    scene.drain()
    for site in scene.sites.values():
        site.work(skip=("unmask",))
    scene.drain()
    a, ctx_hash = scene.sites["site-a"], scene.live(plan).ctx_hash
    payload = a.response(a.unmask_request(ctx_hash))
    signed = a.sign("unmask", payload, keep=False)
    kem = rosters.coordinator_kem(a.roster)

    def put(named: str, about: str, sealed_for: str) -> str:
        info = b"SA1 unmask\x00" + hash_bytes(about) + length_prefixed(sealed_for.encode())
        body = SealedUnmaskResponse(ctx_hash=about, site=named, sealed=b64u(seal(kem, signed, info))).canonical()
        return code_of(lambda: a.call("PUT", f"/v1/rounds/{ctx_hash}/unmask/site-a", body))

    assert put("site-b", ctx_hash, "site-b") == "site_mismatch"
    assert put("site-a", "1" * 64, "site-a") == "site_mismatch"
    assert put("site-a", ctx_hash, "site-b") == "envelope_unreadable"
    a.release(ctx_hash)
    assert code_of(lambda: a.release(ctx_hash, payload)) == "statement_conflict"


def test_a_refusal_is_about_its_round_and_given_once(running: Running) -> None:
    scene, plan = running
    site, ctx = scene.sites["site-a"], scene.live(plan).ctx
    path = f"/v1/rounds/{ctx.ctx_hash}/refusal/site-a"
    body = {"ctx_hash": "1" * 64, "code": "no", "detail": ""}
    assert code_of(lambda: site.call("PUT", path, site.sign("refusal", body))) == "message_malformed"
    site.refuse(ctx)
    assert code_of(lambda: site.refuse(ctx, "budget_spent")) == "statement_conflict"


def test_row_06_bundles_that_do_not_fit_roster_or_study(scene: Scene) -> None:
    plan = scene.submit(sites=list(SITES[:3]))
    for site in scene.sites.values():
        if site.name in plan.sites:
            site.approve_study(plan)
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    site = scene.sites["site-a"]
    site.pair(plan.study, 5, plan.sites)
    assert code_of(lambda: site.pair(plan.study, 5, plan.sites)) == "pairing_serial"
    assert code_of(lambda: site.pair(plan.study, 4, plan.sites)) == "pairing_serial"
    assert code_of(lambda: scene.sites["site-d"].pair(plan.study, 1, plan.sites)) == "study_not_of_site"
    env = dict.fromkeys(["site-b", "site-c"], b64u(bytes(1168)))
    body = {
        "v": "SA1", "kind": "pairing", "study": plan.study, "roster_hash": rosters.roster_hash(site.roster),
        "serial": 9,
        "env": env,
    }  # fmt: skip
    for change, code in (
        ({"roster_hash": "1" * 64}, "pairing_roster"),
        ({"study": "another"}, "study_not_of_site"),
        ({"env": {**env, "site-a": env["site-b"]}}, "message_malformed"),
        ({"env": {**env, "site-z": env["site-b"]}}, "message_malformed"),
    ):
        envelope = site.sign("pairing", {**body, **change}, keep=False)
        path = f"/v1/studies/{plan.study}/pairings/site-a"
        assert code_of(lambda envelope=envelope, path=path: site.call("PUT", path, envelope)) == code  # type: ignore[misc]


def test_row_04_an_approval_of_another_roster_is_not_taken(scene: Scene) -> None:
    version = scene.operator("POST", "/v1/rosters", {"c": 2}, role="administrator")["version"]
    site = scene.sites["site-a"]
    for change in ({"roster": "1" * 64}, {"version": version + 1}):
        digest = rosters.roster_hash(scene.operator("GET", f"/v1/rosters/{version}")["roster"])
        payload = {"v": "SA1", "kind": "roster", "roster": digest, "version": version, **change}
        envelope = site.sign("approval", payload, keep=False)
        path = f"/v1/rosters/{version}/approvals/site-a"
        assert code_of(functools.partial(site.call, "PUT", path, envelope)) == "roster_approval_foreign"


def test_row_08_an_approval_of_another_plan_is_not_taken(scene: Scene) -> None:
    plan = scene.submit(sites=list(SITES[:3]))
    site, path = scene.sites["site-a"], f"/v1/studies/{plan.study}/approvals/site-a"
    payload = {"v": "SA1", "kind": "study", "study": plan.study, "plan": plan.plan_hash, "decision": "approve"}
    for change in ({"plan": "1" * 64}, {"study": "another"}):
        envelope = site.sign("approval", {**payload, **change}, keep=False)
        assert code_of(lambda envelope=envelope: site.call("PUT", path, envelope)) == "approval_mismatch"  # type: ignore[misc]
    assert code_of(lambda: scene.sites["site-d"].approve_study(plan)) == "study_not_of_site"
    assert scene.study(plan).approved_by == []


def test_every_route_asks_for_the_permission_written_here() -> None:
    """Spelled out a second time on purpose: a route that asks for another right is a change somebody has to see."""
    assert {(route.method, route.path): route.access for route in OPERATOR_ROUTES} == {
        ("GET", "/v1/health/live"): "anybody",
        ("GET", "/v1/health/ready"): "anybody",
        ("GET", "/v1/openapi.json"): "anybody",
        ("POST", "/v1/account/setup"): "anybody",
        ("POST", "/v1/account/confirm"): "anybody",
        ("POST", "/v1/login"): "anybody",
        ("GET", "/v1/oidc/login"): "anybody",
        ("GET", "/v1/oidc/callback"): "anybody",
        ("POST", "/v1/logout"): "account.use",
        ("POST", "/v1/account/link"): "account.use",
        ("GET", "/v1/whoami"): "account.use",
        ("GET", "/v1/sites"): "sites.read",
        ("POST", "/v1/sites/invitations"): "sites.write",
        ("POST", "/v1/sites/{site}/approve"): "sites.write",
        ("POST", "/v1/sites/{site}/reject"): "sites.write",
        ("POST", "/v1/sites/{site}/revoke"): "sites.write",
        ("POST", "/v1/sites/{site}/readmit"): "sites.write",
        ("GET", "/v1/rosters"): "rosters.read",
        ("GET", "/v1/rosters/{version}"): "rosters.read",
        ("POST", "/v1/rosters"): "rosters.write",
        ("GET", "/v1/operators"): "operators.read",
        ("POST", "/v1/operators"): "operators.write",
        ("POST", "/v1/operators/{operator}/link"): "operators.grant",
        ("POST", "/v1/operators/{operator}/identity"): "operators.grant",
        ("POST", "/v1/operators/{operator}/role"): "operators.grant",
        ("DELETE", "/v1/operators/{operator}"): "operators.write",
        ("GET", "/v1/tokens"): "tokens.read",
        ("POST", "/v1/tokens"): "tokens.write",
        ("DELETE", "/v1/tokens/{token}"): "tokens.write",
        ("PUT", "/v1/blobs/{sha256}"): "blobs.write",
        ("GET", "/v1/blobs/{sha256}"): "blobs.read",
        ("POST", "/v1/studies"): "studies.run",
        ("GET", "/v1/studies"): "studies.read",
        ("GET", "/v1/studies/{study}"): "studies.read",
        ("GET", "/v1/studies/{study}/watch"): "studies.read",
        ("POST", "/v1/studies/{study}/{verb}"): "studies.run",
        ("GET", "/v1/audit/checkpoint"): "studies.read",
        ("GET", "/v1/audit/witnesses"): "studies.read",
        ("GET", "/v1/audit/export"): "audit.read",
        ("POST", "/v1/audit/erasures"): "audit.erase",
    }


def test_a_site_reads_only_blobs_and_outcomes_of_its_own_studies(scene: Scene) -> None:
    plan = scene.submit(sites=list(SITES[:3]))
    outside = scene.sites["site-d"]
    assert code_of(lambda: outside.call("GET", f"/v1/blobs/{plan.plan_hash}")) == "blob_unknown"
    assert code_of(lambda: outside.call("GET", f"/v1/blobs/{plan.initial_model}")) == "blob_unknown"
    assert code_of(lambda: outside.outcomes(plan.study)) == "study_unknown"
    scene.sites["site-a"].call("GET", f"/v1/blobs/{plan.plan_hash}")


EVERY_ACT = [
    "operator.added", "roster.proposed", "study.submitted", "study.started", "study.paused", "study.stopped",
    "config.changed", "enrol.rejected", "operator.removed",
]  # fmt: skip


def test_every_act_of_an_operator_leaves_an_entry_with_who_did_it(scene: Scene) -> None:
    plan = scene.submit()
    for verb in ("start", "pause", "stop"):
        scene.operator("POST", f"/v1/studies/{plan.study}/{verb}")
    scene.operator("POST", "/v1/rosters", {"c": 2}, role="administrator")
    scene.operator("POST", "/v1/sites/site-a/readmit", role="administrator")
    scene.operator("DELETE", "/v1/operators/viewer", role="administrator")
    from shared.protocol.enrolment import Invitation

    answer = scene.operator("POST", "/v1/sites/invitations", {"site": "site-x"}, role="administrator")
    FakeSite("site-x", InProcess(scene)).enrol(Invitation.check(answer))
    scene.operator("POST", "/v1/sites/site-x/reject", role="administrator")
    who = {entry["type"]: entry["actor"]["id"] for entry in scene.entries() if entry["actor"]["kind"] == "user"}
    assert {type_: who.get(type_) for type_ in EVERY_ACT} == {
        type_: "researcher" if type_.startswith("study.") else "administrator" for type_ in EVERY_ACT
    }


def test_the_end_of_rounds_and_studies_is_logged(running: Running) -> None:
    scene, plan = running
    for name in SITES[:2]:
        scene.sites[name].refuse(scene.live(plan).ctx)
    scene.drain()
    for _ in range(30):
        for site in scene.sites.values():
            site.work()
        scene.drain()
    assert scene.study(plan).state == "finished"
    types = [entry["type"] for entry in scene.entries()]
    states = [one.state for one in scene.contexts(plan)]
    assert types.count("round.abort") == states.count("ABANDONED") == 1
    assert types.count("round.result") == states.count("PUBLISHED") > 0
    assert types.count("model.published") == plan.training.rounds
    assert types.count("metrics.published") > 0
    assert types.count("study.finished") == 1
