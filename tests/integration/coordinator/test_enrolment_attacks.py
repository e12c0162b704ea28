"""Attacks on enrolment and on certificates, against the running service over real TLS (PROTOCOLS C2, C3)."""

import contextlib
import http.client
import json
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.api.routes import AGENT_ROUTES
from coordinator.cli.rest import Rest
from shared.canonical import b64u, from_b64u
from shared.clock import timestamp
from shared.crypto import x509
from shared.crypto.certificate_keys import is_certificate_for
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import sign_envelope
from shared.errors import MitralError
from shared.protocol.certificates import Renewal, Renewed
from shared.protocol.enrolment import EnrolmentPending, Invitation
from tests.integration.coordinator.test_service import handshake, is_cut_off
from tests.support.coordinator_scene import Scene
from tests.support.coordinator_service import Service, fixed_access
from tests.support.fake_site import FakeSite, code_of
from tests.support.https_transport import client_context


@pytest.fixture(scope="module")
def server(prepared: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return one running service for all attacks; each is on a site of its own."""
    scene = prepared.copy_to(tmp_path_factory.mktemp("attacked"))
    scene.coordinator.database.close()
    made = Service(scene.state, scene)
    made.start()
    yield made
    made.transport.close()
    if made.process.poll() is None:
        made.stop()
    scene.runner.close()


def admin(server: Service) -> Rest:
    return Rest(fixed_access(server))


def invite(server: Service, name: str) -> Invitation:
    return Invitation.check(admin(server).post("/v1/sites/invitations", {"site": name}))


def stranger(server: Service, name: str) -> FakeSite:
    """Return somebody who says to be `name`, with keys of its own."""
    return FakeSite(name, server.transport)


def join(server: Service, name: str) -> FakeSite:
    """Take a site from invitation to certificate."""
    site = stranger(server, name)
    fingerprint = site.enrol(invite(server, name))
    admin(server).post(f"/v1/sites/{name}/approve", {"fingerprint": fingerprint})
    assert site.fetch_certificate()
    return site


def view(server: Service, name: str) -> dict[str, Any]:
    listed: list[dict[str, Any]] = admin(server).get("/v1/sites")["sites"]
    return next(one for one in listed if one["site"] == name)


def sql(server: Service, statement: str, *values: object) -> list[Any]:
    with contextlib.closing(sqlite3.connect(server.state / "coordinator.sqlite", timeout=30)) as database, database:
        return database.execute(statement, values).fetchall()


def entries(server: Service, type_: str, site: str) -> list[dict[str, Any]]:
    rows = sql(server, "SELECT leaf FROM log_leaf WHERE type = ? ORDER BY idx", type_)
    found = [json.loads(row[0]) for row in rows]
    return [entry for entry in found if site in {entry["data"].get("site"), (entry["subject"] or {}).get("id")}]


def renewal(site: FakeSite, nonce: str | None = None, **changes: Any) -> bytes:
    """Return a signed renewal; `changes` are a liar's."""
    csr = b64u(x509.make_csr(changes.get("tls", site.tls)))
    message = Renewal(v="SA1", kind="renewal", site=changes.get("names", site.name), csr=csr, nonce=nonce)
    return sign_envelope("enrolment", message.as_json(), changes.get("signer", site.name), changes.get("key", site.idk))


def nonce(site: FakeSite) -> str:
    return str(json.loads(site.call("GET", "/v1/nonce"))["nonce"])


# --- the token --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(4))
def test_of_two_agents_with_one_token_at_once_exactly_one_is_heard(server: Service, attempt: int) -> None:
    name = f"race-{attempt}"
    invitation = invite(server, name)
    agents = [FakeSite(name, type(server.transport)(f"https://127.0.0.1:{server.settings.agent_port}", server.root))
              for _ in range(2)]  # fmt: skip
    barrier, outcomes = threading.Barrier(2), {}

    def enrol(index: int) -> None:
        barrier.wait()
        try:
            outcomes[index] = agents[index].enrol(invitation)
        except MitralError as error:
            outcomes[index] = error.code

    threads = [threading.Thread(target=enrol, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert max(outcomes.values()) == "enrolment_token_used"
    winner = next(index for index, found in outcomes.items() if found != "enrolment_token_used")
    assert view(server, name)["fingerprint"] == outcomes[winner]
    assert len(entries(server, "enrol.requested", name)) == 1
    assert len(entries(server, "alert.enrolment_token_used", name)) == 1
    for agent in agents:
        agent.transport.close()  # type: ignore[attr-defined]


def test_an_expired_token_is_of_no_use(server: Service) -> None:
    invitation = invite(server, "late")
    sql(server, "UPDATE invitation SET expires_at = ? WHERE site = 'late'", timestamp(datetime.now(UTC)))
    assert code_of(lambda: stranger(server, "late").enrol(invitation)) == "enrolment_token_expired"
    assert view(server, "late")["state"] == "invited"


def test_an_invented_or_replaced_token_is_of_no_use(server: Service) -> None:
    first = invite(server, "replaced")
    invite(server, "replaced")
    for token in (first.token, "FT1-" + "A" * 36, ""):
        forged = first.model_copy(update={"token": token})
        assert code_of(lambda forged=forged: stranger(server, "replaced").enrol(forged)) == "enrolment_token_unknown"  # type: ignore[misc]


# --- somebody in between ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["csr", "log_key", "kem"])
def test_a_key_that_was_swapped_on_the_way_is_noticed_and_the_token_stays_good(server: Service, field: str) -> None:
    name = f"swapped-{field.replace('_', '-')}"
    invitation, site = invite(server, name), stranger(server, name)
    thief = stranger(server, name).enrolment_request(invitation)
    swapped = site.enrolment_request(invitation).model_copy(update={field: getattr(thief, field)})
    assert code_of(lambda: site.call("POST", "/v1/enrol", swapped.canonical())) == "signature_invalid"
    assert view(server, name)["state"] == "invited"
    site.enrol(invitation)


def test_who_swaps_every_key_shows_another_fingerprint_and_gets_nothing(server: Service) -> None:
    invitation, site, thief = invite(server, "between"), stranger(server, "between"), stranger(server, "between")
    theirs = thief.enrol(invitation)
    assert code_of(lambda: site.enrol(invitation)) == "enrolment_token_used"
    own = EnrolmentPending.parse(
        stranger(server, "elsewhere").call(
            "POST", "/v1/enrol", site.enrolment_request(invite(server, "elsewhere")).canonical()
        )
    ).fingerprint
    assert own != theirs
    path = "/v1/sites/between/approve"
    assert code_of(lambda: admin(server).post(path, {"fingerprint": own})) == "fingerprint_mismatch"
    assert not thief.fetch_certificate()
    assert entries(server, "cert.issued", "between") == []
    assert len(entries(server, "alert.enrolment_token_used", "between")) == 1


def test_a_certificate_is_fetched_by_the_identity_that_asked_for_it_only(server: Service) -> None:
    site = stranger(server, "fetched")
    fingerprint = site.enrol(invite(server, "fetched"))
    admin(server).post("/v1/sites/fetched/approve", {"fingerprint": fingerprint})
    thief = replace(site, idk=SigningKey.generate())
    assert code_of(thief.fetch_certificate) == "signature_invalid"
    assert site.fetch_certificate()
    assert is_certificate_for(site.chain[0], x509.make_csr(site.tls))


def test_the_pin_finds_out_another_coordinator(server: Service) -> None:
    """An agent trusts the invitation's root and nothing else: whoever else answers is not heard."""
    other = x509.create_authority("federation-1", datetime.now(UTC)).root.cert_der
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed"):
        handshake(server, [], None, root=other)


# --- renewal ----------------------------------------------------------------------------------------------------------


def test_a_renewal_replaces_the_certificate_and_a_replay_makes_no_second_one(server: Service) -> None:
    site = join(server, "renewing")
    body = renewal(site, tls=(tls := x509.TlsKey.generate()))
    first = Renewed.parse(site.call("POST", "/v1/renew", body))
    assert Renewed.parse(site.call("POST", "/v1/renew", body)) == first
    assert len(entries(server, "cert.renewed", "renewing")) == 1
    chain = [from_b64u(der) for der in first.chain]
    assert is_certificate_for(chain[0], x509.make_csr(tls))
    assert b"200 OK" in handshake(server, chain, tls)
    assert b"200 OK" in handshake(server, site.chain, site.tls), "requests under way are not cut off"
    sql(server, "UPDATE site SET renewed_at = ? WHERE site = 'renewing'",
        timestamp(datetime.now(UTC) - timedelta(minutes=11)))  # fmt: skip
    assert b"certificate_superseded" in handshake(server, site.chain, site.tls)


def test_a_renewal_under_a_wrong_identity_is_refused(server: Service) -> None:
    site, other = join(server, "victim"), join(server, "other")
    anybody = stranger(server, "nobody")
    assert code_of(lambda: site.call("POST", "/v1/renew", renewal(site, key=other.idk))) == "signature_invalid"
    assert code_of(lambda: other.call("POST", "/v1/renew", renewal(site))) == "site_mismatch"
    assert code_of(lambda: other.call("POST", "/v1/renew", renewal(other, names="victim"))) == "site_mismatch"
    stolen_tls = renewal(site, key=SigningKey.generate())
    assert code_of(lambda: site.call("POST", "/v1/renew", stolen_tls)) == "signature_invalid"
    for body, code in (
        (renewal(site, nonce(anybody), key=other.idk), "signature_invalid"),
        (renewal(site, nonce(anybody), signer="other", key=other.idk), "site_mismatch"),
        (renewal(site, nonce(anybody), signer="nobody", names="nobody"), "site_unknown"),
        (b"{}", "envelope_malformed"),
    ):
        assert code_of(lambda body=body: anybody.call("POST", "/v1/renew-expired", body)) == code  # type: ignore[misc]
    assert entries(server, "cert.renewed", "victim") == entries(server, "cert.renewed", "other") == []


def test_a_number_for_one_use_is_used_once_and_is_ours(server: Service) -> None:
    site, anybody = join(server, "numbers"), stranger(server, "nobody")

    def renew(number: str | None) -> bytes:
        return anybody.call("POST", "/v1/renew-expired", renewal(site, number, tls=x509.TlsKey.generate()))

    once = nonce(anybody)
    renew(once)
    forged = once[:-4] + ("AAAA" if once[-4:] != "AAAA" else "BBBB")
    for number in (once, forged, "", "x", None, "é" * 40):
        assert code_of(lambda number=number: renew(number)) == "nonce_invalid"  # type: ignore[misc]
    assert len(entries(server, "cert.renewed", "numbers")) == 1


def test_after_it_ran_out_the_identity_key_renews_and_the_old_certificate_does_not(server: Service) -> None:
    site = join(server, "away")
    old = server.certificate(site, now=datetime.now(UTC) - timedelta(days=40), known=False)
    server.know(site, old[0])
    sql(server, "UPDATE site SET certificate = ?, certificate_not_after = ? WHERE site = 'away'",
        old[0], timestamp(datetime.now(UTC) - timedelta(days=33)))  # fmt: skip
    site.chain = old
    server.transport.close()
    assert code_of(lambda: site.call("POST", "/v1/renew", renewal(site))) == "certificate_expired"
    tls = x509.TlsKey.generate()
    raw = stranger(server, "nobody").call("POST", "/v1/renew-expired", renewal(site, nonce(site), tls=tls))
    chain = [from_b64u(der) for der in Renewed.parse(raw).chain]
    assert b"200 OK" in handshake(server, chain, tls)
    sql(server, "UPDATE site SET certificate_not_after = ? WHERE site = 'away'",
        timestamp(datetime.now(UTC) - timedelta(days=91)))  # fmt: skip
    late = renewal(site, nonce(site), tls=x509.TlsKey.generate())
    assert code_of(lambda: site.call("POST", "/v1/renew-expired", late)) == "renewal_too_late"


def test_a_revoked_site_renews_nothing_and_says_nothing_more(server: Service) -> None:
    site = join(server, "revoked")
    admin(server).post("/v1/sites/revoked/revoke", {"reason": "left"})
    assert code_of(lambda: site.call("POST", "/v1/renew", renewal(site))) == "site_revoked"
    anybody = stranger(server, "nobody")
    body = renewal(site, nonce(anybody), tls=x509.TlsKey.generate())
    assert code_of(lambda: anybody.call("POST", "/v1/renew-expired", body)) == "site_revoked"
    assert code_of(site.poll) == "site_revoked"
    assert entries(server, "cert.renewed", "revoked") == []


# --- less than a client certificate -----------------------------------------------------------------------------------


def test_no_route_of_sites_answers_without_a_client_certificate(server: Service) -> None:
    nobody = stranger(server, "nobody")
    pretending = {
        "X-SSL-Client-Cert": "site-a",
        "X-Forwarded-Client-Cert": "URI=spiffe://federation-1/site/site-a",
        "Authorization": "Bearer site-a",
    }
    for route in AGENT_ROUTES:
        if route.access != "site":
            continue
        path = route.path.replace("{site}", "site-a").replace("{version}", "1").replace("{chunk}", "0")
        for name in ("ctx_hash", "sha256", "digest"):
            path = path.replace("{" + name + "}", "0" * 64)
        path = path.replace("{study}", "study-1").replace("{size}", "1")
        body = None if route.method == "GET" else b"{}"
        call = code_of(lambda r=route, p=path, b=body: nobody.call(r.method, p, b, pretending))  # type: ignore[misc]
        assert call == "certificate_required", f"{route.method} {route.path}"


def test_a_certificate_of_another_authority_or_of_the_server_is_cut_off(server: Service) -> None:
    site, now = join(server, "foreign"), datetime.now(UTC)
    other = x509.create_authority("federation-1", now)
    forged = x509.issue_site_certificate(other.clients, x509.make_csr(site.tls), "federation-1", "foreign", now)
    assert is_cut_off(server, [forged, other.clients.cert_der], site.tls)


def test_a_certificate_that_the_authority_issued_behind_the_logs_back_is_not_taken(server: Service) -> None:
    """A rogue one: right authority, right name, and not the one that was logged."""
    site = join(server, "rogue")
    rogue = server.certificate(site, known=False)
    assert b"certificate_superseded" in handshake(server, rogue, site.tls)
    assert b"200 OK" in handshake(server, site.chain, site.tls)


def test_clear_text_and_the_operators_door_are_closed_to_agents(server: Service) -> None:
    site = join(server, "door")
    with socket.create_connection(("127.0.0.1", server.settings.agent_port), timeout=10) as plain:
        plain.sendall(b"GET /v1/agent/poll HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert not plain.recv(65536).startswith(b"HTTP/1.1 200")
    context = client_context(server.root, site.chain, site.tls)
    door = http.client.HTTPSConnection("127.0.0.1", server.settings.operator_port, context=context, timeout=10)
    door.request("GET", "/v1/sites")
    answer = door.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (401, "token_missing")
    door.close()


# --- replays ----------------------------------------------------------------------------------------------------------


def test_an_enrolment_request_that_is_sent_again_later_changes_nothing(server: Service) -> None:
    invitation, site = invite(server, "replayed"), stranger(server, "replayed")
    body = site.enrolment_request(invitation).canonical()
    first = site.call("POST", "/v1/enrol", body)
    pending = EnrolmentPending.parse(first)
    site.request_id, site.root = pending.request_id, from_b64u(invitation.root)
    admin(server).post("/v1/sites/replayed/approve", {"fingerprint": pending.fingerprint})
    assert site.fetch_certificate()
    assert stranger(server, "replayed").call("POST", "/v1/enrol", body) == first
    assert view(server, "replayed")["state"] == "approved"
    admin(server).post("/v1/sites/replayed/revoke", {"reason": "left"})
    assert stranger(server, "replayed").call("POST", "/v1/enrol", body) == first
    assert view(server, "replayed")["state"] == "revoked"
    assert code_of(site.fetch_certificate) == "enrolment_rejected"
    assert len(entries(server, "cert.issued", "replayed")) == 1


def test_refused_callers_are_in_the_log(server: Service) -> None:
    site = join(server, "noted")
    assert code_of(lambda: site.call("POST", "/v1/renew", renewal(site, key=SigningKey.generate()))) == (
        "signature_invalid"
    )
    rows = sql(server, "SELECT leaf FROM log_leaf WHERE type = 'authn.fail'")
    noted = [json.loads(row[0]) for row in rows]
    assert [one for one in noted if one["actor"]["id"] == "noted" and one["data"]["reason"] == "signature_invalid"]


def test_the_service_took_it_all_without_an_internal_error(server: Service) -> None:
    assert Path(server.state / "stderr").exists()
    assert [line for line in server.log_lines() if line.get("event") == "request_failed"] == []
