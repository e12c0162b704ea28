"""The operator plane: roles, tokens, studies, blobs, watching, the export; every refusal with its code."""

import base64
import errno
import io
import json
import os
import zipfile
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.audit.proofs import verify_inclusion_bundle
from shared.audit.verify import Report
from shared.audit.verify import verify as verify_export
from shared.canonical import from_b64u, sha256_hex
from shared.crypto.identity import VerifyKey
from shared.crypto.signed_envelope import open_envelope
from shared.errors import Unavailable
from shared.model_state import to_bytes
from shared.protocol.outcome import PublishedOutcome
from shared.protocol.study import Plan
from tests.support.coordinator_scene import SITES, D, Scene
from tests.support.fake_site import code_of, one_hot, tail_of
from tests.support.plans import plan_with

Running = tuple[Scene, Plan]
MODEL = to_bytes({"w": np.zeros(D, np.float32)})


def run_out(scene: Scene, rounds: int = 10) -> None:
    for _ in range(rounds):
        for site in scene.sites.values():
            site.work()
        scene.drain()


# --- tokens and roles -------------------------------------------------------------------------------------------------


def test_whoami_and_a_token_that_is_not_one(scene: Scene) -> None:
    found = scene.operator("GET", "/v1/whoami")
    assert (found["operator"], found["roles"], found["federation"]) == ("researcher", ["researcher"], "federation-1")
    assert found["expires_at"] == "2027-02-19T09:00:00.000Z"
    assert "studies.run:own" in found["permissions"]
    for token, code in (("", "token_missing"), ("MT1-NOPE", "token_invalid")):
        scene.tokens["odd"] = token
        assert code_of(lambda: scene.operator("GET", "/v1/whoami", role="odd")) == code


def test_tokens_are_stored_hashed_only(scene: Scene) -> None:
    kept = b"".join(path.read_bytes() for path in scene.state.glob("coordinator.sqlite*"))
    for token in scene.tokens.values():
        assert token.encode() not in kept
        assert from_b32(token) not in kept


def from_b32(token: str) -> bytes:
    return base64.b32decode(token.removeprefix("MT1-"))


def test_an_administrator_cannot_run_studies(scene: Scene) -> None:
    plan = scene.submit()
    for verb in ("start", "pause", "stop"):
        path = f"/v1/studies/{plan.study}/{verb}"
        assert code_of(lambda path=path: scene.operator("POST", path, role="administrator")) == "permission_denied"  # type: ignore[misc]
    assert (
        code_of(lambda: scene.operator("POST", "/v1/studies", plan.as_json(), role="administrator"))
        == "permission_denied"
    )
    assert (
        code_of(lambda: scene.operator("GET", f"/v1/blobs/{plan.plan_hash}", role="administrator"))
        == "permission_denied"
    )


def test_denials_are_logged_once_a_minute_with_who_and_what(scene: Scene) -> None:
    def try_it(role: str, path: str = "/v1/rosters") -> str:
        return code_of(lambda: scene.operator("POST", path, {}, role=role))

    scene.tokens["odd"] = "MT1-NOPE"
    size = len(scene.entries())
    for _ in range(3):
        assert try_it("viewer") == "permission_denied"
        assert try_it("odd") == "token_invalid"
    scene.clock.at += timedelta(seconds=61)
    assert try_it("viewer") == "permission_denied"
    found = scene.entries()[size:]
    assert [(one["type"], one["actor"]["kind"], one["actor"]["id"]) for one in found] == [
        ("authz.deny", "user", "viewer"),
        ("authn.fail", "system", "unknown"),
        ("authz.deny", "user", "viewer"),
    ]
    assert found[0]["data"] == {
        "permission": "rosters.write",
        "reason": "permission_denied",
        "route": "POST /v1/rosters",
    }
    assert "MT1-NOPE" not in json.dumps(found)


def test_operators_come_go_and_expire(scene: Scene) -> None:
    def add(**body: Any) -> Any:
        return scene.operator("POST", "/v1/operators", body, role="administrator")

    answer = add(operator="guest", role="viewer", days=2)
    assert set(answer) == {"v", "kind", "url", "root", "operator", "role", "token"}
    scene.tokens["guest"] = answer["token"]
    scene.operator("GET", "/v1/studies", role="guest")
    assert code_of(lambda: add(operator="guest", role="viewer")) == "operator_exists"
    assert code_of(lambda: add(operator="other", role="root")) == "role_unknown"
    assert code_of(lambda: add(operator="Other", role="viewer")) == "id_malformed"
    assert code_of(lambda: add(operator="other", role="viewer", days=0)) == "field_invalid"
    assert code_of(lambda: add(operator="other")) == "field_invalid"
    scene.clock.at += timedelta(days=2)
    assert code_of(lambda: scene.operator("GET", "/v1/studies", role="guest")) == "token_invalid"
    scene.operator("DELETE", "/v1/operators/viewer", role="administrator")
    assert code_of(lambda: scene.operator("GET", "/v1/studies", role="viewer")) == "token_invalid"
    assert code_of(lambda: scene.operator("DELETE", "/v1/operators/viewer", role="administrator")) == "operator_unknown"
    assert (
        code_of(lambda: scene.operator("DELETE", "/v1/operators/administrator", role="administrator"))
        == "operator_last"
    )
    listed = scene.operator("GET", "/v1/operators", role="auditor")["operators"]
    assert {one["operator"]: one["removed_at"] is not None for one in listed}["viewer"]


# --- studies ----------------------------------------------------------------------------------------------------------


def submit(scene: Scene, **changes: Any) -> Any:
    defaults = {"federation": "federation-1", "sites": list(SITES), "initial_model": sha256_hex(MODEL), "dimension": D}
    return scene.operator("POST", "/v1/studies", plan_with(**{**defaults, **changes}).as_json())


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"federation": "other"}, "plan_invalid", "federation"),
        ({"sites": ["site-b", "site-a", "site-c"]}, "plan_invalid", "sites"),
        ({"dimension": D + 1}, "plan_invalid", "dimension"),
        ({"not_after": "2020-01-01T00:00:00Z"}, "plan_invalid", "not_after"),
        ({"preprocessing": {"normalise": "sometimes"}}, "plan_invalid", "preprocessing"),
        ({"dp": {"epsilon": "1"}}, "plan_invalid", "dp"),
        ({"task": {"name": "astrology"}}, "task_invalid", "task"),
        ({"metrics": {"bins": 63}}, "metrics_invalid", "63"),
        ({"strategy": {"name": "sorcery"}}, "strategy_invalid", "sorcery"),
        ({"secure_aggregation": {"b": 16}}, "sa_overflow", "16"),
        ({"secure_aggregation": {"least_survivors": 5}}, "plan_invalid", "least_survivors"),
        ({"secure_aggregation": {"clip": {"default": "1", "tensors": {"v": "1"}}}}, "task_invalid", "'v'"),
        ({"deadlines": {"expire_seconds": 1}}, "plan_invalid", "deadlines"),
        ({"initial_model": "0" * 64}, "initial_model_missing", "0000"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_and_the_key_named(
    scene: Scene, changes: dict[str, Any], code: str, named: str
) -> None:
    scene.operator("PUT", f"/v1/blobs/{sha256_hex(MODEL)}", MODEL)
    size = len(scene.entries())
    with pytest.raises(Exception, match=named) as caught:
        submit(scene, **changes)
    assert getattr(caught.value, "code", "") == code
    assert scene.operator("GET", "/v1/studies")["studies"] == []
    assert len(scene.entries()) == size


def test_a_model_with_nan_is_refused(scene: Scene) -> None:
    array = np.zeros(D, np.float32)
    raw = bytearray(to_bytes({"w": array}))
    raw[-4:] = np.float32("nan").tobytes()
    digest = sha256_hex(raw)
    scene.operator("PUT", f"/v1/blobs/{digest}", bytes(raw))
    assert code_of(lambda: submit(scene, initial_model=digest)) == "model_not_finite"


def test_the_same_plan_again_is_the_same_study_and_another_one_is_a_conflict(scene: Scene) -> None:
    scene.operator("PUT", f"/v1/blobs/{sha256_hex(MODEL)}", MODEL)
    first = submit(scene)
    assert submit(scene) == first
    assert code_of(lambda: submit(scene, title="another")) == "study_exists"
    assert code_of(lambda: scene.operator("GET", "/v1/studies/unknown")) == "study_unknown"


def test_another_researcher_cannot_steer_the_study(scene: Scene) -> None:
    plan = scene.submit()
    answer = scene.operator("POST", "/v1/operators", {"operator": "rival", "role": "researcher"}, role="administrator")
    scene.tokens["rival"] = answer["token"]
    assert code_of(lambda: scene.operator("POST", f"/v1/studies/{plan.study}/start", role="rival")) == "study_not_owned"
    assert code_of(lambda: scene.operator("GET", f"/v1/blobs/{plan.plan_hash}", role="rival")) == "blob_unknown"


def test_start_pause_stop(running: Running) -> None:
    scene, plan = running

    def command(verb: str) -> Any:
        return scene.operator("POST", f"/v1/studies/{plan.study}/{verb}")

    assert command("start")["state"] == "running"
    assert command("pause")["state"] == "paused"
    run_out(scene, 5)
    assert [one.state for one in scene.study(plan).rounds] == ["PUBLISHED"]  # the one under way was finished
    assert command("start")["state"] == "running"
    assert [one.state for one in scene.study(plan).rounds] == ["PUBLISHED", "OPEN"]
    scene.sites["site-a"].upload(scene.live(plan).ctx)
    assert command("stop")["state"] == "stopped"
    assert [one.state for one in scene.study(plan).rounds] == ["PUBLISHED", "ABANDONED"]
    assert scene.coordinator.uploads.contexts() == []
    assert command("stop")["state"] == "stopped"
    assert code_of(lambda: command("start")) == "study_state"
    assert code_of(lambda: command("explode")) == "route_unknown"


def test_stopping_while_shares_are_collected_loses_the_round(running: Running) -> None:
    scene, plan = running
    for _ in range(2):
        for site in scene.sites.values():
            site.work(skip=("unmask",))
        scene.drain()
    assert scene.live(plan).state == "CERTIFIED"
    scene.operator("POST", f"/v1/studies/{plan.study}/stop")
    assert scene.live(plan).state == "LOST"
    assert scene.coordinator.uploads.contexts() == []


def test_a_withdrawn_approval_takes_a_site_out_of_the_next_round(running: Running) -> None:
    scene, plan = running
    scene.sites["site-d"].approve_study(plan, "withdraw")
    run_out(scene, 3)
    assert scene.live(plan).ctx.sites == ["site-a", "site-b", "site-c"]
    assert scene.study(plan).approved_by == ["site-a", "site-b", "site-c"]


def test_a_study_that_waits_says_for_what(scene: Scene) -> None:
    plan = scene.submit()
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    assert "0 of 4 sites are members" in (scene.study(plan).reason or "")
    for name in ("site-a", "site-b"):
        scene.sites[name].approve_study(plan)
    scene.drain()
    reason = scene.study(plan).reason or ""
    assert "2 of 4 sites are members" in reason
    assert "not paired yet: site-a, site-b" in reason
    for name in ("site-c", "site-d"):
        scene.sites[name].approve_study(plan)
    scene.coordinator.lost("site-d")
    scene.pair()
    scene.pass_time(6)
    scene.drain()
    assert scene.live(plan).state == "OPEN"
    assert scene.study(plan).reason is None


def test_a_study_without_a_roster_does_not_start(scene: Scene) -> None:
    plan = scene.submit()
    with scene.coordinator.database.transaction("test") as tx:
        tx.run("UPDATE roster SET state = 'proposed'")
    assert code_of(lambda: scene.operator("POST", f"/v1/studies/{plan.study}/start")) == "roster_missing"


def test_patience_ends_a_study_early(scene: Scene) -> None:
    plan = scene.submit(training={"rounds": 50}, selection={"patience": 2})
    scene.start(plan)
    run_out(scene, 24)
    view = scene.study(plan)
    assert (view.state, view.reason) == ("finished", "converged")
    assert len([one for one in view.rounds if one.kind == "update"]) == 3


def test_too_few_cases_give_no_figures_and_the_newest_version_is_taken(scene: Scene) -> None:
    for site in scene.sites.values():
        site.values = lambda one, ctx: (one_hot(one, ctx)[0], tail_of(ctx, cases=4))
    plan = scene.submit(training={"rounds": 1})
    scene.start(plan)
    run_out(scene, 12)
    view = scene.study(plan)
    assert view.state == "finished"
    assert [one.metrics for one in view.rounds] == [None, None, None]
    assert (view.best_metrics, view.test_metrics) == (None, None)
    assert view.best_model == view.model


# --- watching, blobs, outcomes, export --------------------------------------------------------------------------------


def test_watching_tells_what_every_site_does(running: Running) -> None:
    scene, plan = running
    scene.sites["site-a"].upload(scene.live(plan).ctx)
    scene.sites["site-b"].refuse(scene.live(plan).ctx, "data_changed")
    scene.coordinator.lost("site-d")
    seen = scene.operator("GET", f"/v1/studies/{plan.study}/watch?wait=0")
    assert {name: one["doing"] for name, one in seen["sites"].items()} == {
        "site-a": "uploaded",
        "site-b": "refused:data_changed",
        "site-c": "training",
        "site-d": "offline",
    }
    again = scene.operator("GET", f"/v1/studies/{plan.study}/watch?wait=0&cursor={seen['cursor']}")
    assert again["cursor"] == seen["cursor"]
    assert code_of(lambda: scene.operator("GET", f"/v1/studies/{plan.study}/watch?wait=x")) == "number_malformed"


def test_blobs_are_for_the_studies_sites_and_owner_only(scene: Scene) -> None:
    digest = sha256_hex(MODEL)
    plan = scene.submit(sites=["site-a", "site-b", "site-c"])
    site, outsider = scene.sites["site-a"], scene.sites["site-d"]
    assert site.call("GET", f"/v1/blobs/{digest}") == MODEL
    assert scene.operator("GET", f"/v1/blobs/{digest}") == MODEL
    assert json.loads(site.call("GET", f"/v1/blobs/{plan.plan_hash}"))["study"] == plan.study
    assert code_of(lambda: outsider.call("GET", f"/v1/blobs/{digest}")) == "blob_unknown"
    assert code_of(lambda: site.call("GET", "/v1/blobs/" + "0" * 64)) == "blob_unknown"
    assert code_of(lambda: site.call("GET", "/v1/blobs/..%2fkeys")) == "blob_unknown"
    other = "0" * 64
    assert code_of(lambda: scene.operator("PUT", f"/v1/blobs/{other}", MODEL)) == "blob_mismatch"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("bytes=0-3", slice(0, 4)), ("bytes=10-", slice(10, None)), (f"bytes=5-{10**9}", slice(5, None))],
)
def test_a_download_goes_on_where_it_broke_off(scene: Scene, wanted: str, expected: slice) -> None:
    scene.submit()
    site = scene.sites["site-a"]
    path = f"/v1/blobs/{sha256_hex(MODEL)}"
    status, body = site.transport.request("GET", path, None, {"Range": wanted}, site)
    assert (status, body) == (206, MODEL[expected])


@pytest.mark.parametrize("wanted", ["bytes=9999-", "bytes=-5", "bytes=4-2", "lines=1-2", "bytes=0-1,3-4"])
def test_a_range_outside_the_blob_is_refused(scene: Scene, wanted: str) -> None:
    scene.submit()
    site = scene.sites["site-a"]
    path = f"/v1/blobs/{sha256_hex(MODEL)}"
    assert code_of(lambda: site.call("GET", path, headers={"Range": wanted})) == "range_invalid"


def test_outcomes_come_with_a_proof_and_the_attestations(running: Running) -> None:
    scene, plan = running
    run_out(scene, 3)
    site, log = scene.sites["site-a"], scene.coordinator.log
    first = PublishedOutcome.check(site.outcomes(plan.study)[0])
    proved = verify_inclusion_bundle(first.inclusion, log.vkey, log.origin)
    assert proved.entry["type"] == "round.result"
    assert proved.entry["data"]["outcome"] == first.outcome.as_json()
    assert first.outcome.ctx_hash == first.ctx.ctx_hash
    raw = site.attest(plan.study, 1, first.ctx.ctx_hash, first.outcome.model_sha256)
    receipt = open_envelope(from_b64u(json.loads(raw)["receipt"]), "receipt", {"coordinator": log.idk.verify_key})
    assert scene.entries()[receipt.body["log_index"]]["type"] == "round.attested"
    again = PublishedOutcome.check(site.outcomes(plan.study)[0])
    keys = {"site-a": VerifyKey.from_bytes(site.idk.verify_key.bytes)}
    attested = open_envelope(from_b64u(again.attestations["site-a"]), "attestation", keys)
    assert attested.body["model"] == first.outcome.model_sha256
    assert site.outcomes(plan.study, after=1) == []
    b = scene.sites["site-b"]
    assert code_of(lambda: b.attest(plan.study, 1, first.ctx.ctx_hash, "0" * 64)) == "attestation_mismatch"
    assert code_of(lambda: b.attest(plan.study, 2, first.ctx.ctx_hash, "0" * 64)) == "attestation_mismatch"
    b.attest(plan.study, 1, first.ctx.ctx_hash, first.outcome.model_sha256)
    assert (
        code_of(lambda: b.attest(plan.study, 1, first.ctx.ctx_hash, first.outcome.model_sha256)) == "statement_conflict"
    )


def test_complaints_are_kept_as_evidence(running: Running) -> None:
    scene, plan = running
    site, ctx_hash = scene.sites["site-a"], scene.live(plan).ctx_hash

    def complain(**changes: Any) -> bytes:
        body = {
            "ctx_hash": ctx_hash,
            "pairing_hash": None,
            "about": "site-b",
            "code": "share_unreadable",
            "blob_hash": "0" * 64,
        }
        envelope = site.sign("complaint", {**body, **changes})
        return site.call("PUT", f"/v1/complaints/site-a/{site.prev}", envelope)

    complain()
    complain(ctx_hash=None, pairing_hash="1" * 64)
    assert [entry["type"] for entry in scene.entries()[-2:]] == ["round.complaint", "pairing.complaint"]
    assert code_of(lambda: complain(ctx_hash=None)) == "message_malformed"
    envelope = site.sign(
        "complaint", {"ctx_hash": ctx_hash, "pairing_hash": None, "about": "b", "code": "c", "blob_hash": "0" * 64}
    )
    assert code_of(lambda: site.call("PUT", "/v1/complaints/site-a/" + "0" * 64, envelope)) == "message_malformed"


def test_a_dealer_whom_enough_sites_complain_about_is_kept_out(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    for site in scene.sites.values():
        site.upload(ctx)
    scene.drain()
    for name in ("site-a", "site-b"):
        site = scene.sites[name]
        body = {
            "ctx_hash": ctx.ctx_hash,
            "pairing_hash": None,
            "about": "site-d",
            "code": "share_unreadable",
            "blob_hash": "0" * 64,
        }
        envelope = site.sign("complaint", body)
        site.call("PUT", f"/v1/complaints/{name}/{site.prev}", envelope)
    run_out(scene, 2)
    assert scene.contexts(plan)[0].state == "PUBLISHED"
    assert scene.live(plan).ctx.sites == ["site-a", "site-b", "site-c"]


def test_the_export_is_verified_offline(running: Running, tmp_path: Path) -> None:
    scene, plan = running
    scene.sites["site-c"].refuse(scene.live(plan).ctx)
    run_out(scene, 12)
    path = tmp_path / "export.zip"
    raw = scene.operator("GET", "/v1/audit/export", role="auditor")
    path.write_bytes(raw)
    report = verify_export(path)
    assert report.ok, report.lines()
    contexts = zipfile.ZipFile(io.BytesIO(raw)).read("contexts.ndjson").splitlines()
    assert len(contexts) == len(scene.contexts(plan))
    assert scene.entries()[-1]["type"] == "audit.exported"
    assert code_of(lambda: scene.operator("GET", "/v1/audit/export")) == "permission_denied"


def exported(scene: Scene, folder: Path, query: str = "") -> Report:
    path = folder / "export.zip"
    path.write_bytes(scene.operator("GET", f"/v1/audit/export{query}", role="auditor"))
    return verify_export(path)


def test_a_study_and_a_time_are_exported_alone(running: Running, tmp_path: Path) -> None:
    scene, plan = running
    run_out(scene, 12)
    size = len(scene.entries())
    middle = scene.entries()[size // 2]["ts"]
    for query in (f"?study={plan.study}", f"?from={middle}", f"?to={middle}", f"?study={plan.study}&from={middle}"):
        report = exported(scene, tmp_path, query)
        assert report.ok, report.lines()
        assert "entries are here, each under the root" in "\n".join(report.lines())
    assert code_of(lambda: scene.operator("GET", "/v1/audit/export?study=no", role="auditor")) == "study_unknown"
    assert code_of(lambda: scene.operator("GET", "/v1/audit/export?from=soon", role="auditor")) == "timestamp_malformed"
    assert code_of(lambda: scene.operator("GET", "/v1/audit/export?final=true", role="auditor")) == "log_head_pending"


def test_an_erased_disclosure_is_gone_and_every_proof_holds(running: Running, tmp_path: Path) -> None:
    scene, _ = running
    scene.operator("POST", "/v1/sites/site-d/revoke", {"reason": "Dr Who asked on the phone"}, role="administrator")
    index = next(number for number, one in enumerate(scene.entries()) if one["type"] == "cert.revoked")
    before = exported(scene, tmp_path)
    assert before.ok, before.lines()
    assert b"Dr Who" in zipfile.ZipFile(tmp_path / "export.zip").read("disclosures.ndjson")
    wanted = {"entry": index, "field": "reason_text", "basis": "gdpr-17"}
    erase = partial(scene.operator, "POST", "/v1/audit/erasures", role="administrator")
    assert code_of(lambda: scene.operator("POST", "/v1/audit/erasures", wanted, role="auditor")) == "permission_denied"
    assert code_of(lambda: erase({**wanted, "basis": "Dr Who asked"})) == "basis_malformed"
    erase(wanted)
    assert code_of(lambda: erase(wanted)) == "disclosure_missing"
    after = exported(scene, tmp_path)
    assert after.ok, after.lines()
    assert "1 were erased by signed orders" in "\n".join(after.lines())
    state = [path.read_bytes() for path in scene.state.rglob("*") if path.is_file()]
    assert not any(b"Dr Who" in content for content in state)
    assert exported(scene, tmp_path, "?disclosures=none").ok


def test_a_full_disk_is_said_and_nothing_is_half_done(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, plan = running
    site, ctx = scene.sites["site-a"], scene.live(plan).ctx
    site.put_chunk(ctx, 0)

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "fsync", full)
    assert code_of(lambda: site.put_shares(ctx)) == "storage_full"
    status, _ = site.transport.request(
        "PUT", f"/v1/rounds/{ctx.ctx_hash}/shares/site-a", site.seal_update(ctx).shares, {}, site
    )
    assert status == 507
    monkeypatch.undo()
    assert sorted(path.name[:6] for path in scene.coordinator.uploads.folder(ctx.ctx_hash, "site-a").iterdir()) == [
        "chunk-"
    ]
    site.put_shares(ctx)
    site.put_manifest(ctx)


def test_a_full_disk_at_publication_is_tried_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, plan = running

    def full(_data: bytes) -> str:
        raise Unavailable("storage_full")

    monkeypatch.setattr(scene.coordinator.blobs, "put", full)
    with pytest.raises(Unavailable, match="storage_full"):
        run_out(scene, 3)
    assert scene.contexts(plan)[0].state == "AGGREGATED"
    monkeypatch.undo()
    scene.pass_time(5)
    assert scene.contexts(plan)[0].state == "PUBLISHED"


# --- what the router refuses ------------------------------------------------------------------------------------------


def test_unknown_paths_methods_and_bodies(scene: Scene) -> None:
    site = scene.sites["site-a"]
    assert code_of(lambda: site.call("GET", "/v1/nothing")) == "route_unknown"
    assert code_of(lambda: site.call("DELETE", "/v1/agent/poll")) == "method_not_allowed"
    assert code_of(lambda: site.call("GET", "/v1/log/checkpoint", b"body")) == "body_too_large"
    assert code_of(lambda: site.call("PUT", "/v1/rosters/x/approvals/site-a", b"{}")) == "number_malformed"
    assert code_of(lambda: site.call("PUT", "/v1/rosters/1/approvals/site-a", b"{}")) == "envelope_malformed"
    assert code_of(lambda: site.call("PUT", "/v1/rosters/1/approvals/site-a", b"x" * 70_000)) == "body_too_large"
    assert code_of(lambda: scene.operator("POST", "/v1/studies", b"{")) == "json_malformed"
    assert code_of(lambda: site.poll(wait=-1)) == "number_malformed"


def test_a_bug_of_ours_tells_nothing_but_its_request_id(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(scene.coordinator.log, "sign_checkpoint", broken)
    site = scene.sites["site-a"]
    status, body = site.transport.request("GET", "/v1/log/checkpoint", None, {}, site)
    assert status == 500
    assert b"secret" not in body
    assert json.loads(body)["code"] == "internal_error"
    assert json.loads(body)["request_id"]
