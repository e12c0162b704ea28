"""`mitral-coordinator account`: a person's own password, second factor and session."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.access_file import write_access_file
from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)
Known = Annotated[Path, typer.Argument(help="A link or access file: it says where the coordinator is.")]


@app.command()
def setup(link: Annotated[Path, typer.Argument(help="The one-time link file that `init` or `link` wrote.")]) -> None:
    """Set your password and second factor with a one-time link; shows ten recovery codes once."""
    rest = Rest(link)
    password = typer.prompt("New password", hide_input=True, confirmation_prompt=True)
    found = rest.post("/v1/account/setup", {"link": rest.secret, "password": password})
    typer.echo(f"Add this to your authenticator: {found['totp_secret']}")
    typer.echo(f"or as a link: {found['totp_uri']}")
    code = typer.prompt("The code it shows")
    done = rest.post("/v1/account/confirm", {"link": rest.secret, "code": code})
    link.unlink()  # it is used up
    typer.echo("Recovery codes, each for one login without the authenticator. Print them; they are not shown again:")
    for one in done["recovery_codes"]:
        typer.echo(f"  {one}")


@app.command()
def login(
    known: Known,
    out: Annotated[Path, typer.Option(help="Where to write the session's access file.")],
    operator: Annotated[str, typer.Option(help="The operator's id; the file's own by default.")] = "",
) -> None:
    """Open a session with password and code; the access file ends with it."""
    rest = Rest(known)
    body = {"operator": operator or rest.operator, **_credentials()}
    write_access_file(out, rest.post("/v1/login", body))
    typer.echo(f"{out}: signed in as {body['operator']}")


@app.command()
def logout(context: typer.Context) -> None:
    """End the session of the access file."""
    Rest(context.obj).post("/v1/logout")
    typer.echo("signed out")


@app.command()
def renew(
    context: typer.Context, out: Annotated[Path, typer.Option(help="Where to write the one-time link file.")]
) -> None:
    """Make a link for yourself, to change password, second factor and recovery codes with `account setup`."""
    write_access_file(out, Rest(context.obj).post("/v1/account/link", _credentials()))
    typer.echo(f"{out}: use it with `mitral-coordinator account setup`")


def _credentials() -> dict[str, str]:
    password = typer.prompt("Password", hide_input=True)
    return {"password": password, "code": typer.prompt("Code of the authenticator, or a recovery code")}
