"""Whatever comes in, the answer is a problem document of the caller's making, never a crash of ours (attack row 23)."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.api.routes import AGENT_ROUTES, OPERATOR_ROUTES, Route
from shared.canonical import b64u, canonical_bytes
from shared.crypto.signed_envelope import sign_envelope
from tests.support.coordinator_scene import Scene

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
WITH_BODY = [route for route in AGENT_ROUTES if route.access == "site" and route.method == "PUT"]
KINDS = {
    "approvals": "approval",
    "pairings": "pairing",
    "manifest": "manifest",
    "refusal": "refusal",
    "decision": "decision",
    "attestation": "attestation",
    "complaints": "complaint",
}
FEW = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def open_scene(prepared: Scene, tmp_path_factory: pytest.TempPathFactory) -> Any:
    scene = prepared.copy_to(Path(tmp_path_factory.mktemp("fuzz")))
    plan = scene.submit()
    scene.start(plan)
    assert scene.live(plan).state == "OPEN"
    yield scene, plan
    scene.close()


def path_of(route: Route, scene: Scene, plan: Any, site: str = "site-a") -> str:
    return route.path.format(
        version=1, study=plan.study, site=site, ctx_hash=scene.live(plan).ctx_hash, chunk=0, digest="0" * 64,
        sha256="0" * 64, operator="nobody", verb="start", request_id="x", size=1,
    )  # fmt: skip


def is_our_answer(status: int, body: bytes) -> bool:
    return 200 <= status < 300 or (400 <= status < 500 and "code" in json.loads(body))


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.path)
@FEW
@given(body=BODIES)
def test_agent_routes_take_any_bytes(open_scene: Any, route: Route, body: bytes) -> None:
    scene, plan = open_scene
    site = scene.sites["site-a"]
    assert is_our_answer(*site.transport.request("PUT", path_of(route, scene, plan), body, {}, site))


@pytest.mark.parametrize(
    "route", [one for one in WITH_BODY if any(word in one.path for word in KINDS)], ids=lambda r: r.path
)
@FEW
@given(
    value=st.dictionaries(
        st.sampled_from(
            [
                "ctx_hash",
                "vec",
                "b_commit",
                "x_commit",
                "seed_commit",
                "shares",
                "stmt",
                "code",
                "detail",
                "v",
                "kind",
                "study",
                "roster_hash",
                "serial",
                "env",
                "roster",
                "version",
                "plan",
                "decision",
                "round",
                "model",
                "about",
                "blob_hash",
                "pairing_hash",
                "U",
                "uploads",
            ]
        ),
        JSON,
        max_size=8,
    ),
    seq=st.integers(1000, 2**53 - 1) | st.none() | st.text(max_size=3),
)
def test_signed_payloads_of_any_form(open_scene: Any, route: Route, value: dict[str, Any], seq: Any) -> None:
    scene, plan = open_scene
    site = scene.sites["site-a"]
    kind = next(kind for word, kind in KINDS.items() if word in route.path)
    try:
        payload = {**value, "site": "site-a", "seq": seq, "prev": "0" * 64}
        canonical_bytes(payload)
    except Exception:  # noqa: BLE001 (what has no canonical form cannot be signed in the first place)
        return
    envelope = sign_envelope(kind, payload, "site-a", site.idk)
    assert is_our_answer(*site.transport.request("PUT", path_of(route, scene, plan), envelope, {}, site))


@FEW
@given(body=BODIES)
def test_enrolment_takes_any_bytes(open_scene: Any, body: bytes) -> None:
    scene, _ = open_scene
    site = scene.sites["site-a"]
    assert is_our_answer(*site.transport.request("POST", "/v1/enrol", body, {}, site))
    headers = {"Authorization": "DSSE " + b64u(body)}
    assert is_our_answer(*site.transport.request("GET", "/v1/enrol/x", None, headers, site))


@pytest.mark.parametrize(
    "route", [one for one in OPERATOR_ROUTES if one.method in {"POST", "PUT"}], ids=lambda route: route.path
)
@FEW
@given(body=BODIES, role=st.sampled_from(["administrator", "researcher"]))
def test_operator_routes_take_any_bytes(open_scene: Any, route: Route, body: bytes, role: str) -> None:
    scene, plan = open_scene
    path = path_of(route, scene, plan, "site-z")
    headers = {"Authorization": f"Bearer {scene.tokens[role]}"}
    assert is_our_answer(*scene.call_app(scene.operator_app, route.method, path, body, headers, None))


@FEW
@given(text=st.text(max_size=60))
def test_queries_of_any_form(open_scene: Any, text: str) -> None:
    from urllib.parse import quote

    scene, plan = open_scene
    site = scene.sites["site-a"]
    odd = quote(text, safe="")
    for path in (
        f"/v1/agent/poll?instance={odd}&cursor={odd}&wait={odd}",
        f"/v1/agent/poll?instance=instance-1&cursor={odd}&previous={odd}",
        f"/v1/studies/{plan.study}/outcomes?after={odd}",
    ):
        assert is_our_answer(*site.transport.request("GET", path, None, {"Range": "bytes=0-"}, site))
