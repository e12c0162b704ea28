"""`mitral bench`: the figures of the benchmark page, measured on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from shared.canonical import JsonObject
from workbench.cli import output
from workbench.cli.extras import extra

app = typer.Typer(help="Measure what the benchmark page states.", no_args_is_help=True, rich_markup_mode=None)
JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


@app.command("round")
def whole_round(
    dimension: Annotated[int, typer.Option("--dimension", help="At least this many weights.")] = 1_000_000,
    sites: Annotated[int, typer.Option("--sites", help="How many agents.")] = 4,
    rounds: Annotated[int, typer.Option("--rounds", help="How many rounds are measured.")] = 10,
    bits: Annotated[int, typer.Option("--bits", help="Bits sent per weight.")] = 24,
    json: JsonOption = False,
) -> None:
    """Time whole secure rounds between real processes over mutual TLS, with a trivial training step."""
    with extra("workbench"):
        from workbench.benchmarks.round import measure_rounds
    _print(measure_rounds(dimension, sites, rounds, bits, output.remark), json)


@app.command("secagg")
def secure_aggregation(
    sites: Annotated[int, typer.Option("--sites", help="How many sites upload or drop out.")] = 10,
    dimension: Annotated[int, typer.Option("--dimension", help="How many weights.")] = 10_000_000,
    dropouts: Annotated[int, typer.Option("--dropouts", help="How many sites drop out after pairing.")] = 0,
    bits: Annotated[int, typer.Option("--bits", help="Bits sent per weight.")] = 16,
    repeats: Annotated[int, typer.Option("--repeats", help="The figures are medians of this many runs.")] = 7,
    json: JsonOption = False,
) -> None:
    """Measure CPU, memory and bytes of one aggregation, beside a plain sum of the same vectors."""
    with extra("workbench"):
        from workbench.benchmarks import secagg
    _print(secagg.run(sites, dimension, dropouts, bits, repeats=repeats), json)


@app.command("heart-disease")
def heart_disease(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The folder with the four hospitals' files.")],
    splits: Annotated[int, typer.Option("--splits", min=1, help="How many random splits of the patients.")] = 20,
    json: JsonOption = False,
) -> None:
    """Compare federated, pooled and single-hospital training on four real hospitals, on the same test patients."""
    with extra("workbench"):
        from workbench.benchmarks import heart_disease as benchmark
    report = benchmark.run(data, splits, output.remark)
    if json:
        output.as_json(report)
    else:
        output.line(benchmark.table(report))


def _print(report: JsonObject, json: bool) -> None:
    if json:
        output.as_json(report)
        return
    for name, value in report.items():
        output.line(f"{name}: {value}")
