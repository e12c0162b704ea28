"""`mitral-site`: the hospital's command line."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from shared.crypto.secret import guard_process
from shared.errors import InputError, Misuse, MitralError, PeerFault, Refusal
from site_agent.cli import data, egress, enrol, revoke, roster, run, status, studies
from site_agent.cli.opened import Opened

EXIT_CODES: list[tuple[type[MitralError], int]] = [(InputError, 2), (Refusal, 3), (PeerFault, 4), (Misuse, 70)]
EXIT_UNAVAILABLE = 5
EXIT_BUG = 70

app = typer.Typer(
    name="mitral-site",
    help="The agent of one hospital. It dials out to the coordinator and opens no port.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    context: typer.Context,
    state: Annotated[
        Path,
        typer.Option(
            "--state", envvar="MITRAL_SITE_STATE", help="The state directory of this site.", show_default=True
        ),
    ] = Path("mitral-site"),
) -> None:
    """Name the state directory that the command works on."""
    context.obj = Opened(state)


app.command("enrol")(enrol.enrol)
app.command("run")(run.run)
app.command("revoke")(revoke.revoke)
app.command("status")(status.status)
app.command("egress")(egress.egress)
app.add_typer(data.app, name="data")
app.add_typer(roster.app, name="roster")
app.add_typer(studies.app, name="studies")


def main() -> None:
    """Run a command; an error of Mitral prints what was wrong and what to do, and sets the exit code."""
    guard_process()
    try:
        app()
    except MitralError as error:
        print(f"mitral-site: {error.diagnostics()}", file=sys.stderr)  # noqa: T201 (the command line's own output)
        sys.exit(exit_code(error))


def exit_code(error: MitralError) -> int:
    """Return the exit status of an error: 2 input, 3 refused, 4 peer, 5 unavailable, 70 bug."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), EXIT_UNAVAILABLE)
