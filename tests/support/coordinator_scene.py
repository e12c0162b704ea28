"""A coordinator in this process with scripted sites: real SQLite, real files, the real applications, no sockets."""

import asyncio
import json
import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.api.authentication import PEER_CERTIFICATE
from coordinator.api.routes import AGENT_ROUTES, OPERATOR_ROUTES, build_app
from coordinator.app import Coordinator
from coordinator.config import Settings, check_settings
from coordinator.logs import configure_logs
from coordinator.state import initialise
from shared.canonical import JsonObject, sha256_hex
from shared.clock import FixedClock
from shared.model_state import from_bytes, to_bytes
from shared.protocol.enrolment import Invitation
from shared.protocol.problems import error_from_problem
from shared.protocol.study import Plan, StudyView
from tests.support.fake_site import Answer, FakeSite
from tests.support.plans import plan_with

FEDERATION = "federation-1"
SITES = ("site-a", "site-b", "site-c", "site-d")
D = 8


@dataclass
class InProcess:
    """Calls the applications directly; the certificate goes into the scope as the TLS listener would put it."""

    scene: "Scene"

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str], site: FakeSite) -> Answer:
        certificate = site.chain[0] if site.chain else None
        return self.scene.call_app(self.scene.agent_app, method, path, body, headers, certificate)


@dataclass
class Scene:
    """The whole federation; `restart` is a crash: new objects on the same directory."""

    state: Path
    settings: Settings
    clock: FixedClock
    names: tuple[str, ...] = SITES
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    sites: dict[str, FakeSite] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    coordinator: Coordinator = field(init=False)
    agent_app: Any = field(init=False)
    operator_app: Any = field(init=False)
    woken: dict[str, datetime] = field(default_factory=dict)

    def boot(self) -> None:
        self.coordinator = Coordinator(self.state, self.settings, self.clock)
        self.coordinator.driver._wake_at = self.woken.__setitem__  # deadlines are looked at, not waited for
        self.agent_app = build_app(self.coordinator, AGENT_ROUTES)
        self.operator_app = build_app(self.coordinator, OPERATOR_ROUTES)

    def restart(self) -> None:
        """Come back after a crash: nothing of the old process is asked to tidy up."""
        self.coordinator.database.engine.dispose()
        self.boot()
        from coordinator.rounds.sweep import sweep_files

        sweep_files(self.coordinator.desk)
        self.coordinator.driver.nudge_running()
        for site in self.sites.values():
            if self.coordinator.presence.last_seen(site.name) is None and site.chain:
                site.poll(cursor="")
        self.drain()

    def close(self) -> None:
        self.coordinator.database.close()
        self.runner.close()

    def drain(self) -> None:
        """Let the rounds move as far as they can now."""
        self.coordinator.driver.drain()

    def pass_time(self, seconds: float) -> None:
        """Move the clock and let every deadline that came fire; the sites stay online."""
        self.clock.at += timedelta(seconds=seconds)
        for site in self.sites.values():
            if site.chain and site.name not in self.silent:
                self.coordinator.presence.saw(site.name, self.clock.at)
        self.coordinator.driver.nudge_running()
        self.drain()

    silent: set[str] = field(default_factory=set)

    def copy_to(self, folder: Path) -> "Scene":
        """Return a scene that goes on from here in its own directory; this one's database must be closed."""
        made = Scene(folder / "state", self.settings, FixedClock(self.clock.at), self.names)
        shutil.copytree(self.state, made.state)
        made.tokens = dict(self.tokens)
        made.boot()
        for name, site in self.sites.items():
            made.sites[name] = replace(
                site, transport=InProcess(made), serials={}, secrets={}, own_pairing={}, peers={}, sealed={}
            )
        return made

    # --- requests ----------------------------------------------------------------------------------------------------

    def call_app(
        self, app: Any, method: str, path: str, body: bytes | None, headers: dict[str, str], certificate: bytes | None,
        *, answer_headers: dict[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """Return status and body; the answer's headers go into `answer_headers`."""
        return self.runner.run(_call(app, method, path, body, headers, certificate, answer_headers))

    def operator(
        self, method: str, path: str, body: JsonObject | bytes | None = None, *, role: str = "researcher"
    ) -> Any:
        """Call the operator plane; return the parsed answer or raise its error."""
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        status, answer = self.call_app(self.operator_app, method, path, raw, headers, None)
        self.drain()
        if 200 <= status < 300:
            return json.loads(answer) if answer[:1] == b"{" else answer
        raise error_from_problem(json.loads(answer)) or AssertionError(answer)

    # --- set-up ------------------------------------------------------------------------------------------------------

    def enrol_all(self) -> None:
        for name in self.names:
            site = FakeSite(name, InProcess(self))
            self.enrol(site)

    def enrol(self, site: FakeSite) -> None:
        answer = self.operator("POST", "/v1/sites/invitations", {"site": site.name}, role="administrator")
        fingerprint = site.enrol(Invitation.check(answer))
        self.operator("POST", f"/v1/sites/{site.name}/approve", {"fingerprint": fingerprint}, role="administrator")
        assert site.fetch_certificate()
        self.sites[site.name] = site

    def activate_roster(self, c: int | None = None) -> None:
        body = {} if c is None else {"c": c}
        version = self.operator("POST", "/v1/rosters", body, role="administrator")["version"]
        for site in self.sites.values():
            site.approve_roster(version)

    def submit(self, **changes: Any) -> Plan:
        model = to_bytes({"w": np.zeros(D, np.float32)})
        self.operator("PUT", f"/v1/blobs/{sha256_hex(model)}", model)
        plan = plan_with(
            **{
                "federation": FEDERATION,
                "sites": sorted(self.sites),
                "preprocessing": {"normalise": "none"},
                "initial_model": sha256_hex(model),
                "dimension": D,
                **changes,
            }
        )
        self.operator("POST", "/v1/studies", plan.as_json())
        return plan

    def start(self, plan: Plan) -> None:
        for site in self.sites.values():
            site.approve_study(plan)
        self.operator("POST", f"/v1/studies/{plan.study}/start")
        self.pair()

    def pair(self) -> None:
        """Let every site make its bundle and read the others', until a round is open or nothing moves."""
        for _ in range(2):
            for site in self.sites.values():
                site.work(skip=("open", "close", "unmask"))
            self.drain()

    # --- looking -----------------------------------------------------------------------------------------------------

    def study(self, plan: Plan) -> StudyView:
        return StudyView.check(self.operator("GET", f"/v1/studies/{plan.study}"))

    def contexts(self, plan: Plan) -> list[Any]:
        with self.coordinator.database.reading("test") as tx:
            from coordinator.storage import rounds

            return rounds.read_rounds(tx, plan.study)

    def live(self, plan: Plan) -> Any:
        return self.contexts(plan)[-1]

    def blob(self, digest: str) -> bytes:
        return self.coordinator.blobs.read(digest)

    def weights(self, digest: str) -> np.ndarray:
        return from_bytes(self.blob(digest))["w"]

    def entries(self) -> list[JsonObject]:
        with self.coordinator.database.reading("test") as tx:
            return [json.loads(row.leaf) for row in tx.rows("SELECT leaf FROM log_leaf ORDER BY idx")]


def new_scene(folder: Path, names: tuple[str, ...] = SITES, **settings: Any) -> Scene:
    """Return an initialised coordinator with its administrator and a researcher."""
    configure_logs("ERROR")
    clock = FixedClock(datetime(2026, 11, 21, 9, 0, tzinfo=UTC))
    chosen = check_settings(folder, federation=FEDERATION, names=["127.0.0.1"], **settings)
    access = initialise(folder / "state", chosen, clock)
    scene = Scene(folder / "state", chosen, clock, names)
    scene.tokens["administrator"] = json.loads(access.read_text())["token"]
    scene.boot()
    for role in ("researcher", "auditor", "viewer"):
        answer = scene.operator("POST", "/v1/operators", {"operator": role, "role": role}, role="administrator")
        scene.tokens[role] = answer["token"]
    return scene


async def _call(
    app: Any, method: str, path: str, body: bytes | None, headers: dict[str, str], certificate: bytes | None,
    answer_headers: dict[str, str] | None,
) -> Answer:  # fmt: skip
    path, _, query = path.partition("?")
    raw = body or b""
    listed = {"content-length": str(len(raw)), **{name.lower(): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in listed.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "extensions": {PEER_CERTIFICATE: certificate},
    }
    pieces = [raw[start : start + 65536] for start in range(0, len(raw), 65536)] or [b""]
    sent: list[Any] = []

    async def receive() -> Any:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    if answer_headers is not None:
        answer_headers.update({name.decode().lower(): value.decode() for name, value in sent[0]["headers"]})
    return sent[0]["status"], content
