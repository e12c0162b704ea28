"""`mitral audit`: prove what happened, offline, without trusting the coordinator. Needs the base installation only."""

from pathlib import Path
from typing import Annotated

import typer

from shared.errors import PeerFault
from workbench.audit import verify_export
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
            "--roster-hash", metavar="H", help="A roster's hash, known from elsewhere: without it nothing is anchored."
        ),
    ] = None,
    final: Annotated[
        bool, typer.Option("--final", help="Fail unless a quorum of the hospitals cosigned the log's head.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Recompute the tree, and check every signature, disclosure and rule of the protocol in an export."""
    report = verify_export(file, roster_hash, final=final)
    if json:
        findings = [{"rule": one.rule, "holds": one.holds, "sentence": one.sentence} for one in report.findings]
        output.as_json({"verified": report.ok, "anchored": roster_hash is not None, "findings": findings})
    else:
        for text in report.lines():
            output.line(text)
    if not report.ok:
        broken = next((one for one in report.findings if one.holds is False), report.findings[0])
        raise PeerFault("export_not_verified", f"{broken.rule}: {broken.sentence}")
