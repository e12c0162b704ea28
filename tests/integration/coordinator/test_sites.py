"""Who may speak: enrolment, revocation, leases, names; each refusal has its code and an entry where it matters."""

import functools
import json
from datetime import timedelta
from typing import Any

import pytest

from coordinator.api.routes import AGENT_ROUTES
from coordinator.rounds import masked_update
from shared.canonical import b64u
from shared.crypto import x509
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import sign_envelope
from shared.protocol.enrolment import Invitation
from shared.protocol.study import Plan
from shared.secagg.roster import roster_hash
from tests.support.coordinator_scene import InProcess, Scene
from tests.support.fake_site import FakeSite, code_of

Running = tuple[Scene, Plan]


def invite(scene: Scene, name: str) -> Invitation:
    return Invitation.check(
        scene.operator("POST", "/v1/sites/invitations", {"site": name, "name": "St. Elsewhere"}, role="administrator")
    )


def states(scene: Scene) -> dict[str, str]:
    return {one["site"]: one["state"] for one in scene.operator("GET", "/v1/sites", role="viewer")["sites"]}


def types(scene: Scene) -> list[str]:
    return [entry["type"] for entry in scene.entries()]


# --- enrolment --------------------------------------------------------------------------------------------------------


def test_enrolment_from_invitation_to_certificate(scene: Scene) -> None:
    invitation = invite(scene, "site-e")
    assert states(scene)["site-e"] == "invited"
    site = FakeSite("site-e", InProcess(scene))
    fingerprint = site.enrol(invitation)
    assert states(scene)["site-e"] == "pending"
    assert not site.fetch_certificate()
    typed = fingerprint.lower().replace("-", " ")
    scene.operator("POST", "/v1/sites/site-e/approve", {"fingerprint": typed}, role="administrator")
    assert site.fetch_certificate()
    facts = x509.read_site_certificate(site.chain[0])
    assert (facts.site_id, facts.federation) == ("site-e", "federation-1")
    assert site.poll().commands == []
    assert types(scene)[-4:] == ["enrol.invited", "enrol.requested", "enrol.approved", "cert.issued"]
    assert "St. Elsewhere" not in json.dumps(scene.entries())


def test_the_identical_request_again_gets_the_identical_answer_and_another_one_does_not(scene: Scene) -> None:
    invitation = invite(scene, "site-e")
    site = FakeSite("site-e", InProcess(scene))
    body = site.enrolment_request(invitation).canonical()
    first = site.call("POST", "/v1/enrol", body)
    assert site.call("POST", "/v1/enrol", body) == first
    thief = FakeSite("site-e", InProcess(scene))
    assert code_of(lambda: thief.enrol(invitation)) == "enrolment_token_used"
    assert types(scene)[-1] == "alert.enrolment_token_used"
    scene.operator(
        "POST", "/v1/sites/site-e/approve", {"fingerprint": json.loads(first)["fingerprint"]}, role="administrator"
    )
    site.request_id = json.loads(first)["request_id"]
    assert site.fetch_certificate()


def test_a_wrong_fingerprint_approves_nobody(scene: Scene) -> None:
    site = FakeSite("site-e", InProcess(scene))
    site.enrol(invite(scene, "site-e"))
    other = "00000-00000-00000-00000"

    def approve(fingerprint: str) -> Any:
        return scene.operator("POST", "/v1/sites/site-e/approve", {"fingerprint": fingerprint}, role="administrator")

    assert code_of(lambda: approve(other)) == "fingerprint_mismatch"
    assert code_of(lambda: approve("short")) == "fingerprint_malformed"
    assert states(scene)["site-e"] == "pending"
    assert not site.fetch_certificate()


def test_a_rejected_site_gets_no_certificate_and_its_token_is_dead(scene: Scene) -> None:
    invitation = invite(scene, "site-e")
    site = FakeSite("site-e", InProcess(scene))
    site.enrol(invitation)
    scene.operator("POST", "/v1/sites/site-e/reject", role="administrator")
    assert code_of(site.fetch_certificate) == "enrolment_rejected"
    again = FakeSite("site-e", InProcess(scene))
    assert code_of(lambda: again.enrol(invitation)) == "enrolment_token_used"
    again.enrol(invite(scene, "site-e"))


def test_tokens_expire_and_newer_invitations_replace_older_ones(scene: Scene) -> None:
    first, second = invite(scene, "site-e"), invite(scene, "site-e")
    site = FakeSite("site-e", InProcess(scene))
    assert code_of(lambda: site.enrol(first)) == "enrolment_token_unknown"
    scene.clock.at += timedelta(hours=73)
    assert code_of(lambda: site.enrol(second)) == "enrolment_token_expired"
    assert code_of(lambda: site.enrol(first.model_copy(update={"token": "FT1-NOPE"}))) == "enrolment_token_unknown"


def test_no_invitation_for_a_site_that_is_approved(scene: Scene) -> None:
    assert code_of(lambda: invite(scene, "site-a")) == "site_exists"
    assert code_of(lambda: invite(scene, "Site A")) == "id_malformed"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("csr", b64u(b"no request"), "csr_invalid"),
        ("attest", b64u(bytes(64)), "signature_invalid"),
        ("kem_attest", b64u(bytes(64)), "signature_invalid"),
        ("idk", b64u(bytes(32)), "key_malformed"),
        ("log_key", b64u(bytes(31)), "base64_malformed"),
        ("name", "x" * 201, "message_malformed"),
    ],
)
def test_a_request_that_is_not_right_does_not_consume_the_token(
    scene: Scene, field: str, value: str, code: str
) -> None:
    invitation = invite(scene, "site-e")
    site = FakeSite("site-e", InProcess(scene))
    bad = site.enrolment_request(invitation).model_copy(update={field: value})
    if field == "csr":
        bad = bad.model_copy(update={"attest": b64u(site.idk.sign(bad.attested(invitation.pin)))})
    assert code_of(lambda: site.call("POST", "/v1/enrol", bad.canonical())) == code
    site.enrol(invitation)


def test_the_request_is_bound_to_the_invitations_pin_and_token(scene: Scene) -> None:
    invitation = invite(scene, "site-e")
    site = FakeSite("site-e", InProcess(scene))
    other_pin = invitation.model_copy(update={"pin": "0" * 64})
    assert code_of(lambda: site.enrol(other_pin)) == "signature_invalid"
    other = invite(scene, "site-f")
    moved = site.enrolment_request(other).model_copy(update={"token": invitation.token})
    assert code_of(lambda: site.call("POST", "/v1/enrol", moved.canonical())) == "signature_invalid"


def test_only_the_site_itself_can_fetch_its_certificate(scene: Scene) -> None:
    site = FakeSite("site-e", InProcess(scene))
    site.enrol(invite(scene, "site-e"))
    thief = FakeSite("site-e", InProcess(scene), request_id=site.request_id)
    assert code_of(thief.fetch_certificate) == "signature_invalid"
    assert code_of(lambda: site.call("GET", f"/v1/enrol/{site.request_id}")) == "envelope_malformed"
    poll = {"v": "SA1", "kind": "enrolment", "request_id": "other", "at": "2026-11-21T09:00:00.000Z"}
    envelope = b64u(sign_envelope("enrolment", poll, "site-e", site.idk))
    headers = {"Authorization": f"DSSE {envelope}"}
    assert code_of(lambda: site.call("GET", f"/v1/enrol/{site.request_id}", headers=headers)) == "message_malformed"
    site.request_id = "unknown"
    assert code_of(site.fetch_certificate) == "enrolment_unknown"


# --- certificates and names -------------------------------------------------------------------------------------------


def test_every_site_route_needs_a_certificate(scene: Scene) -> None:
    stranger = FakeSite("site-z", InProcess(scene))
    for route in AGENT_ROUTES:
        if route.access == "site":
            path = route.path.format(
                sha256="0" * 64, version=1, site="site-a", study="s", ctx_hash="0" * 64, chunk=0, digest="0" * 64,
                start=0, end=1, size=1,
            )  # fmt: skip
            assert code_of(functools.partial(stranger.call, route.method, path)) == "certificate_required"


def test_a_revoked_site_is_shut_out_at_once_everywhere(running: Running) -> None:
    scene, plan = running
    site, ctx = scene.sites["site-a"], scene.live(plan).ctx
    site.put_chunk(ctx, 0)
    site.put_shares(ctx)
    scene.operator("POST", "/v1/sites/site-a/revoke", {"reason": "a laptop was stolen"}, role="administrator")
    for act in (
        site.poll,
        lambda: site.put_manifest(ctx),
        lambda: site.put_chunk(ctx, 0),
        lambda: site.approve_study(plan, "withdraw"),
        lambda: site.call("GET", f"/v1/blobs/{plan.plan_hash}"),
        lambda: site.call("GET", "/v1/log/checkpoint"),
    ):
        assert code_of(act) == "site_revoked"
    assert "laptop" not in json.dumps(scene.entries())
    entry = next(one for one in scene.entries() if one["type"] == "cert.revoked")
    assert (entry["type"], [shown["field"] for shown in entry["sd"]]) == ("cert.revoked", ["reason_text"])
    assert (
        code_of(lambda: scene.operator("POST", "/v1/sites/site-a/revoke", role="administrator")) == "site_not_approved"
    )


def test_revocation_between_the_request_and_its_commit_counts(running: Running, monkeypatch: Any) -> None:
    """The certificate was good when the request came in; the transaction looks again (PROTOCOLS C3)."""
    scene, plan = running
    site, ctx = scene.sites["site-a"], scene.live(plan).ctx
    site.put_chunk(ctx, 0)
    site.put_shares(ctx)
    actual = masked_update.check_manifest

    def revoke_meanwhile(*arguments: Any) -> Any:
        manifest = actual(*arguments)
        with scene.coordinator.database.transaction("test") as tx:
            tx.run("UPDATE site SET state = 'revoked' WHERE site = 'site-a'")
        return manifest

    monkeypatch.setattr(masked_update, "check_manifest", revoke_meanwhile)
    assert code_of(lambda: site.put_manifest(ctx)) == "site_revoked"
    assert scene.study(plan).rounds[0].uploaded == []


def test_an_older_certificate_and_one_of_another_federation_are_refused(scene: Scene) -> None:
    site, keys = scene.sites["site-a"], scene.coordinator.keys
    csr = x509.make_csr(site.tls)
    old = keys.issue_site_certificate(csr, "federation-1", "site-a", scene.clock.at, 7)
    foreign = keys.issue_site_certificate(csr, "elsewhere", "site-a", scene.clock.at, 7)
    good = site.chain
    for certificate, code in (
        (old, "certificate_superseded"),
        (foreign, "site_not_approved"),
        (b"junk", "certificate_malformed"),
    ):
        site.chain = [certificate]
        assert code_of(site.poll) == code
    site.chain = good
    scene.clock.at += timedelta(days=8)
    assert code_of(site.poll) == "certificate_expired"


def test_nobody_acts_in_anothers_name(running: Running) -> None:
    scene, plan = running
    a, b = scene.sites["site-a"], scene.sites["site-b"]
    ctx = scene.live(plan).ctx
    ctx_hash = ctx.ctx_hash
    chunk = b.seal_update(ctx).chunks[0]
    signed_by_b = b.sign("refusal", {"ctx_hash": ctx_hash, "code": "no", "detail": ""}, keep=False)
    forged = sign_envelope(
        "refusal",
        {"ctx_hash": ctx_hash, "code": "no", "detail": "", "site": "site-b", "seq": 99, "prev": "0" * 64},
        "site-a",
        a.idk,
    )
    for call in (
        lambda: a.call("PUT", f"/v1/rounds/{ctx_hash}/uploads/site-b/0", chunk),
        lambda: a.call("GET", f"/v1/rounds/{ctx_hash}/uploads/site-b"),
        lambda: a.call("PUT", f"/v1/rounds/{ctx_hash}/refusal/site-b", signed_by_b),
        lambda: a.call("PUT", f"/v1/rounds/{ctx_hash}/refusal/site-a", signed_by_b),
        lambda: a.call("PUT", f"/v1/rounds/{ctx_hash}/refusal/site-a", forged),
        lambda: a.call("GET", f"/v1/rounds/{ctx_hash}/unmask-request/site-b"),
    ):
        assert code_of(call) == "site_mismatch"
    stolen = sign_envelope(
        "refusal",
        {"ctx_hash": ctx_hash, "code": "no", "detail": "", "site": "site-a", "seq": 99, "prev": "0" * 64},
        "site-a",
        SigningKey.generate(),
    )
    assert code_of(lambda: a.call("PUT", f"/v1/rounds/{ctx_hash}/refusal/site-a", stolen)) == "signature_invalid"
    assert (
        code_of(lambda: a.call("PUT", f"/v1/rounds/{ctx_hash}/decision/site-a", a.sign("refusal", {}, keep=False)))
        == "envelope_kind"
    )
    assert scene.study(plan).rounds[0].refused == {}


def test_two_messages_under_one_number_are_a_conflict_and_an_alert(scene: Scene) -> None:
    plan = scene.submit()
    site = scene.sites["site-a"]
    site.approve_study(plan)
    site.seq -= 1
    assert code_of(lambda: site.approve_study(plan, "withdraw")) == "seq_reused"
    assert types(scene)[-1] == "alert.seq_reused"
    assert scene.study(plan).approved_by == ["site-a"]


def test_the_same_statement_again_is_the_same_receipt_and_no_second_entry(scene: Scene) -> None:
    plan = scene.submit()
    site = scene.sites["site-a"]
    payload = {"v": "SA1", "kind": "study", "study": plan.study, "plan": plan.plan_hash, "decision": "approve"}
    envelope = site.sign("approval", payload)
    path = f"/v1/studies/{plan.study}/approvals/site-a"
    first = site.call("PUT", path, envelope)
    size = len(scene.entries())
    scene.clock.at += timedelta(hours=1)
    assert site.call("PUT", path, envelope) == first
    assert len(scene.entries()) == size


# --- leases -----------------------------------------------------------------------------------------------------------


def test_the_lease_goes_to_the_first_and_then_to_its_own_restarts_only(scene: Scene) -> None:
    site = scene.sites["site-a"]
    site.instance = "one"
    site.poll()
    site.instance, site.previous = "two", "one"
    site.poll()
    site.instance, site.previous = "copy", "one"  # a copied folder: it knows the previous start, not the present one
    assert code_of(site.poll) == "instance_conflict"
    assert types(scene)[-1] == "alert.instance_conflict"
    site.instance, site.previous = "one", ""  # the superseded one polls again
    assert code_of(site.poll) == "instance_conflict"
    site.instance, site.previous = "two", "one"
    site.poll()
    site.instance, site.previous = "three", "two"
    site.poll()
    scene.restart()
    site.instance, site.previous = "two", "one"
    assert code_of(site.poll) == "instance_conflict"
    site.instance = ""
    assert code_of(site.poll) == "field_invalid"


# --- rosters ----------------------------------------------------------------------------------------------------------


def test_a_roster_is_active_only_when_everybody_listed_has_signed(scene: Scene) -> None:
    scene.enrol(FakeSite("site-e", InProcess(scene)))
    version = scene.operator("POST", "/v1/rosters", {}, role="administrator")["version"]
    assert version == 2
    for name in ("site-a", "site-b", "site-c", "site-d"):
        scene.sites[name].approve_roster(2)
    listed = scene.operator("GET", "/v1/rosters")["rosters"]
    assert [(one["version"], one["state"]) for one in listed] == [(1, "active"), (2, "proposed")]
    scene.sites["site-e"].approve_roster(2)
    listed = scene.operator("GET", "/v1/rosters")["rosters"]
    assert [(one["version"], one["state"]) for one in listed] == [(1, "superseded"), (2, "active")]
    assert listed[1]["fingerprint"].count("-") == 3
    assert types(scene)[-1] == "roster.activated"


def test_a_newer_proposal_replaces_an_older_one_and_follows_the_active_one(scene: Scene) -> None:
    scene.enrol(FakeSite("site-e", InProcess(scene)))
    scene.operator("POST", "/v1/rosters", {}, role="administrator")
    second = scene.operator("POST", "/v1/rosters", {"c": 2}, role="administrator")
    assert (second["version"], second["c"]) == (3, 2)
    assert code_of(lambda: scene.sites["site-a"].approve_roster(2)) == "roster_superseded"
    for site in scene.sites.values():
        site.approve_roster(3)
    assert (
        scene.operator("GET", "/v1/rosters/3")["roster"]["prev"]
        == scene.operator("GET", "/v1/rosters")["rosters"][0]["roster_hash"]
    )


def test_a_roster_that_would_not_change_or_cannot_be_is_refused(scene: Scene) -> None:
    def propose(**body: Any) -> Any:
        return scene.operator("POST", "/v1/rosters", body, role="administrator")

    assert code_of(propose) == "roster_unchanged"
    assert code_of(lambda: propose(c=4)) == "roster_bound_invalid"
    assert code_of(lambda: propose(c="1")) == "field_invalid"
    assert code_of(lambda: propose(d=1)) == "field_unknown"
    assert code_of(lambda: scene.operator("GET", "/v1/rosters/9")) == "roster_unknown"


def test_a_roster_is_renewed_in_its_last_days_and_nothing_opens_under_an_expired_one(running: Running) -> None:
    scene, plan = running

    def propose() -> Any:
        return scene.operator("POST", "/v1/rosters", {}, role="administrator")

    assert code_of(propose) == "roster_unchanged"
    with scene.coordinator.database.transaction("age the roster") as tx:
        text = tx.value("SELECT roster FROM roster WHERE version = 1")
        roster = json.loads(text) | {"not_after": str((scene.clock.now() - timedelta(days=1)).date())}
        tx.run(
            "UPDATE roster SET roster = :roster, roster_hash = :digest WHERE version = 1",
            roster=json.dumps(roster), digest=roster_hash(roster),
        )  # fmt: skip
        tx.touch(f"study/{plan.study}")
    scene.drain()
    assert scene.live(plan).state == "ABANDONED"
    assert "ran out" in (scene.study(plan).reason or "")
    assert propose()["version"] == 2


def test_a_new_roster_asks_for_new_pairings(running: Running) -> None:
    scene, plan = running
    scene.operator("POST", f"/v1/studies/{plan.study}/pause")
    for name in ("site-a", "site-b"):
        scene.sites[name].refuse(scene.live(plan).ctx)
    scene.drain()
    assert scene.live(plan).state == "ABANDONED"
    scene.operator("POST", "/v1/rosters", {"c": 2}, role="administrator")
    for site in scene.sites.values():
        site.approve_roster(2)
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    assert "not paired yet" in (scene.study(plan).reason or "")
    for site in scene.sites.values():
        assert [one.serial for one in site.poll(cursor="").commands if one.kind == "pairing"] == [2]
    scene.pair()
    assert (scene.live(plan).state, scene.live(plan).ctx.c) == ("OPEN", 2)


@pytest.mark.parametrize("closing", [False, True])
def test_a_new_roster_ends_the_round_of_the_old_one_at_once(running: Running, *, closing: bool) -> None:
    scene, plan = running
    if closing:
        for site in scene.sites.values():
            site.upload(scene.live(plan).ctx)
        scene.drain()
    old = scene.live(plan)
    assert old.state == ("CLOSING" if closing else "OPEN")
    scene.activate_roster(c=2)
    scene.drain()
    ended = next(one for one in scene.contexts(plan) if one.ctx_hash == old.ctx_hash)
    assert ended.state == ("LOST" if closing else "ABANDONED")
    assert "another roster came into force" in ended.reason
    scene.pair()
    assert (scene.live(plan).state, scene.live(plan).ctx.c) == ("OPEN", 2)
