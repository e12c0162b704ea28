"""What a stolen token, a malicious hospital and a stranger on the network tried at the coordinator's seams."""

import asyncio
import os
import socket
import ssl
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from coordinator.api import bodies, listeners
from coordinator.storage import sites as stored_sites
from shared.canonical import b64u, sha256_hex
from shared.crypto.sealing import OVERHEAD_BYTES
from shared.errors import PeerFault
from shared.model_state import to_bytes
from shared.protocol.enrolment import Invitation
from shared.protocol.study import Plan
from shared.secagg import roster as rosters
from tests.support.coordinator_scene import FEDERATION, D, InProcess, Scene
from tests.support.fake_site import FakeSite, code_of
from tests.support.plans import plan_with

Running = tuple[Scene, Plan]


def researcher_two(scene: Scene) -> None:
    answer = scene.operator("POST", "/v1/operators", {"operator": "eve", "role": "researcher"}, role="administrator")
    scene.tokens["eve"] = answer["token"]


def test_a_researcher_cannot_read_anothers_model_by_naming_its_digest(scene: Scene) -> None:
    researcher_two(scene)
    model = to_bytes({"w": np.ones(D, np.float32)})
    secret = sha256_hex(model)
    scene.operator("PUT", f"/v1/blobs/{secret}", model)
    changes = {
        "federation": FEDERATION, "sites": sorted(scene.sites), "preprocessing": {"normalise": "none"},
        "initial_model": secret, "dimension": D,
    }  # fmt: skip
    scene.operator("POST", "/v1/studies", plan_with(**changes).as_json())
    shown = scene.operator("GET", "/v1/studies", role="eve")["studies"][0]["model"]
    assert shown == secret  # every operator sees the digest
    mine = plan_with(**{**changes, "study": "eves-study"})
    assert code_of(lambda: scene.operator("POST", "/v1/studies", mine.as_json(), role="eve")) == "initial_model_missing"
    assert code_of(lambda: scene.operator("GET", f"/v1/blobs/{secret}", role="eve")) == "blob_unknown"
    scene.restart()
    scene.operator("POST", "/v1/studies", plan_with(**changes).as_json())  # its owner may say it again at any time
    scene.operator("PUT", f"/v1/blobs/{secret}", model, role="eve")  # who has the bytes anyway may use them
    scene.operator("POST", "/v1/studies", mine.as_json(), role="eve")


def test_row_06_a_bundle_that_nobody_can_open_leaves_out_its_maker_and_stops_nobody(scene: Scene) -> None:
    plan = scene.submit()
    evil = scene.sites["site-a"]

    def garbage(study: str, serial: int, members: Any) -> bytes:
        env = {peer: b64u(os.urandom(OVERHEAD_BYTES + 32)) for peer in members if peer != evil.name}
        body = {
            "v": "SA1", "kind": "pairing", "study": study, "roster_hash": rosters.roster_hash(evil.roster),
            "serial": serial, "env": env,
        }  # fmt: skip
        envelope = evil.sign("pairing", body)
        return evil.call("PUT", f"/v1/studies/{study}/pairings/{evil.name}", envelope)

    evil.pair = garbage  # type: ignore[method-assign]
    for site in scene.sites.values():
        site.approve_study(plan)
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    evil.work(skip=("bundles",))
    pairing_hash = evil.prev
    for name in ("site-b", "site-c", "site-d"):
        site = scene.sites[name]
        complaint = {
            "ctx_hash": None, "pairing_hash": pairing_hash, "about": evil.name, "code": "envelope_unreadable",
            "blob_hash": "0" * 64,
        }  # fmt: skip
        envelope = site.sign("complaint", complaint)
        site.call("PUT", f"/v1/complaints/{name}/{site.prev}", envelope)
    for name in ("site-b", "site-c", "site-d"):
        scene.sites[name].work(skip=("bundles", "open"))
    scene.drain()
    scene.pass_time(60)
    live = scene.live(plan)
    assert (live.state, live.ctx.sites) == ("OPEN", ["site-b", "site-c", "site-d"])


def test_row_15_a_round_whose_dealer_nobody_can_read_is_lost_at_once(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    for site in scene.sites.values():
        site.upload(ctx)
    scene.drain()
    for site in scene.sites.values():
        site.work(skip=("unmask",))
    scene.drain()
    for name in ("site-a", "site-b", "site-c"):
        site = scene.sites[name]
        complaint = {
            "ctx_hash": ctx.ctx_hash, "pairing_hash": None, "about": "site-d", "code": "share_unreadable",
            "blob_hash": "0" * 64,
        }  # fmt: skip
        envelope = site.sign("complaint", complaint)
        site.call("PUT", f"/v1/complaints/{name}/{site.prev}", envelope)
        answer = site.response(site.unmask_request(ctx.ctx_hash))
        del answer["b"]["site-d"], answer["s"]["site-d"]
        site.release(ctx.ctx_hash, answer)
    scene.drain()
    assert scene.contexts(plan)[0].state == "LOST"
    with scene.coordinator.database.reading("look") as tx:
        dealer = stored_sites.read_site(tx, "site-d")
    assert dealer is not None
    assert dealer.barred


@pytest.mark.parametrize("name", ["Hospital\n", "Hospital \x1b[2K\x1b[1Gsite-a  approved"])
def test_a_name_cannot_rewrite_the_administrators_screen(scene: Scene, name: str) -> None:
    answer = scene.operator("POST", "/v1/sites/invitations", {"site": "site-x"}, role="administrator")
    site = FakeSite("site-x", InProcess(scene))
    invitation = Invitation.check(answer)
    request = site.enrolment_request(invitation).model_copy(update={"name": name})
    assert code_of(lambda: site.call("POST", "/v1/enrol", request.canonical())) == "message_malformed"
    site.enrol(invitation)  # the token was not used up


def test_a_hospital_with_another_key_than_the_roster_says_is_not_invited(running: Running) -> None:
    scene, plan = running
    with scene.coordinator.database.transaction("a site enrolled anew") as tx:
        tx.run("UPDATE site SET idk = log_key WHERE site = 'site-d'")
    from coordinator import cohort
    from coordinator.storage import rosters as stored_rosters
    from coordinator.storage import studies

    with scene.coordinator.database.reading("members") as tx:
        study = studies.read_study(tx, plan.study)
        assert study is not None
        assert cohort.members(tx, study, stored_rosters.read_active(tx)) == ["site-a", "site-b", "site-c"]


def test_row_25_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_PATIENCE_SECONDS", 0.05)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def read() -> None:
        await bodies.read_body(Request({"type": "http", "headers": [], "method": "POST"}, receive), 64)

    with pytest.raises(PeerFault, match="time that its length allows"):
        asyncio.run(read())


def test_row_25_a_connection_that_never_asks_is_cut(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.setattr(listeners, "_SILENT_SECONDS", 0.2)
    monkeypatch.setattr(listeners, "_WATCH_SECONDS", 0.05)
    from coordinator.keys import renew_server_certificate

    renew_server_certificate(scene.coordinator.keys, ["127.0.0.1"], scene.clock.now(), 90)

    def dawdle(port: int) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw, context.wrap_socket(raw) as tls:
            tls.sendall(b"GET /v1/health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            try:
                return tls.recv(100)
            except ConnectionResetError:
                return b""

    async def run() -> bytes:
        server = listeners.listener(scene.coordinator, for_agents=True)
        sock = listeners.bind("127.0.0.1", 0)
        serving = asyncio.ensure_future(server.serve([sock]))
        await server.is_up.wait()
        answer = await asyncio.to_thread(dawdle, sock.getsockname()[1])
        server.should_exit = True
        await serving
        return answer

    assert asyncio.run(run()) == b""
