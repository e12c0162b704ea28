"""`mitral-coordinator sites`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from coordinator.access_file import write_access_file
from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)
Site = Annotated[str, typer.Argument(help="The site's id.")]


@app.command()
def invite(
    context: typer.Context,
    site: Site,
    out: Annotated[Path, typer.Option(help="Where to write the invitation file.")],
    name: Annotated[str, typer.Option(help="The hospital's name.")] = "",
) -> None:
    """Invite a hospital: hand it the file, out of band."""
    invitation = Rest(context.obj).post("/v1/sites/invitations", {"site": site, "name": name})
    write_access_file(out, invitation)
    typer.echo(f"{out}: for {site}, once, until {invitation['expires_at']}")


@app.command("list")
def list_sites(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """List the sites and what they wait for."""
    found = Rest(context.obj).get("/v1/sites")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for site in found["sites"]:
        online = "online" if site["online"] else f"last seen {site['last_seen_at'] or 'never'}"
        typer.echo(f"{site['site']:24} {site['state']:10} {site['fingerprint'] or '-':24} {online}")


@app.command()
def approve(
    context: typer.Context,
    site: Site,
    fingerprint: Annotated[str, typer.Option(help="As the hospital read it to you, by telephone or in person.")],
) -> None:
    """Approve a site whose fingerprint you have compared."""
    answer = Rest(context.obj).post(f"/v1/sites/{site}/approve", {"fingerprint": fingerprint})
    typer.echo(f"{site} is approved; certificate {answer['serial']}")


@app.command()
def reject(context: typer.Context, site: Site) -> None:
    """Turn a pending site away."""
    Rest(context.obj).post(f"/v1/sites/{site}/reject")
    typer.echo(f"{site} is rejected")


@app.command()
def revoke(
    context: typer.Context, site: Site, reason: Annotated[str, typer.Option(help="Why; kept apart from the log.")] = ""
) -> None:
    """Shut a site out at once."""
    Rest(context.obj).post(f"/v1/sites/{site}/revoke", {"reason": reason})
    typer.echo(f"{site} is revoked")


@app.command()
def readmit(context: typer.Context, site: Site) -> None:
    """Let a site back into rounds that was kept out for what it had dealt."""
    Rest(context.obj).post(f"/v1/sites/{site}/readmit")
    typer.echo(f"{site} may take part again, after a new pairing")
