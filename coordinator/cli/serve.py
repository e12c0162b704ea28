"""`mitral-coordinator serve`."""

from pathlib import Path
from typing import Annotated

import typer

from shared.clock import SystemClock


def serve(
    state: Annotated[Path, typer.Option(help="A directory that `init` made.")],
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Serve agents and operators until SIGTERM. One JSON line on standard output says when it is ready."""
    from coordinator.config import read_settings
    from coordinator.logs import configure_logs
    from coordinator.serve import serve as run

    configure_logs(log_level)
    run(state, read_settings(state), SystemClock())
