"""Two uvicorn servers in one process: agents with client certificates, operators without (PROTOCOLS 1.8)."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Generator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from coordinator.api.authentication import PEER_CERTIFICATE
from coordinator.api.routes import AGENT_ROUTES, OPERATOR_ROUTES, build_app
from coordinator.app import Coordinator
from shared.errors import Unavailable

_GRACE_SECONDS = 3
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
_FLUSH_SECONDS = 0.05
_KEEP_ALIVE_SECONDS = 75
_SILENT_SECONDS = 90.0  # longer than a connection may idle between requests
_WATCH_SECONDS = 15.0


class _PeerCertificate:
    """Mixed into a uvicorn protocol: gives the application what TLS has verified about the other end."""

    app: Any
    loop: asyncio.AbstractEventLoop
    transport: Any
    cycle: Any  # uvicorn's request under way, if any

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (asyncio's own type is not precise either)
        super().connection_made(transport)  # type: ignore[misc]
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        inner = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
            # Whatever came in over the wire, this name in the scope is ours.
            scope.setdefault("extensions", {})[PEER_CERTIFICATE] = certificate
            await inner(scope, receive, send)

        self.app = app
        self._busy_at = self.loop.time()
        self._watch()

    def _watch(self) -> None:
        """Cut a connection on which no request comes to its end: uvicorn waits for the rest of a header for ever."""
        if self.transport is None or self.transport.is_closing():
            return
        now = self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            self._busy_at = now
        if now - self._busy_at > _SILENT_SECONDS:
            self.transport.abort()
        else:
            self.loop.call_later(_WATCH_SECONDS, self._watch)


class H11WithCertificate(_PeerCertificate, H11Protocol):
    """uvicorn's pure Python protocol."""


def http_protocol() -> type[asyncio.Protocol]:
    """Return the faster protocol where httptools is installed."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return H11WithCertificate

    class HttpToolsWithCertificate(_PeerCertificate, HttpToolsProtocol):
        """uvicorn's protocol on httptools."""

    return HttpToolsWithCertificate


class Listener(uvicorn.Server):
    """A server that leaves signals to the process and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Prepare; `is_up` is set when the port answers."""
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do nothing: `serve` handles signals for both listeners."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, finish what is in flight, then cut the connections that only idle.

        uvicorn itself waits for the other end of every connection to close it, and an idle agent never does.
        """
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        connections = list(self.server_state.connections)
        for connection in connections:
            connection.shutdown()
        loop = asyncio.get_running_loop()
        until = loop.time() + _GRACE_SECONDS
        while self.server_state.tasks and loop.time() < until:
            await asyncio.wait(list(self.server_state.tasks), timeout=until - loop.time())
        await asyncio.sleep(_FLUSH_SECONDS)  # the last answers are on their way to the kernel
        for connection in connections:
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


def bind(host: str, port: int) -> socket.socket:
    """Bind a port before anything else is started.

    Raises:
        Unavailable: ``port_in_use``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(2048)
    except OSError as error:
        found.close()
        raise Unavailable("port_in_use", f"{host}:{port}: {error.strerror}") from error
    return found


def tls_context(coordinator: Coordinator, *, for_agents: bool) -> ssl.SSLContext:
    """Return the TLS settings of a listener. Agents may come without a certificate only to enrol; routes check it."""
    keys = coordinator.keys
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(keys.server_chain_path, keys.server_key_path, password=keys.tls_password.reveal)
    context.set_alpn_protocols(["http/1.1"])
    if for_agents:
        context.load_verify_locations(cadata=keys.root_der)
        context.verify_mode = ssl.CERT_OPTIONAL
        # An expired certificate is let through TLS and refused by every route (`check_active`): the site is then told
        # what is wrong and what to do, where a failed handshake would only cut its connection.
        context.verify_flags |= _NO_CHECK_TIME
    return context


def listener(coordinator: Coordinator, *, for_agents: bool) -> Listener:
    """Return the server of one plane, not started."""
    app = build_app(coordinator, AGENT_ROUTES if for_agents else OPERATOR_ROUTES)
    context = tls_context(coordinator, for_agents=for_agents)

    def factory(_config: uvicorn.Config, _default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return context

    config = uvicorn.Config(
        app,
        http=http_protocol(),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=factory,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return Listener(config)
