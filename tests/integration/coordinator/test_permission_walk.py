"""The table of routes, walked: every role, every site and nobody at every route, each denial in the log."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from coordinator.api.routes import AGENT_ROUTES, OPERATOR_ROUTES, Route
from coordinator.permissions import ROLES
from shared.canonical import JsonObject, sha256_hex
from tests.support.coordinator_scene import Scene

SAMPLES = {
    "site": "site-d",
    "version": "1",
    "operator": "nobody",
    "token": "token-0",
    "sha256": sha256_hex(b"model"),
    "verb": "pause",
    "request_id": "x",
    "ctx_hash": "0" * 64,
    "chunk": "0",
    "start": "0",
    "end": "1",
    "size": "1",
    "digest": "0" * 64,
}


@pytest.fixture(scope="module")
def walked(prepared: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = prepared.copy_to(Path(tmp_path_factory.mktemp("walk")))
    scene.study_id = scene.submit().study  # type: ignore[attr-defined]
    yield scene
    scene.close()


def path_of(route: Route, scene: Scene, **changes: str) -> str:
    study: str = scene.study_id  # type: ignore[attr-defined]
    return route.path.format(**{**SAMPLES, "study": study, **changes})


def ask(scene: Scene, route: Route, token: str | None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = b"{}" if route.limit else None
    status, answer = scene.call_app(scene.operator_app, route.method, path_of(route, scene), body, headers, None)
    return status, json.loads(answer).get("code", "") if answer[:1] == b"{" else ""


def newest(scene: Scene, before: int) -> list[JsonObject]:
    return scene.entries()[before:]


# --- routes -----------------------------------------------------------------------------------------------------------

GUARDED = [route for route in OPERATOR_ROUTES if route.access != "anybody"]


@pytest.mark.parametrize(("route", "role"), list(product(GUARDED, ROLES)), ids=lambda one: getattr(one, "name", one))
def test_every_role_at_every_route(walked: Scene, route: Route, role: str) -> None:
    before = len(walked.entries())
    status, code = ask(walked, route, walked.tokens[role])
    if any(one.right == route.access for one in ROLES[role]):
        assert status not in {401, 403}, code
        return
    assert (status, code) == (403, "permission_denied")
    (entry,) = newest(walked, before)
    assert (entry["type"], entry["outcome"]) == ("authz.deny", "minor")
    assert (entry["actor"]["kind"], entry["actor"]["id"], entry["actor"]["authn"]) == ("user", role, "token")
    assert entry["data"] == {"permission": route.access, "reason": code, "route": route.name}


@pytest.mark.parametrize(("token", "code"), [(None, "token_missing"), ("MT1-NO", "token_invalid")])
@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
def test_nobody_at_every_route(walked: Scene, route: Route, token: str | None, code: str) -> None:
    before = len(walked.entries())
    assert ask(walked, route, token) == (401, code)
    (entry,) = newest(walked, before)
    assert (entry["type"], entry["actor"]["id"], entry["data"]) == (
        "authn.fail",
        "unknown",
        {"reason": code, "route": route.name},
    )
    assert [one["field"] for one in entry["sd"]] == ["address"], "where from is committed to, not shown"


AGENT_ONLY = [route for route in AGENT_ROUTES if route.access == "site"]


def ask_agent(scene: Scene, route: Route, site: str | None, path_site: str) -> tuple[int, str]:
    certificate = None if site is None else scene.sites[site].chain[0]
    path = path_of(route, scene, site=path_site)
    status, answer = scene.call_app(
        scene.agent_app, route.method, path, b"{}" if route.limit else None, {}, certificate
    )
    return status, json.loads(answer).get("code", "") if answer[:1] == b"{" else ""


@pytest.mark.parametrize("route", AGENT_ONLY, ids=lambda route: route.name)
def test_nobody_at_every_agent_route(walked: Scene, route: Route) -> None:
    before = len(walked.entries())
    assert ask_agent(walked, route, None, "site-a") == (401, "certificate_required")
    (entry,) = newest(walked, before)
    assert (entry["type"], entry["data"]) == ("authn.fail", {"reason": "certificate_required", "route": route.name})


@pytest.mark.parametrize("route", [one for one in AGENT_ONLY if "{site}" in one.path], ids=lambda route: route.name)
def test_no_site_acts_for_another(walked: Scene, route: Route) -> None:
    before = len(walked.entries())
    assert ask_agent(walked, route, "site-b", "site-a") == (403, "site_mismatch")
    (entry,) = newest(walked, before)
    assert (entry["type"], entry["actor"]["id"]) == ("authz.deny", "site-b")
    assert entry["data"] == {"permission": "site", "reason": "site_mismatch", "route": route.name}


@pytest.fixture(scope="module")
def without_c(prepared: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = prepared.copy_to(Path(tmp_path_factory.mktemp("revoked")))
    scene.study_id = scene.submit().study  # type: ignore[attr-defined]
    scene.operator("POST", "/v1/sites/site-c/revoke", {"reason": "left"}, role="administrator")
    yield scene
    scene.close()


@pytest.mark.parametrize("route", AGENT_ONLY, ids=lambda route: route.name)
def test_a_revoked_site_may_do_nothing(without_c: Scene, route: Route) -> None:
    before = len(without_c.entries())
    assert ask_agent(without_c, route, "site-c", "site-c") == (403, "site_revoked")
    (entry,) = newest(without_c, before)
    assert (entry["type"], entry["actor"]["id"], entry["data"]["route"]) == ("authz.deny", "site-c", route.name)
