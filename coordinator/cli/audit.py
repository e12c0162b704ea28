"""`mitral-coordinator audit`."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from coordinator.cli.rest import Rest

app = typer.Typer(no_args_is_help=True)


@app.callback()
def about() -> None:
    """Export the log, erase disclosures; `mitral audit verify` checks an export offline."""


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The zip file to write.")],
    study: Annotated[str, typer.Option(help="Only this study, and what its entries rest on.")] = "",
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Only from this day or time (UTC) on.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Only up to this day or time (UTC).")] = "",
    final: Annotated[bool, typer.Option("--final", help="End at the newest head that a quorum cosigned.")] = False,
    derived: Annotated[str, typer.Option(help="Add other forms: some of fhir-r4,fhir-r5,dicom,cef,csv.")] = "",
    no_disclosures: Annotated[bool, typer.Option("--no-disclosures", help="Leave the disclosed fields out.")] = False,
) -> None:
    """Write the log, or a part of it, with its evidence into a file."""
    wish = {"study": study, "from": start, "to": end, "derived": derived}
    wish |= {"final": "true" if final else "", "disclosures": "none" if no_disclosures else ""}
    query = urlencode({name: value for name, value in wish.items() if value})
    raw = Rest(context.obj).call("GET", "/v1/audit/export" + ("?" + query if query else ""))
    file.write_bytes(raw)
    typer.echo(f"{file}: {len(raw)} bytes; check it with: mitral audit verify {file}")


@app.command()
def erase(
    context: typer.Context,
    entry: Annotated[int, typer.Argument(help="The number of the entry.")],
    field: Annotated[str, typer.Argument(help="The name of the field that the entry commits to.")],
    basis: Annotated[str, typer.Option(help="The legal basis in one word, for instance gdpr-17.")],
) -> None:
    """Erase what opens a committed field of an entry; entry and proofs stay valid, the erasure is an entry itself."""
    answer = Rest(context.obj).post("/v1/audit/erasures", {"entry": entry, "field": field, "basis": basis})
    typer.echo(f"erased: {field} of entry {entry}; entry {answer['log_index']} of the log says so")
