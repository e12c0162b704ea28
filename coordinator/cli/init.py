"""`mitral-coordinator init`."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from shared.clock import SystemClock


def init(
    state: Annotated[Path, typer.Option(help="The directory to make; it holds keys, database and models.")],
    federation: Annotated[str, typer.Option(help="The federation's id: 1 to 64 of a-z 0-9 . _ -")],
    name: Annotated[list[str], typer.Option(help="A DNS name or IP address agents will use; give it for each.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    agent_port: Annotated[int, typer.Option(help="Where agents connect; 0 picks a free port now.")] = 9092,
    operator_port: Annotated[int, typer.Option(help="Where operators connect; 0 picks a free port now.")] = 8443,
) -> None:
    """Make the identity, the private authority, the log and the first administrator."""
    # Imported here: every other verb is a REST client and starts faster without the database.
    from coordinator.config import check_settings
    from coordinator.state import LINK, initialise

    settings = check_settings(
        state,
        federation=federation,
        names=name,
        host=host,
        agent_port=agent_port or free_port(host),
        operator_port=operator_port or free_port(host),
    )
    access = initialise(state, settings, SystemClock())
    typer.echo(f"The federation {federation} is set up in {state}.")
    typer.echo(f"The first administrator's access file: {access}")
    typer.echo(f"The first administrator's one-time link: {state / LINK}")
    typer.echo(f"Next: mitral-coordinator serve --state {state}")


def free_port(host: str) -> int:
    """Return a port that is free now; it goes into the settings, because invitations and access files name it."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        port: int = found.getsockname()[1]
        return port
