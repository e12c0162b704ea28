"""`mitral-coordinator tokens`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from coordinator.access_file import write_access_file
from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)


@app.command()
def issue(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Where to write the access file.")],
    name: Annotated[str, typer.Option(help="What the token is for; shown in lists.")] = "",
    permission: Annotated[
        list[str] | None,
        typer.Option(help="What it may do, such as studies.read:STUDY; repeat it. All that you may, by default."),
    ] = None,
    days: Annotated[int | None, typer.Option(help="How long it is valid, 90 by default, at most 366.")] = None,
) -> None:
    """Make a token for yourself; it stands in the access file and nowhere else."""
    body: dict[str, object] = {"name": name, "permissions": permission or []}
    if days is not None:
        body["days"] = days
    write_access_file(out, Rest(context.obj).post("/v1/tokens", body))
    typer.echo(f"{out}: {' '.join(permission or ['everything you may'])}")


@app.command("list")
def list_tokens(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """List your tokens; administrators and auditors see everybody's."""
    found = Rest(context.obj).get("/v1/tokens")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for one in found["tokens"]:
        state = f"until {one['expires_at']}" if one["valid"] else f"revoked {one['revoked_at'] or 'by its end'}"
        reach = " ".join(one["permissions"] or ["all of the role"])
        typer.echo(f"{one['token']:20} {one['operator']:16} {state:32} {reach} {one['name']}")


@app.command()
def revoke(context: typer.Context, token: Annotated[str, typer.Argument(help="The token's id.")]) -> None:
    """Take a token away at once."""
    Rest(context.obj).delete(f"/v1/tokens/{token}")
    typer.echo(f"{token} is revoked")
