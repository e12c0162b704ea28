"""`mitral-coordinator operators`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.access_file import write_access_file
from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The operator's id.")],
    role: Annotated[str, typer.Option(help="administrator, researcher, auditor or viewer.")],
    out: Annotated[Path, typer.Option(help="Where to write the access file.")],
    days: Annotated[int | None, typer.Option(help="How long the token is valid, 90 by default, at most 366.")] = None,
) -> None:
    """Add an operator; its token stands in the access file and nowhere else."""
    body: dict[str, object] = {"operator": name, "role": role}
    if days is not None:
        body["days"] = days
    write_access_file(out, Rest(context.obj).post("/v1/operators", body))
    typer.echo(f"{out}: {name} is {role}")


@app.command("list")
def list_operators(context: typer.Context) -> None:
    """List the operators."""
    for one in Rest(context.obj).get("/v1/operators")["operators"]:
        state = f"removed {one['removed_at']}" if one["removed_at"] else f"since {one['created_at']}"
        typer.echo(f"{one['operator']:24} {one['role']:14} {state}")


@app.command()
def link(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The operator's id.")],
    out: Annotated[Path, typer.Option(help="Where to write the one-time link file.")],
) -> None:
    """Make a one-time link with which the operator sets password and second factor, anew if need be."""
    found = Rest(context.obj).post(f"/v1/operators/{name}/link")
    write_access_file(out, found)
    typer.echo(f"{out}: for {name}, once, until {found['expires_at']}")


@app.command()
def bind(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The operator's id.")],
    subject: Annotated[str, typer.Option(help="The `sub` that the identity provider gives; none unbinds.")] = "",
) -> None:
    """Say who the operator is at the identity provider."""
    Rest(context.obj).post(f"/v1/operators/{name}/identity", {"subject": subject} if subject else {})
    typer.echo(f"{name} is {'bound' if subject else 'bound to nobody'}")


@app.command()
def role(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The operator's id.")],
    role: Annotated[str, typer.Argument(help="administrator, researcher, auditor or viewer.")],
) -> None:
    """Give an operator another role; nobody changes his own."""
    Rest(context.obj).post(f"/v1/operators/{name}/role", {"role": role})
    typer.echo(f"{name} is {role}")


@app.command()
def remove(context: typer.Context, name: Annotated[str, typer.Argument(help="The operator's id.")]) -> None:
    """Take an operator's access away."""
    Rest(context.obj).delete(f"/v1/operators/{name}")
    typer.echo(f"{name} is removed")
