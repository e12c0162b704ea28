"""`mitral-site enrol`."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from shared.clock import SystemClock
from shared.errors import InputError
from site_agent import enrolment, journal
from site_agent.coordinator_client import CoordinatorClient
from site_agent.recording import record_command
from site_agent.storage.enrolment import read_enrolment
from site_agent.tls import server_context


def enrol(
    context: typer.Context,
    invitation: Annotated[Path, typer.Argument(help="The invitation file from the federation's administrator.")],
    name: Annotated[str, typer.Option(help="The hospital's name, as the other hospitals will read it.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the approval.")] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Enrol this site once more, under the identity key it has.")
    ] = False,
) -> None:
    """Make this site's keys, ask to join, show the fingerprint, and fetch the certificate once approved.

    Call the federation's administrator and compare the fingerprint; run the same command again to go on waiting.
    """
    clock = SystemClock()
    try:
        raw = invitation.read_bytes()
    except OSError as error:
        raise InputError("invitation_invalid", f"{invitation}: {error.strerror}") from error
    given = enrolment.read_invitation(raw, clock.now())
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    with context.obj.open(create=True) as state:
        stored = enrolment.prepare_request(state.database, given, name, os.urandom, again=again)
        if stored.state != "approved":
            tls = server_context(stored.root, state.settings.extra_ca_file)
            proxy, timeout = state.settings.proxy, state.settings.timeout_seconds
            client = CoordinatorClient.dialling(stored.url, tls, clock, proxy=proxy, timeout_seconds=timeout)
            with state.database.reading("who writes the log") as tx:
                keeper, since = journal.read_keeper(tx), clock.now()
            try:
                enrolment.enrol(
                    state.database, state.folder, client, clock, wait_seconds=wait, stop=stop, show=_show_fingerprint
                )
            finally:
                record_command(state.database, keeper, client.meter, since, clock.now())
        with state.database.reading("read enrolment") as tx:
            now = read_enrolment(tx)
    approved = now is not None and now.state == "approved"
    if approved:
        typer.echo(f"enrolled as {given.site} in {given.federation}; start the agent with `mitral-site run`")
    else:
        typer.echo("waiting for the administrator's approval; run the same command again to fetch the certificate")


def _show_fingerprint(fingerprint: str) -> None:
    typer.echo(f"fingerprint of this site: {fingerprint}")
    typer.echo("The administrator must see the same one; compare it by telephone with a person you know.")
