"""`mitral audit`: prove what happened, offline, without trusting the coordinator. Needs the base installation only."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import output

app = typer.Typer(help="Verify the audit log offline.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Verify the audit log offline."""


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export of the log (a zip file).")],
    roster_hash: Annotated[
        str | None,
        typer.Option(
            "--roster-hash", metavar="H", help="The first roster's hash, known from elsewhere: the root of trust."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Recompute the tree, and check every signature, disclosure and rule of the protocol in an export."""
    from shared.audit.verify import verify_export

    output.report(verify_export(file, roster_hash), json)
