"""`mitral-site data`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from shared.clock import SystemClock, timestamp
from shared.errors import InputError
from site_agent.datasets.manifest import DatasetOptions
from site_agent.datasets.registry import inspect
from site_agent.storage import datasets

app = typer.Typer(help="Register data sets. Rows never leave this machine.", no_args_is_help=True)


@app.command("add")
def add(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A .csv or .npz file, or a folder with one folder of images per class.")],
    name: Annotated[str, typer.Option(help="The name studies are approved with.")],
    label: Annotated[str | None, typer.Option(help="The column that holds the class.")] = None,
    features: Annotated[str, typer.Option(help="The columns to use, separated by commas; all others by default.")] = "",
    split: Annotated[str, typer.Option(help="Training, validation and test shares in per cent.")] = "70/15/15",
    split_column: Annotated[str | None, typer.Option(help="A column that says train, validation or test.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
) -> None:
    """Look at a data set, check every cell or image, and register it. Nothing is copied."""
    chosen = tuple(part.strip() for part in features.split(",") if part.strip())
    options = DatasetOptions(label=label, features=chosen, split=split, split_column=split_column, seed=seed)
    manifest = inspect(path, name, options)
    with context.obj.open() as state, state.database.transaction("add data set") as tx:
        earlier = datasets.read_dataset(tx, name)
        if earlier is not None and earlier.digest != manifest.digest:
            raise InputError("dataset_exists", f"{name!r} is registered with other content; use another name")
        if earlier is None:
            now = timestamp(SystemClock().now())
            datasets.add_dataset(tx, name, manifest.digest, manifest.as_json(), now)
    typer.echo(f"{name}: {manifest.cases} cases, digest {manifest.digest}")
    for part, counts in manifest.counts.items():
        typer.echo(
            f"  {part}: {', '.join(f'{count} of {kind}' for kind, count in zip(manifest.classes, counts, strict=True))}"
        )


@app.command("list")
def listing(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the registered data sets."""
    with context.obj.open() as state, state.database.reading("list data sets") as tx:
        found = datasets.read_datasets(tx)
    if as_json:
        shown = [{"name": one.name, "digest": one.digest, "at": one.registered_at} for one in found]
        typer.echo(json.dumps({"data": shown}, indent=2))
        return
    for one in found:
        typer.echo(f"{one.name}  {one.manifest.get('kind')}  {one.manifest.get('path')}  {one.digest}")
