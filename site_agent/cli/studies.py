"""`mitral-site studies`."""

import functools
import json
from typing import Annotated

import typer

from shared.clock import SystemClock
from shared.errors import InputError
from shared.task_catalogue import task_spec
from site_agent import approvals
from site_agent.datasets.manifest import DatasetManifest
from site_agent.datasets.registry import check_fits
from site_agent.identity import read_identity
from site_agent.storage import datasets, rounds, studies
from site_agent.storage.database import Transaction

app = typer.Typer(help="Decide which studies this hospital takes part in.", no_args_is_help=True)


@app.command("list")
def listing(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the studies that name this hospital, their plans' digests, and what was decided here."""
    with context.obj.open() as state, state.database.reading("list studies") as tx:
        found = [(stored, studies.read_approval(tx, stored.study)) for stored in studies.read_studies(tx)]
    if as_json:
        shown = [
            {
                "study": stored.study,
                "plan": stored.plan_hash,
                "state": stored.state,
                "title": None if stored.plan is None else stored.plan.title,
                "purpose": None if stored.plan is None else stored.plan.purpose,
                "decision": None if decision is None else decision.decision,
                "data": None if decision is None else decision.dataset,
            }
            for stored, decision in found
        ]
        typer.echo(json.dumps({"studies": shown}, indent=2))
        return
    for stored, decision in found:
        here = "not approved here" if decision is None else f"{decision.decision} here, data {decision.dataset}"
        typer.echo(f"{stored.study}  {stored.state}  {here}\n  plan {stored.plan_hash}")
        if stored.plan is not None:
            typer.echo(f"  {stored.plan.title}: {stored.plan.purpose}")


@app.command("approve")
def approve(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="The study's id.")],
    data: Annotated[str, typer.Option(help="The registered data set to use.")],
    plan: Annotated[str | None, typer.Option(help="The plan's digest, to be sure it is the one you read.")] = None,
) -> None:
    """Let this hospital take part in a study, under exactly this plan and with this data set."""
    with context.obj.open() as state, state.database.transaction("approve study") as tx:
        _check_data(tx, study, data)
        decided = approvals.approve(tx, read_identity(tx), study, data, plan, SystemClock().now())
    typer.echo(f"{study} is approved with data {data}, plan {decided.plan_hash}; the agent sends the approval")


@app.command("withdraw")
def withdraw(context: typer.Context, study: Annotated[str, typer.Argument(help="The study's id.")]) -> None:
    """Take an approval back: from now on nothing is trained or signed for the study."""
    with context.obj.open() as state, state.database.transaction("withdraw study") as tx:
        approvals.withdraw(tx, read_identity(tx), study, SystemClock().now())
        over = state.folder.rounds_on_disk() - {stored.ctx_hash for stored in rounds.read_open_rounds(tx)}
        tx.after_commit += [functools.partial(state.folder.erase_round, ctx_hash) for ctx_hash in over]
    typer.echo(f"the approval of {study} is withdrawn; the agent tells the coordinator")


def _check_data(tx: Transaction, study: str, name: str) -> None:
    """Check that the data set has the form the study asks for, before anything is signed."""
    stored, dataset = studies.read_study(tx, study), datasets.read_dataset(tx, name)
    if stored is None or stored.plan is None:
        raise InputError("study_unknown", f"no study {study!r} has arrived; `mitral-site studies list` shows them")
    if dataset is None:
        raise InputError("dataset_unknown", f"no data set {name!r}; `mitral-site data list` shows them")
    check_fits(DatasetManifest.check(dataset.manifest), task_spec(stored.plan.task))
