"""`mitral-coordinator audit`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)


@app.callback()
def about() -> None:
    """Export the log; `mitral audit verify` checks an export offline."""


@app.command()
def export(context: typer.Context, file: Annotated[Path, typer.Argument(help="The zip file to write.")]) -> None:
    """Write the whole log with its evidence into a file."""
    raw = Rest(context.obj).call("GET", "/v1/audit/export")
    file.write_bytes(raw)
    typer.echo(f"{file}: {len(raw)} bytes; check it with: mitral audit verify {file}")
