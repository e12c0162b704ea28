"""The network of the simulation: every request of a site goes through here, and may meet a fault.

What was ever sent is kept: evidence for the invariants, and old messages that can be delivered once more.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from shared.protocol.problems import MEDIA_TYPE
from tests.fault.faults import NETWORK, CoordinatorKilled

if TYPE_CHECKING:
    from tests.fault.simulation import Simulation

_PROXY_PAGE = b"<html><body>Your organisation has blocked this page.</body></html>"
_PHASES = re.compile(r"/(uploads|shares|manifest|refusal|decision|unmask-request|unmask|attestation|cosignatures)/")


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that changes something, as it left the site."""

    site: str
    path: str
    body: bytes


class SiteTransport(httpx.BaseTransport):
    """Carries one site's requests into the coordinator's application."""

    def __init__(self, simulation: "Simulation", site: str) -> None:
        self._simulation, self._site = simulation, site

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        status, body = self._simulation.network.exchange(
            self._site, request.method, request.url.raw_path.decode(), request.content, dict(request.headers)
        )
        kind = "application/json" if status < 400 else MEDIA_TYPE
        if body == _PROXY_PAGE:
            kind = "text/html"
        return httpx.Response(status, content=body, headers={"Content-Type": kind})


class Network:
    """Delivers, loses, repeats, holds back and damages."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self.sent: list[Sent] = []
        self.faults = 0
        self.failures: list[str] = []  # answers that no fault explains

    def exchange(self, site: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Make one request of a site; what the armed fault says happens to it."""
        name = f"{method} {_named(path)}"
        if method != "GET":
            self._simulation.sites[site].pass_point(f"before {name}")
        fault = self._simulation.armed.strikes(NETWORK, name, site)
        self.faults += fault is not None
        if method == "PUT":
            self.sent.append(Sent(site, path, body))
        if fault in {"request lost", "delayed"}:  # a delayed one can be delivered later by `redeliver`
            raise httpx.ConnectError(f"{fault}: {name}")
        if fault == "proxy page":
            return (200 if method == "GET" else 403), _PROXY_PAGE
        if fault == "corrupted" and body:
            body = body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
        if fault == "duplicated":
            self._deliver(site, method, path, body, headers)
        answer = self._deliver(site, method, path, body, headers)
        if fault == "response lost":
            raise httpx.ReadError(f"{fault}: {name}")
        if method != "GET":
            self._simulation.sites[site].pass_point(f"after {name}")
        return answer

    def redeliver(self, back: int) -> None:
        """Deliver an old message once more, the `back`-th last one; nobody reads the answer."""
        if self.sent:
            old = self.sent[-1 - back % len(self.sent)]
            try:
                self._deliver(old.site, "PUT", old.path, old.body, {})
            except httpx.ConnectError:
                return

    def _deliver(self, site: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        simulation = self._simulation
        if simulation.is_down:
            raise httpx.ConnectError("the coordinator is down")
        certificate = simulation.sites[site].certificate
        try:
            status, answer = simulation.scene.call_app(
                simulation.scene.agent_app, method, path, body, headers, certificate
            )
        except CoordinatorKilled as error:
            simulation.is_down = True
            raise httpx.ReadError("the coordinator died") from error
        if status >= 500 and b'"log_held"' not in answer:  # after a start it waits for its witnesses
            self.failures.append(f"{method} {path}: {status} {answer[:300]!r}")
        return status, answer


def _named(path: str) -> str:
    """Return what a path is about, without what differs between sites and contexts."""
    found = _PHASES.search(path)
    if found is not None:
        return found.group(1)
    parts = path.partition("?")[0].strip("/").split("/")
    return parts[-2] if len(parts) > 3 else parts[1]
