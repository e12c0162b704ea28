"""`mitral-coordinator rosters`."""

import json
from typing import Annotated

import typer

from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)


@app.command()
def propose(
    context: typer.Context,
    c: Annotated[int | None, typer.Option(help="Corrupt sites to withstand; a third of the sites by default.")] = None,
) -> None:
    """Propose the next version from all approved sites; every site has to approve it."""
    found = Rest(context.obj).post("/v1/rosters", {} if c is None else {"c": c})
    typer.echo(f"version {found['version']}, {len(found['sites'])} sites, c = {found['c']}, {found['fingerprint']}")


@app.command("list")
def list_rosters(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """List the versions and who approved them."""
    found = Rest(context.obj).get("/v1/rosters")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for one in found["rosters"]:
        approved = f"{len(one['approved_by'])} of {len(one['sites'])} approved"
        typer.echo(f"{one['version']:4} {one['state']:10} c={one['c']} {one['fingerprint']} {approved}")
