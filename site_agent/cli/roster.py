"""`mitral-site roster`."""

import json
import sys
from typing import Annotated

import typer

from shared.clock import SystemClock
from shared.errors import InputError
from site_agent import rosters
from site_agent.identity import read_identity
from site_agent.rosters import RosterPicture

app = typer.Typer(help="Look at the list of hospitals and keys, and sign it.", no_args_is_help=True)


@app.command("show")
def show(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the newest roster version: every hospital with its fingerprint, what changed, and who has signed."""
    with context.obj.open() as state, state.database.reading("show roster") as tx:
        picture = rosters.picture(tx)
    if as_json:
        typer.echo(json.dumps(_as_json(picture), indent=2))
        return
    for line in _lines(picture):
        typer.echo(line)


@app.command("approve")
def approve(
    context: typer.Context,
    fingerprint: Annotated[str, typer.Option(help="The roster's fingerprint, as you compared it.")] = "",
) -> None:
    """Sign the newest roster version, after comparing every new hospital's fingerprint by telephone or video."""
    with context.obj.open() as state:
        if not fingerprint:
            with state.database.reading("show roster") as tx:
                picture = rosters.picture(tx)
            for line in _lines(picture):
                typer.echo(line)
            if not sys.stdin.isatty():
                raise InputError("confirmation_missing", "nobody is there to ask; give --fingerprint")
            fingerprint = typer.prompt("Type the roster's fingerprint to sign it")
        with state.database.transaction("approve roster") as tx:
            stored = rosters.approve(tx, read_identity(tx), fingerprint, SystemClock().now())
    typer.echo(f"roster version {stored.version} is signed; the agent sends the signature")


def _as_json(picture: RosterPicture) -> dict[str, object]:
    stored, changes = picture.stored, picture.changes
    return {
        "version": stored.version,
        "roster": stored.roster_hash,
        "fingerprint": picture.fingerprint,
        "state": stored.state,
        "approved_here": stored.approved,
        "approved_by": sorted(stored.approvals),
        "sites": picture.sites,
        "added": changes.added,
        "removed": changes.removed,
        "rekeyed": changes.rekeyed,
    }


def _lines(picture: RosterPicture) -> list[str]:
    stored, changes = picture.stored, picture.changes
    signed = ", ".join(sorted(stored.approvals)) or "nobody"
    lines = [
        f"roster version {stored.version} ({stored.state}), up to {stored.roster['c']} corrupt sites tolerated",
        f"fingerprint {picture.fingerprint}",
        f"signed by {signed}",
    ]
    for site, fingerprint in picture.sites.items():
        mark = "new  " if site in changes.added else "KEYS " if site in changes.rekeyed else "     "
        name = next(entry["name"] for entry in stored.roster["sites"] if entry["id"] == site)
        lines.append(f"  {mark}{site}  {fingerprint}  {name}")
    lines += [f"  gone {site}" for site in changes.removed]
    return lines
