"""The table of verbs, walked: every role and nobody runs every verb that asks the coordinator as an operator."""

import http.client
import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import httpx
import pytest

import coordinator.cli.main
import workbench.cli.main
from coordinator.access_file import build_access_file, write_access_file
from coordinator.api.routes import OPERATOR_ROUTES
from coordinator.api.verbs import VERBS
from coordinator.permissions import ROLES
from shared.crypto.secret import Secret
from tests.support.coordinator_scene import FEDERATION, Scene
from workbench.study_example import example

ACCESS = {route.name: route.access for route in OPERATOR_ROUTES}
ASKING = [verb for verb, routes in VERBS.items() if any(ACCESS[route] != "anybody" for route in routes)]
REFUSED = 3


class Terminal:
    """Runs verbs in this process; what they send goes to the scene's application instead of a socket."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.folder = folder
        self.study = scene.submit().study
        self.asked: list[str] = []
        self.count = 0
        text = example("tabular", datetime(2026, 11, 21, tzinfo=UTC).date()).splitlines()
        lines = [f"federation: {FEDERATION}" if line.startswith("federation:") else line for line in text]
        (folder / "study.yaml").write_text("\n".join(lines))

    def access(self, name: str, token: str) -> Path:
        path = self.folder / f"{name}.access.json"
        if not path.exists():
            root = self.scene.coordinator.keys.root_der
            write_access_file(path, build_access_file("https://127.0.0.1:1", root, name, "any", Secret(token.encode())))
        return path

    def run(self, verb: str, access: Path, patch: pytest.MonkeyPatch) -> int:
        """Return the exit code."""
        self.asked.clear()
        self.count += 1
        self.scene.clock.at += timedelta(seconds=61)  # the same denial is written once a minute
        program, *words = verb.split()
        options = ["--access", str(access)]
        before, after = (options, []) if program == "mitral-coordinator" else ([], options)
        patch.setattr(sys, "argv", [program, *before, *words, *self.arguments(" ".join(words)), *after])
        main = coordinator.cli.main.main if program == "mitral-coordinator" else workbench.cli.main.main
        try:
            return int(main() or 0)
        except SystemExit as done:
            return done.code if isinstance(done.code, int) else 1

    def arguments(self, words: str) -> list[str]:
        out = str(self.folder / f"out-{self.count}")
        given = {
            "sites invite": [f"site-{self.count}", "--out", out],
            "sites approve": ["site-d", "--fingerprint", "0" * 20],
            "sites reject": ["site-d"],
            "sites revoke": ["unknown"],
            "sites readmit": ["site-d"],
            "operators add": [f"extra-{self.count}", "--role", "viewer", "--out", out],
            "operators link": ["nobody", "--out", out],
            "operators bind": ["nobody", "--subject", "x"],
            "account renew": ["--out", out],
            "operators role": ["nobody", "viewer"],
            "operators remove": ["nobody"],
            "tokens issue": ["--out", out],
            "tokens revoke": ["token-0"],
            "studies show": [self.study],
            "audit export": [out],
            "audit erase": ["0", "name", "--basis", "gdpr-17"],
            "study submit": [str(self.folder / "study.yaml")],
            "study start": [self.study],
            "study pause": [self.study],
            "study stop": [self.study],
            "study watch": [self.study, "--once"],
            "study fetch": [self.study, "--out", out],
        }
        return given.get(words, [])

    def send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append(route_of(method, path))
        kept = {name: value for name, value in headers.items() if name.lower() in {"authorization", "range"}}
        return self.scene.call_app(self.scene.operator_app, method, path, body, kept, None)


class Connection:
    """What `http.client` is to the coordinator's command line."""

    terminal: Terminal

    def __init__(self, *_args: object, **_more: object) -> None:
        self.status = 0
        self.raw = io.BytesIO()

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        self.status, raw = self.terminal.send(method, path, body, headers)
        self.raw = io.BytesIO(raw)

    def getresponse(self) -> "Connection":
        return self

    def read(self) -> bytes:
        return self.raw.read()

    def close(self) -> None:
        self.raw.close()


def route_of(method: str, path: str) -> str:
    """Return the route of the table that a request goes to."""
    parts = path.partition("?")[0].split("/")
    for route in OPERATOR_ROUTES:
        wanted = route.path.split("/")
        if route.method == method and all(
            one == other or (one or "").startswith("{") for one, other in zip_longest(wanted, parts)
        ):
            return route.name
    raise AssertionError(f"{method} {path} is in no table")


@pytest.fixture(scope="module")
def terminal(prepared: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    made = prepared.copy_to(Path(tmp_path_factory.mktemp("verbs")))
    yield Terminal(made, Path(tmp_path_factory.mktemp("terminal")))
    made.close()


@pytest.fixture(autouse=True)
def _in_process(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    real = httpx.Client

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        status, raw = terminal.send(request.method, path, request.read(), dict(request.headers))
        return httpx.Response(status, content=raw)

    def client(**options: Any) -> httpx.Client:
        return real(**{**options, "transport": httpx.MockTransport(answer)})

    monkeypatch.setattr(Connection, "terminal", terminal, raising=False)
    monkeypatch.setattr(http.client, "HTTPSConnection", Connection)
    monkeypatch.setattr(httpx, "Client", client)
    monkeypatch.setattr("typer.prompt", lambda *_args, **_more: "typed")


def may(role: str, route: str) -> bool:
    return any(one.right == ACCESS[route] for one in ROLES[role])


@pytest.mark.parametrize(("verb", "role"), list(product(ASKING, ROLES)))
def test_every_role_with_every_verb(
    terminal: Terminal, verb: str, role: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    access = terminal.access(role, terminal.scene.tokens[role])
    before = len(terminal.scene.entries())
    code = terminal.run(verb, access, monkeypatch)
    shown = capsys.readouterr()
    assert set(terminal.asked) <= set(VERBS[verb]), "the table names every route that the verb calls"
    refused = [route for route in terminal.asked if not may(role, route)]
    if all(may(role, route) for route in VERBS[verb]):
        assert not refused
        assert "permission_denied" not in shown.err
    if refused:
        assert (code, refused) == (REFUSED, terminal.asked[-1:]), shown.err
        assert "permission_denied" in shown.err
        last = terminal.scene.entries()[before:][-1]
        assert (last["type"], last["actor"]["id"], last["data"]["route"]) == ("authz.deny", role, refused[0])


@pytest.mark.parametrize("verb", ASKING)
def test_nobody_with_every_verb(
    terminal: Terminal, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    access = terminal.access(f"stranger-{terminal.count}", "MT1-NOPE")
    assert terminal.run(verb, access, monkeypatch) == REFUSED
    assert "token_invalid" in capsys.readouterr().err
    assert len(terminal.asked) == 1


def test_every_denied_verb_left_an_entry_with_the_route(terminal: Terminal) -> None:
    failed = [entry["data"] for entry in terminal.scene.entries() if entry["type"] == "authn.fail"]
    denied = {data["route"] for data in failed if data["reason"] == "token_invalid"}
    assert denied == {VERBS[verb][0] for verb in ASKING}
