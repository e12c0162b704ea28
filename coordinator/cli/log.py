"""`mitral-coordinator log`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)


class Why(StrEnum):
    """Why a key is exchanged; free text would be a place for names."""

    scheduled = "scheduled"
    compromise = "compromise"
    custody = "custody"


@app.command()
def status(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """Show how many entries there are, how far they are final, and what each hospital cosigned."""
    found = Rest(context.obj).get("/v1/audit/witnesses")
    if as_json:
        typer.echo(json.dumps(found))
        return
    if found["held"] is not None:
        typer.echo(f"! the log is held ({found['held']['code']}): {found['held']['detail']}")
    log = found["log"]
    if log is None:
        typer.echo("no roster is active; there are no witnesses yet")
        return
    typer.echo(f"{log['size']} entries under the newest head; final up to {log['final']} (takes {log['quorum']} sites)")
    for site, size in sorted(log["cosigned"].items()):
        typer.echo(f"  {site:24} cosigned {size}" if size else f"  {site:24} has cosigned nothing yet")


@app.command("rotate-key")
def rotate(
    state: Annotated[Path, typer.Option(help="The state directory of the stopped service.")],
    reason: Annotated[Why, typer.Option(help="Why; it stands in the log.")] = Why.scheduled,
) -> None:
    """Give the log a new signing key. Propose a new roster version afterwards: it brings the key to the hospitals."""
    # Imported here: every other verb is a REST client and starts faster without the database.
    from coordinator.config import read_settings
    from coordinator.log_rotation import rotate_key
    from shared.clock import SystemClock

    old, new = rotate_key(state, read_settings(state).federation, reason.value, SystemClock())
    typer.echo(f"before: {old}\nnow:    {new}")
    typer.echo("Next: start the service, and propose a roster version (mitral-coordinator rosters propose).")
