"""`mitral-coordinator serve` as a process on a scene's state directory, and clients for it."""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordinator.config import read_settings, write_settings
from coordinator.keys import load_keys
from coordinator.state import agent_url
from shared.crypto import x509
from tests.support.coordinator_scene import Scene
from tests.support.fake_site import FakeSite
from tests.support.https_transport import Https

COMMAND = [sys.executable, "-m", "coordinator.cli.main"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Service:
    """`mitral-coordinator serve` and clients for it."""

    def __init__(self, state: Path, scene: Scene) -> None:
        self.state = state
        settings = read_settings(state).model_copy(update={"agent_port": free_port(), "operator_port": free_port()})
        write_settings(state, settings)
        self.settings = read_settings(state)
        self.process: subprocess.Popen[str]
        self.root = load_keys(state / "keys").root_der
        self.transport = Https(agent_url(self.settings, self.settings.agent_port), self.root)
        self.sites = {
            name: replace(site, transport=self.transport, chain=self.certificate(site))
            for name, site in scene.sites.items()
        }

    def certificate(self, site: FakeSite, **changes: Any) -> list[bytes]:
        """Issue what the scene's frozen clock could not: a certificate that is valid now, and known to the database."""
        keys = load_keys(self.state / "keys")
        now = changes.get("now", datetime.now(UTC))
        der = keys.issue_site_certificate(
            x509.make_csr(site.tls), "federation-1", site.name, now, changes.get("days", 7)
        )
        if changes.get("known", True):
            self.know(site, der)
        return [der, keys.clients.cert_der]

    def know(self, site: FakeSite, der: bytes) -> None:
        """Make this the site's present certificate."""
        with contextlib.closing(sqlite3.connect(self.state / "coordinator.sqlite")) as database, database:
            serial = x509.read_site_certificate(der).serial
            database.execute("UPDATE site SET certificate_serial = ? WHERE site = ?", (serial, site.name))

    def start(self) -> None:
        self.errors = (self.state / "stderr").open("ab")
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--state", str(self.state)], stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        assert self.process.stdout is not None
        line = json.loads(self.process.stdout.readline())
        assert (line["event"], line["agent_port"]) == ("ready", self.settings.agent_port)

    def stop(self, number: int = signal.SIGTERM) -> float:
        started = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(timeout=10) == (0 if number == signal.SIGTERM else -number)
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()
        return time.monotonic() - started

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.state / "stderr").read_text().splitlines()]


def fixed_access(service: Service) -> Path:
    """Return the administrator's access file with the port of this run; what the frozen clock dated is valid now."""
    with contextlib.closing(sqlite3.connect(service.state / "coordinator.sqlite")) as database, database:
        database.execute("UPDATE api_token SET expires_at = '2999-01-01T00:00:00.000Z'")
    path = service.state / "administrator.access.json"
    access = json.loads(path.read_text())
    access["url"] = f"https://127.0.0.1:{service.settings.operator_port}"
    path.write_text(json.dumps(access))
    return path
