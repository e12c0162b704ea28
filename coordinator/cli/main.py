"""`mitral-coordinator`: the verbs, and the one place where errors become exit codes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import account, audit, init, log, operators, recover, rosters, serve, sites, studies, tokens
from shared.crypto.secret import guard_process
from shared.errors import InputError, Misuse, MitralError, PeerFault, Refusal, Unavailable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Mitral's coordinator: rounds, masked sums, models, log.",
)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("recover")(recover.recover)
app.add_typer(sites.app, name="sites", help="Invite, approve and revoke hospitals.")
app.add_typer(rosters.app, name="rosters", help="Propose and list roster versions.")
app.add_typer(operators.app, name="operators", help="Give people and programs access.")
app.add_typer(account.app, name="account", help="Your own password, second factor and session.")
app.add_typer(tokens.app, name="tokens", help="API tokens: narrower than a role, never for ever.")
app.add_typer(studies.app, name="studies", help="Look at studies; researchers run them with `mitral study`.")
app.add_typer(audit.app, name="audit", help="Export the log.")
app.add_typer(log.app, name="log", help="See how far the log is final; exchange its signing key.")

_EXIT_CODES: tuple[tuple[type[MitralError], int], ...] = (
    (InputError, 2),
    (Refusal, 3),
    (PeerFault, 4),
    (Unavailable, 5),
    (Misuse, 70),
)


@app.callback()
def options(
    context: typer.Context,
    access: Annotated[
        Path | None, typer.Option(help="The access file of an operator; MITRAL_ACCESS names one too.")
    ] = None,
) -> None:
    """Keep what every verb but `init` and `serve` needs."""
    context.obj = access


def main() -> None:
    """Run the command line."""
    guard_process()
    try:
        app()
    except MitralError as error:
        print(error.diagnostics(), file=sys.stderr)  # noqa: T201 (this is a command line)
        raise SystemExit(exit_code(error)) from None


def exit_code(error: MitralError) -> int:
    """Return the exit code of an error's family."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


if __name__ == "__main__":
    main()
