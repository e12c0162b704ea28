"""`mitral-site revoke`."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from shared.clock import SystemClock
from shared.errors import InputError
from site_agent import journal, revocation
from site_agent.agent import connect_anonymously
from site_agent.identity import read_identity
from site_agent.recording import record_command


class Reason(StrEnum):
    """Why a site takes itself out."""

    COMPROMISED = "compromised"
    LEAVING = "leaving"
    UNSPECIFIED = "unspecified"


def revoke(
    context: typer.Context,
    reason: Annotated[Reason, typer.Option(help="It is written into the federation's log.")] = Reason.UNSPECIFIED,
    confirm: Annotated[str, typer.Option(help="This site's id, if nobody is there to type it.")] = "",
) -> None:
    """Take this site out of the federation, at once: nobody acts in its name any more, whoever holds its keys.

    To come back it needs a new invitation and a new comparison of fingerprints.
    """
    with context.obj.open() as state:
        clock = SystemClock()
        with state.database.reading("read identity") as tx:
            identity, keeper, since = read_identity(tx), journal.read_keeper(tx), clock.now()
        if not confirm and sys.stdin.isatty():
            confirm = typer.prompt(f"Type the site's id to take it out of {identity.federation}")
        if confirm != identity.site:
            raise InputError("confirmation_missing", f"nothing was done; give --confirm {identity.site}")
        client = connect_anonymously(state, clock)
        try:
            revocation.revoke(state.database, identity, client, reason.value)
        finally:
            client.close()
            record_command(state.database, keeper, client.meter, since, clock.now())
    typer.echo(f"{identity.site} is out of {identity.federation}; tell its administrator and the other hospitals")
