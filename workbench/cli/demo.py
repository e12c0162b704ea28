"""`mitral demo`: four hospitals, one model, real processes over mutual TLS on this machine."""

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.extras import extra


def demo(
    dataset: Annotated[
        str, typer.Option("--dataset", help="breast-cancer, heart-disease or pneumoniamnist.")
    ] = "breast-cancer",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="Where the files are; breast-cancer needs none.")
    ] = None,
    sites: Annotated[int, typer.Option("--sites", min=3, max=32, help="How many hospitals.")] = 4,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, max=10_000, help="Default: the data set's.")] = None,
    kill: Annotated[
        str | None,
        typer.Option("--kill", metavar="SITE", help="Kill this agent with -9 in round 2, start it again in round 4."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the report to a JSON file.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Work in this new folder and keep everything: keys, logs, state."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Changes the split, the first weights and the batches.")
    ] = 7,
) -> None:
    """Train one model across hospitals on this machine and compare it with each hospital alone and with pooled data."""
    with extra("workbench"):
        from workbench.rehearsal.demo import DemoOptions, run_demo
        from workbench.rehearsal.demo_screen import Screen, print_report
    options = DemoOptions(dataset, data, sites, rounds, kill, keep, seed)
    with Screen() as screen:
        report = run_demo(options, screen)
    if json is not None:
        json.write_text(json_text.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_report(report)
