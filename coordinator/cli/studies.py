"""`mitral-coordinator studies`."""

import json
from typing import Annotated

import typer

from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_studies(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """List the studies."""
    found = Rest(context.obj).get("/v1/studies")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for one in found["studies"]:
        approved = f"{len(one['approved_by'])} of {len(one['sites'])} approved"
        typer.echo(f"{one['study']:24} {one['state']:10} {approved:20} {one['reason'] or ''}")


@app.command()
def show(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="The study's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show a study and its rounds."""
    found = Rest(context.obj).get(f"/v1/studies/{study}")
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{found['study']}: {found['title']}\nplan {found['plan']}\n{found['state']} {found['reason'] or ''}")
    for one in found["rounds"]:
        came = f"{len(one['uploaded'])} of {len(one['invited'])} uploaded, {len(one['survivors'])} counted"
        typer.echo(f"{one['kind']:10} {one['round']:4} {one['state']:10} {came} {one['reason'] or ''}")
