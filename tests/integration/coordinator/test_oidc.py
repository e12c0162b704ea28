"""Signing in through a real identity provider in a process of its own, and everything it may get wrong."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from shared.errors import MitralError
from tests.support.coordinator_scene import Scene
from tests.support.fake_site import code_of
from tests.support.identity_provider import CLIENT, CLIENT_SECRET
from tests.support.tree import ROOT


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.support.identity_provider"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@pytest.fixture
def signed(scene: Scene, provider: str, tmp_path: Path) -> Scene:
    """A coordinator that knows the provider; the auditor is bound to a subject there."""
    secret = tmp_path / "client-secret"
    secret.write_text(CLIENT_SECRET + "\n")
    update = {"oidc_issuer": provider, "oidc_client_id": CLIENT, "oidc_client_secret_file": secret}
    scene.settings = scene.settings.model_copy(update=update)
    scene.coordinator.database.close()
    scene.boot()
    behave(provider)
    body = {"subject": "ada@ward-7"}
    scene.operator("POST", "/v1/operators/auditor/identity", body, role="administrator")
    with scene.coordinator.database.transaction("test") as tx:
        tx.run("UPDATE api_token SET expires_at = '2999-01-01T00:00:00.000Z'")
    scene.clock.at = datetime.now(UTC)  # the provider's clock is the real one
    return scene


def behave(provider: str, **behaviour: Any) -> None:
    httpx.post(f"{provider}/behave", json=behaviour, trust_env=False).raise_for_status()


class Browser:
    """Follows redirects, keeps the coordinator's cookie."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.cookie = ""

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        found: dict[str, str] = {}
        status, raw = self.scene.call_app(
            self.scene.operator_app, "GET", path, None, {"Cookie": self.cookie}, None, answer_headers=found
        )
        if found.get("set-cookie"):
            self.cookie = found["set-cookie"].partition(";")[0]
        return status, found, raw

    def start(self) -> str:
        """Go to the provider; return the path it sends the browser back to."""
        status, headers, _ = self.get("/v1/oidc/login")
        assert status == 303
        back = httpx.get(headers["location"], follow_redirects=False, trust_env=False).headers["location"]
        assert urlsplit(back).path == "/v1/oidc/callback"
        return f"/v1/oidc/callback?{urlsplit(back).query}"

    def finish(self, path: str) -> str:
        """Come back; return the code of the problem, or nothing after keeping the session."""
        status, _, raw = self.get(path)
        if status != 201:
            return str(json.loads(raw)["code"])
        self.scene.tokens["browser"] = json.loads(raw)["token"]
        return ""


def test_a_person_signs_in_and_is_who_the_administrator_said(signed: Scene) -> None:
    browser = Browser(signed)
    path = browser.start()
    assert "__Host-mitral-login=" in browser.cookie
    assert browser.finish(path) == ""
    found = signed.operator("GET", "/v1/whoami", role="browser")
    assert (found["operator"], found["roles"]) == ("auditor", ["auditor"])
    (entry,) = [one for one in signed.entries() if one["type"] == "login"]
    assert (entry["actor"]["id"], entry["actor"]["authn"]) == ("auditor", "oidc")
    assert "ward-7" not in json.dumps(signed.entries()), "who that is at the provider is personal"
    signed.clock.at += timedelta(minutes=31)
    assert code_of(lambda: signed.operator("GET", "/v1/whoami", role="browser")) == "token_invalid"


def test_what_the_browser_is_told_is_bound_to_it(signed: Scene) -> None:
    status, headers, _ = Browser(signed).get("/v1/oidc/login")
    query = {name: values[0] for name, values in parse_qs(urlsplit(headers["location"]).query).items()}
    assert status == 303
    assert (query["response_type"], query["scope"], query["code_challenge_method"]) == ("code", "openid", "S256")
    assert query["redirect_uri"].endswith("/v1/oidc/callback")
    cookie = headers["set-cookie"].lower()
    assert all(part in cookie for part in ("secure", "httponly", "samesite=lax", "path=/"))
    assert headers["cache-control"] == "no-store"


def test_an_answer_is_for_one_browser_once_and_soon(signed: Scene) -> None:
    victim, attacker = Browser(signed), Browser(signed)
    attackers_path = attacker.start()
    victim.start()
    assert victim.finish(attackers_path) == "oidc_refused", "signing somebody in as the attacker"
    assert attacker.finish(attackers_path) == "oidc_refused", "it was used up by the attempt"
    again = Browser(signed)
    path = again.start()
    assert again.finish(path) == ""
    assert again.finish(path) == "oidc_refused"
    late = Browser(signed)
    path = late.start()
    signed.clock.at += timedelta(minutes=11)
    assert late.finish(path) == "oidc_refused"
    signed.clock.at -= timedelta(minutes=11)
    bare = Browser(signed)
    path = bare.start()
    bare.cookie = ""
    assert bare.finish(path) == "oidc_refused"
    refusals = [one for one in signed.entries() if one["type"] == "authn.fail"]
    assert {one["data"]["reason"] for one in refusals} == {"oidc_refused"}


HOUR = 3600


@pytest.mark.parametrize(
    "wrong",
    [
        {"claims": {"nonce": "another"}},
        {"claims": {"nonce": None}},
        {"claims": {"aud": "somebody-else"}},
        {"claims": {"iss": "http://127.0.0.1:1"}},
        {"claims": {"exp": 1}},
        {"claims": {"sub": None}},
        {"claims": {"sub": ""}},
        {"claims": {"sub": 7}},
        {"claims": {"azp": "somebody-else"}},
        {"claims": {"aud": ["mitral", "other"], "azp": "other"}},
        {"signature": "none"},
        {"signature": "other"},
    ],
    ids=str,
)
def test_a_token_that_is_wrong_in_one_thing_lets_nobody_in(signed: Scene, provider: str, wrong: Any) -> None:
    behave(provider, **wrong)
    browser = Browser(signed)
    assert browser.finish(browser.start()) == "oidc_refused"


@pytest.mark.parametrize("query", ["", "?error=access_denied", "?code=x", "?code=x&state=y", "?state=%FF&code=%00"])
def test_callbacks_that_nobody_asked_for(signed: Scene, query: str) -> None:
    assert Browser(signed).finish(f"/v1/oidc/callback{query}") == "oidc_refused"


def test_whom_nobody_here_knows_is_not_let_in(signed: Scene, provider: str) -> None:
    behave(provider, claims={"sub": "eve@ward-7"})
    browser = Browser(signed)
    assert browser.finish(browser.start()) == "oidc_unknown"
    signed.operator("POST", "/v1/operators/auditor/identity", {}, role="administrator")
    behave(provider)
    assert browser.finish(browser.start()) == "oidc_unknown"
    signed.operator("POST", "/v1/operators/viewer/identity", {"subject": "ada@ward-7"}, role="administrator")
    taken = {"subject": "ada@ward-7"}
    call = "/v1/operators/auditor/identity"
    assert code_of(lambda: signed.operator("POST", call, taken, role="administrator")) == "identity_taken"
    assert browser.finish(browser.start()) == ""
    signed.operator("DELETE", "/v1/operators/viewer", role="administrator")
    assert browser.finish(browser.start()) == "oidc_unknown"


def test_a_provider_that_is_gone_or_somebody_else_or_not_asked(signed: Scene, scene: Scene, provider: str) -> None:
    behave(provider, issuer="https://other.example")
    browser = Browser(signed)
    assert json.loads(browser.get("/v1/oidc/login")[2])["code"] == "oidc_provider"
    for issuer, code in (("http://127.0.0.1:1", "oidc_provider"), ("http://idp.example", "oidc_provider")):
        signed.settings = signed.settings.model_copy(update={"oidc_issuer": issuer})
        signed.boot()
        assert json.loads(browser.get("/v1/oidc/login")[2])["code"] == code
    signed.settings = signed.settings.model_copy(update={"oidc_issuer": None})
    signed.boot()
    assert json.loads(browser.get("/v1/oidc/login")[2])["code"] == "oidc_disabled"
    with pytest.raises(MitralError, match="oidc_disabled"):
        signed.operator("POST", "/v1/operators/viewer/identity", {"subject": "x"}, role="administrator")


def test_a_strength_of_login_may_be_demanded(signed: Scene, provider: str) -> None:
    signed.settings = signed.settings.model_copy(update={"oidc_acr": "two-factors"})
    signed.coordinator.database.close()
    signed.boot()
    browser = Browser(signed)
    assert browser.finish(browser.start()) == "oidc_refused"
    behave(provider, claims={"acr": "one-factor"})
    assert browser.finish(browser.start()) == "oidc_refused"
    behave(provider, claims={"acr": "two-factors"})
    assert browser.finish(browser.start()) == ""
