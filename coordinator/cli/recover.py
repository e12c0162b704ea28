"""`mitral-coordinator recover`."""

from pathlib import Path
from typing import Annotated

import typer

from shared.clock import SystemClock


def recover(
    operator: Annotated[str, typer.Argument(help="The operator's id.")],
    state: Annotated[Path, typer.Option(help="The state directory; the service must be stopped.")],
    out: Annotated[Path, typer.Option(help="Where to write the one-time link file.")],
) -> None:
    """Make a one-time link when no administrator can sign in any more; the log keeps that it was made here."""
    from coordinator.config import read_settings
    from coordinator.state import recover_account

    recover_account(state, read_settings(state), operator, out, SystemClock())
    typer.echo(f"{out}: start the service, then use it with `mitral-coordinator account setup`")
