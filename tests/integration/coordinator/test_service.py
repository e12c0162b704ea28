"""The service as a process: real TLS on loopback, long polls, signals, ports and locks."""

import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator import second_factor
from coordinator.cli.main import main
from coordinator.cli.rest import Rest
from coordinator.config import read_settings
from coordinator.keys import load_keys
from shared.crypto import x509
from shared.crypto.secret import Secret
from shared.errors import InputError, MitralError
from shared.protocol.work import PollAnswer
from tests.support.coordinator_scene import SITES, Scene
from tests.support.coordinator_service import COMMAND, Service, fixed_access
from tests.support.fake_site import code_of
from tests.support.https_transport import client_context


@pytest.fixture
def service(scene: Scene) -> Iterator[Service]:
    scene.coordinator.database.close()
    made = Service(scene.state, scene)
    made.start()
    yield made
    made.transport.close()
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()
    if made.process.stdout:
        made.process.stdout.close()
    made.errors.close()


def handshake(service: Service, chain: list[bytes], key: x509.TlsKey | None, root: bytes | None = None) -> bytes:
    """Connect, ask for a route that needs a certificate, return what comes back."""
    context = client_context(root or service.root, chain, key)
    with (
        socket.create_connection(("127.0.0.1", service.settings.agent_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"GET /v1/log/checkpoint HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = b""
        while piece := tls.recv(65536):
            found += piece
        return found


def is_cut_off(service: Service, chain: list[bytes], key: x509.TlsKey) -> bool:
    """Return whether TLS itself refuses: with TLS 1.3 the client learns it from its first read."""
    try:
        return handshake(service, chain, key) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def test_certificates_over_real_tls(service: Service) -> None:
    site = service.sites["site-a"]
    assert b"200 OK" in handshake(service, site.chain, site.tls)
    assert b"certificate_required" in handshake(service, [], None)
    now = datetime.now(UTC)
    expired = service.certificate(site, now=now - timedelta(days=30), days=7, known=False)
    service.know(site, expired[0])
    assert b"certificate_expired" in handshake(service, expired, site.tls)
    service.know(site, site.chain[0])
    other = x509.create_authority("federation-1", now)
    foreign = x509.issue_site_certificate(other.clients, x509.make_csr(site.tls), "federation-1", "site-a", now)
    assert is_cut_off(service, [foreign, other.clients.cert_der], site.tls)
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed"):
        handshake(service, site.chain, site.tls, root=other.root.cert_der)
    # The server's own intermediate cannot vouch for clients.
    keys = load_keys(service.state / "keys")
    crossed = x509.issue_site_certificate(keys.server, x509.make_csr(site.tls), "federation-1", "site-a", now)
    assert is_cut_off(service, [crossed, keys.server.cert_der], site.tls)
    superseded = service.certificate(site, known=False)
    assert b"certificate_superseded" in handshake(service, superseded, site.tls)
    another = service.sites["site-b"]
    site.chain, site.tls = another.chain, another.tls
    assert code_of(lambda: site.call("GET", "/v1/rounds/" + "0" * 64 + "/uploads/site-a")) == "site_mismatch"


def test_old_protocols_are_refused(service: Service) -> None:
    context = client_context(service.root, [], None)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", service.settings.agent_port), timeout=10) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_long_poll_is_woken_by_what_it_waits_for_and_not_by_the_clock(service: Service) -> None:
    site = service.sites["site-a"]
    site.poll(cursor="")
    answers: list[PollAnswer] = []
    waiting = threading.Thread(target=lambda: answers.append(site.poll(wait=25)))
    waiting.start()
    admin = Rest(fixed_access(service))
    deadline = time.monotonic() + 10
    while not {one["site"]: one["online"] for one in admin.get("/v1/sites")["sites"]}["site-a"]:
        assert time.monotonic() < deadline
    started = time.monotonic()
    admin.post("/v1/rosters", {"c": 2})
    waiting.join(timeout=10)
    assert answers
    assert time.monotonic() - started < 5
    assert [one.kind for one in answers[0].commands] == ["roster", "witness"]


def test_a_poll_that_hangs_up_makes_the_site_offline_at_once(service: Service) -> None:
    site, admin = service.sites["site-a"], Rest(fixed_access(service))
    cursor = site.poll(cursor="").cursor

    def is_online() -> bool:
        return bool({one["site"]: one["online"] for one in admin.get("/v1/sites")["sites"]}["site-a"])

    assert is_online()
    context = client_context(service.root, site.chain, site.tls)
    with socket.create_connection(("127.0.0.1", service.settings.agent_port), timeout=10) as plain:
        tls = context.wrap_socket(plain, server_hostname="127.0.0.1")
        path = f"/v1/agent/poll?wait=25&cursor={cursor}&instance={site.instance}&previous="
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.3)  # the request has to be waiting when the connection breaks
        tls.close()
    deadline = time.monotonic() + 10
    while is_online():
        assert time.monotonic() < deadline


def test_sigterm_answers_long_polls_and_stops_in_time(service: Service) -> None:
    site = service.sites["site-a"]
    site.poll(cursor="")
    idle = service.sites["site-b"]
    idle.poll(cursor="")  # a connection that stays open and says nothing
    answers: list[PollAnswer] = []
    waiting = threading.Thread(target=lambda: answers.append(site.poll(wait=25)))
    waiting.start()
    time.sleep(0.3)
    assert service.stop() < 5
    waiting.join(timeout=5)
    assert [(one.action, one.sleep_seconds) for one in answers] == [("sleep", 1)]
    assert service.log_lines()[-1]["event"] == "stopped"


def test_kill_dash_nine_loses_nothing(service: Service) -> None:
    site = service.sites["site-a"]
    site.poll(cursor="")
    before = site.call("GET", "/v1/log/checkpoint")
    service.stop(signal.SIGKILL)
    service.transport.close()
    service.start()
    assert site.call("GET", "/v1/log/checkpoint").startswith(before.split(b"\n\n")[0].splitlines()[0])
    assert site.poll(cursor="").commands
    assert service.stop() < 5


def test_a_second_serve_on_the_same_state_is_refused(service: Service) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "--state", str(service.state)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (5, "")
    assert "state_in_use" in done.stderr


def test_a_port_in_use_is_refused(scene: Scene) -> None:
    scene.coordinator.database.close()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            **os.environ,
            "MITRAL_COORDINATOR_AGENT_PORT": str(taken.getsockname()[1]),
            "MITRAL_COORDINATOR_OPERATOR_PORT": "0",
        }
        done = subprocess.run(
            [*COMMAND, "serve", "--state", str(scene.state)], capture_output=True, text=True, check=False, timeout=60,
            env=environment,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (5, "")
    assert "port_in_use" in done.stderr
    assert "Traceback" not in done.stderr


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `mitral-coordinator` in this process."""

    def command(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["mitral-coordinator", *arguments])
        capsys.readouterr()
        try:
            main()
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 1
        else:
            code = 0
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

    return command


def test_initialising_twice_and_serving_nothing_are_refused(tmp_path: Path, scene: Scene, run: Run) -> None:
    done = run("serve", "--state", str(tmp_path / "nothing"))
    assert (done.returncode, "state_missing" in done.stderr) == (2, True)
    done = run("init", "--state", str(scene.state), "--federation", "x", "--name", "localhost")
    assert (done.returncode, "state_exists" in done.stderr) == (2, True)
    done = run("init", "--state", str(tmp_path / "odd"), "--federation", "Not An Id", "--name", "localhost")
    assert (done.returncode, "id_malformed" in done.stderr) == (2, True)
    assert not (tmp_path / "odd").exists()
    done = run(
        "init", "--state", str(tmp_path / "new"), "--federation", "new", "--name", "localhost", "--agent-port", "0"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert read_settings(tmp_path / "new").agent_port > 0
    access = tmp_path / "new" / "administrator.access.json"
    if os.name == "posix":
        assert access.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "new" / "keys" / "kek").stat().st_mode & 0o777 == 0o400


def test_settings_are_strict(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    path = scene.state / "coordinator.toml"
    good = path.read_text()
    for line, named in (("agent_prot = 1", "agent_prot"), ("agent_port = 70000", "agent_port"), ("agent_port =", "")):
        path.write_text(good.replace("agent_port", "#agent_port") + line)
        with pytest.raises(InputError, match=f"settings_invalid.*{named}"):
            read_settings(scene.state)
    path.write_text(good)
    monkeypatch.setenv("MITRAL_COORDINATOR_ONLINE_SECONDS", "7")
    assert read_settings(scene.state).online_seconds == 7


def test_the_command_line_does_an_administrators_work(
    service: Service, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MITRAL_ACCESS", str(fixed_access(service)))
    assert run("sites", "invite", "site-e", "--out", str(tmp_path / "e.json")).returncode == 0
    invitation = json.loads((tmp_path / "e.json").read_text())
    assert invitation["url"] == f"https://127.0.0.1:{service.settings.agent_port}"
    if os.name == "posix":
        assert (tmp_path / "e.json").stat().st_mode & 0o777 == 0o600
    assert run("sites", "invite", "site-e", "--out", str(tmp_path / "e.json")).returncode == 2
    listed = json.loads(run("sites", "list", "--json").stdout)["sites"]
    assert [one["site"] for one in listed] == [*SITES, "site-e"]
    assert "site-e" in run("sites", "list").stdout
    assert run("sites", "approve", "site-e", "--fingerprint", "0" * 20).returncode == 2
    assert "version 2" in run("rosters", "propose", "--c", "2").stdout
    assert "superseded" not in run("rosters", "list").stdout
    assert run("operators", "add", "r2", "--role", "researcher", "--out", str(tmp_path / "r2.json")).returncode == 0
    assert run("--access", str(tmp_path / "r2.json"), "studies", "list").returncode == 0
    denied = run("--access", str(tmp_path / "r2.json"), "sites", "invite", "x", "--out", str(tmp_path / "x.json"))
    assert (denied.returncode, "permission_denied" in denied.stderr) == (3, True)
    assert run("studies", "show", "nothing").returncode == 2
    assert run("audit", "export", str(tmp_path / "export.zip")).returncode == 0
    assert run("sites", "revoke", "site-d", "--reason", "closed").returncode == 0
    assert "revoked" in run("sites", "list").stdout
    assert run("operators", "remove", "r2").returncode == 0
    assert "r2" in run("operators", "list").stdout
    service.stop()
    assert run("sites", "list", "--access").returncode == 2
    gone = run("sites", "list")
    assert (gone.returncode, "coordinator_unreachable" in gone.stderr) == (5, True)


def test_a_person_sets_up_an_account_signs_in_renews_and_signs_out(
    service: Service, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[str] = []
    monkeypatch.setattr("typer.prompt", lambda *_args, **_more: answers.pop(0) if answers else now_code())
    secret = Secret(b"")

    def now_code() -> str:
        return second_factor.code_at(secret, second_factor.step_at(datetime.now(UTC)))

    def at_first_sight(text: str) -> None:
        nonlocal secret
        if "authenticator:" in text:
            secret = Secret(base64.b32decode(text.rpartition(" ")[2]))
        sys.stdout.write(f"{text}\n")

    access, link, session = (str(tmp_path / name) for name in ("viewer.json", "link.json", "session.json"))
    monkeypatch.setenv("MITRAL_ACCESS", str(fixed_access(service)))
    assert run("operators", "link", "viewer", "--out", link).returncode == 0
    monkeypatch.delenv("MITRAL_ACCESS")
    monkeypatch.setattr("typer.echo", at_first_sight)
    answers += ["three ships came sailing"]
    done = run("account", "setup", link)
    codes = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert (done.returncode, len(codes), Path(link).exists()) == (0, 10, False)
    answers += ["three ships came sailing", codes[0]]
    known = str(service.state / "administrator.access.json")
    assert run("account", "login", known, "--operator", "viewer", "--out", session).returncode == 0
    if os.name == "posix":
        assert Path(session).stat().st_mode & 0o777 == 0o600
    assert run("--access", session, "studies", "list").returncode == 0
    assert "session-" in run("--access", session, "tokens", "list").stdout
    assert run("--access", session, "tokens", "issue", "--out", access, "--permission", "sites.read").returncode == 0
    assert run("--access", access, "sites", "list").returncode == 0
    assert run("--access", access, "studies", "list").returncode == 3
    answers += ["three ships came sailing", codes[1]]
    assert run("--access", session, "account", "renew", "--out", link).returncode == 0
    assert json.loads(Path(link).read_text())["operator"] == "viewer"
    assert run("--access", session, "account", "logout").returncode == 0
    gone = run("--access", session, "studies", "list")
    assert (gone.returncode, "token_invalid" in gone.stderr) == (3, True)


def test_a_client_that_breaks_off_an_upload_leaves_nothing(service: Service) -> None:
    """Half a body, then silence: the draft is gone and the service goes on."""
    site = service.sites["site-a"]
    context = client_context(service.root, site.chain, site.tls)
    with (
        socket.create_connection(("127.0.0.1", service.settings.agent_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"PUT /v1/rosters/1/approvals/site-a HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nhalf")
    with contextlib.suppress(MitralError):
        site.poll(cursor="")
    assert not list((service.state / "uploads").rglob(".draft-*"))
    assert site.poll(cursor="").commands


def test_logs_are_json_lines_without_secrets(service: Service) -> None:
    site = service.sites["site-a"]
    site.poll(cursor="")
    admin = Rest(fixed_access(service))
    token = json.loads(fixed_access(service).read_text())["token"]
    invitation = admin.post("/v1/sites/invitations", {"site": "site-e"})
    with contextlib.suppress(MitralError):
        admin.post("/v1/operators", {"operator": "x", "role": "nonsense"})
    service.stop()
    text = (service.state / "stderr").read_text()
    assert service.log_lines()
    assert token not in text
    assert invitation["token"] not in text
