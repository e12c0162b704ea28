"""The service: both listeners, the driver, the scheduler, and a stop that loses nothing."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog

from coordinator.api.listeners import Listener, bind, listener
from coordinator.app import Coordinator
from coordinator.config import Settings
from coordinator.keys import renew_server_certificate
from coordinator.state import StateLock
from shared.clock import Clock

_log = structlog.get_logger("serve")


def serve(state: Path, settings: Settings, clock: Clock, on_ready: Callable[[Coordinator], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        Unavailable: ``state_in_use``, ``port_in_use``, ``suite_unavailable``.
        InputError: ``state_missing``, ``state_newer``.
    """
    with StateLock(state), contextlib.ExitStack() as stack:
        agents = stack.enter_context(bind(settings.host, settings.agent_port))
        operators = stack.enter_context(bind(settings.host, settings.operator_port))
        coordinator = Coordinator(state, settings, clock)
        coordinator.agent_port = agents.getsockname()[1]
        coordinator.operator_port = operators.getsockname()[1]
        _renew(coordinator, clock.now())
        coordinator.start()
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_run(coordinator, agents, operators, on_ready or announce))
        finally:
            coordinator.stop()
        _log.info("stopped")


def announce(coordinator: Coordinator) -> None:
    """Print the one JSON line that says the service is ready."""
    line = {
        "event": "ready",
        "federation": coordinator.federation,
        "agent_port": coordinator.agent_port,
        "operator_port": coordinator.operator_port,
    }
    print(json.dumps(line), flush=True)  # noqa: T201 (standard output is for whoever started the service)


async def _run(
    coordinator: Coordinator, agents: socket.socket, operators: socket.socket, on_ready: Callable[[Coordinator], None]
) -> None:
    servers = [listener(coordinator, for_agents=True), listener(coordinator, for_agents=False)]
    loop = asyncio.get_running_loop()

    def stop() -> None:
        _log.info("stopping")
        coordinator.ring_stop()
        for server in servers:
            server.should_exit = True

    if sys.platform == "win32":
        for name in (signal.SIGINT, signal.SIGBREAK):
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop))
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    running = [
        asyncio.ensure_future(server.serve([sock])) for server, sock in zip(servers, (agents, operators), strict=True)
    ]
    up = asyncio.ensure_future(_all_up(servers))
    await asyncio.wait({up, *running}, return_when=asyncio.FIRST_COMPLETED)
    on_ready(coordinator)
    await asyncio.gather(*running)


async def _all_up(servers: list[Listener]) -> None:
    for server in servers:
        await server.is_up.wait()


def _renew(coordinator: Coordinator, now: datetime) -> None:
    settings = coordinator.settings
    if renew_server_certificate(coordinator.keys, settings.names, now, settings.server_certificate_days):
        _log.info("server_certificate_issued", names=settings.names)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
