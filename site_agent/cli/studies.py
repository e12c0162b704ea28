"""`mitral-site studies`."""

import functools
import getpass
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from shared.canonical import JsonObject
from shared.clock import SystemClock, timestamp
from shared.errors import InputError, MitralError, PeerFault
from shared.task_catalogue import task_spec
from site_agent import approvals
from site_agent.datasets.manifest import DatasetManifest
from site_agent.datasets.registry import check_fits
from site_agent.identity import read_identity
from site_agent.storage import datasets, rounds, studies
from site_agent.storage.database import Transaction
from site_agent.storage.studies import StoredApproval, StoredStudy
from site_agent.terms import KINDS, Kind, Terms

app = typer.Typer(help="Decide which studies this hospital takes part in.", no_args_is_help=True)


@app.command("list")
def listing(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the studies that name this hospital, their plans' digests, and what was decided here under which terms."""
    with context.obj.open() as state, state.database.reading("list studies") as tx:
        found = [_described(tx, stored) for stored in studies.read_studies(tx)]
    if as_json:
        typer.echo(json.dumps({"studies": found}, indent=2))
        return
    for one in found:
        here = "not approved here" if one["decision"] is None else f"{one['decision']} here, data {one['data']}"
        typer.echo(f"{one['study']}  {one['state']}  {here}\n  plan {one['plan']}")
        if one["title"] is not None:
            typer.echo(f"  {one['title']}: {one['purpose']}")
        for line in _terms_lines(one["terms"]):
            typer.echo(f"  {line}")


@app.command("show")
def show(context: typer.Context, study: Annotated[str, typer.Argument(help="The study's id.")]) -> None:
    """Print a study's plan in full, as JSON, with its digest: what is read before it is approved."""
    with context.obj.open() as state, state.database.reading("show study") as tx:
        stored = studies.read_study(tx, study)
        if stored is None or stored.plan is None:
            raise InputError("study_unknown", f"no study {study!r} has arrived; `mitral-site studies list` shows them")
        found = {**_described(tx, stored), "protocol": stored.plan.as_json()}
    typer.echo(json.dumps(found, indent=2))


@app.command("approve")
def approve(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="The study's id.")],
    data: Annotated[str, typer.Option(help="The registered data set to use.")],
    plan: Annotated[str | None, typer.Option(help="The plan's digest, to be sure it is the one you read.")] = None,
    approver: Annotated[str, typer.Option(help="Who approves; the login name by default. Stays here.")] = "",
    purpose: Annotated[str, typer.Option(help="What for; the plan's purpose by default. Stays here.")] = "",
    until: Annotated[str, typer.Option(help="The last day (UTC), for instance 2027-01-31.")] = "",
    hours: Annotated[
        str, typer.Option(help="When work may begin: 18:00-06:00, or mon-fri 18:00-06:00, several with commas.")
    ] = "",
    timezone: Annotated[str, typer.Option(help="The time zone of --hours, for instance Europe/Berlin.")] = "UTC",
    contribute: Annotated[str, typer.Option(help="What to contribute to, with commas.")] = ",".join(KINDS),
    most_rounds: Annotated[int | None, typer.Option(min=1, help="Training rounds, at most.")] = None,
    most_epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data in a round, at most.")] = None,
    least_hospitals: Annotated[int | None, typer.Option(min=3, help="Hospitals in every sum, at least.")] = None,
    epsilon: Annotated[str | None, typer.Option(help="The privacy budget; refuses plans that keep none.")] = None,
) -> None:
    """Let this hospital take part in a study, under exactly this plan, with this data set, and within these limits.

    The decision is signed into the site's own log and counts from the next piece of work on. Approving again with other
    limits replaces them, and counts rounds anew. The coordinator is told that the plan is approved, nothing more.
    """
    now = SystemClock().now()
    with context.obj.open() as state, state.database.transaction("approve study") as tx:
        stored = _check_data(tx, study, data)
        given = _terms(
            {
                "approver": approver or getpass.getuser(),
                "purpose": purpose or ("" if stored.plan is None else stored.plan.purpose),
                "until": _end_of(until),
                "hours": [part.strip() for part in hours.split(",") if part.strip()],
                "timezone": timezone,
                "kinds": _kinds(contribute),
                "most_rounds": most_rounds,
                "most_epochs": most_epochs,
                "least_hospitals": least_hospitals,
                "epsilon": epsilon,
            }
        )
        decided = approvals.approve(tx, read_identity(tx), study, data, plan, now, given)
    typer.echo(f"{study} is approved with data {data}, plan {decided.plan_hash}; the agent sends the approval")
    for line in _terms_lines(given.as_json()):
        typer.echo(f"  {line}")


@app.command("withdraw")
def withdraw(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="The study's id.")],
    approver: Annotated[str, typer.Option(help="Who withdraws; the login name by default. Stays here.")] = "",
) -> None:
    """Take an approval back: from now on nothing is trained or signed for the study."""
    with context.obj.open() as state, state.database.transaction("withdraw study") as tx:
        approvals.withdraw(tx, read_identity(tx), study, SystemClock().now(), approver or getpass.getuser())
        over = state.folder.rounds_on_disk() - {stored.ctx_hash for stored in rounds.read_open_rounds(tx)}
        tx.after_commit += [functools.partial(state.folder.erase_round, ctx_hash) for ctx_hash in over]
    typer.echo(f"the approval of {study} is withdrawn; the agent tells the coordinator")


def _described(tx: Transaction, stored: StoredStudy) -> JsonObject:
    decision = studies.read_approval(tx, stored.study)
    return {
        "study": stored.study,
        "plan": stored.plan_hash,
        "state": stored.state,
        "title": None if stored.plan is None else stored.plan.title,
        "purpose": None if stored.plan is None else stored.plan.purpose,
        "decision": None if decision is None else decision.decision,
        "data": None if decision is None else decision.dataset,
        "terms": _terms_of(tx, decision),
    }


def _terms(given: JsonObject) -> Terms:
    try:
        return Terms.check(given)
    except PeerFault as error:
        raise InputError("field_invalid", error.detail) from error


def _terms_of(tx: Transaction, decision: StoredApproval | None) -> JsonObject | None:
    """Return the terms that count; None without an approval. What is not signed is shown as what it is worth."""
    if decision is None or not decision.approved:
        return None
    try:
        return approvals.read_terms(tx, decision).as_json()
    except MitralError as error:
        return {"invalid": error.code}


def _terms_lines(found: JsonObject | None) -> list[str]:
    if found is None:
        return []
    if "invalid" in found:
        return [f"! the approval does not count: {found['invalid']}"]
    limits = [
        ("until", found["until"]),
        ("work begins", f"{', '.join(found['hours'])} ({found['timezone']})" if found["hours"] else None),
        ("contributes to", ", ".join(found["kinds"])),
        ("rounds at most", found["most_rounds"]),
        ("epochs a round at most", found["most_epochs"]),
        ("hospitals in a sum at least", found["least_hospitals"]),
        ("epsilon", found["epsilon"]),
    ]
    named = "; ".join(f"{name} {value}" for name, value in limits if value is not None)
    return [f"approved by {found['approver']}; {named}"]


def _end_of(day: str) -> str | None:
    if not day:
        return None
    try:
        last = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError("period_malformed", f"{day[:50]!r} is not a day such as 2027-01-31") from error
    return timestamp(last + timedelta(days=1))


def _kinds(text: str) -> list[Kind]:
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    unknown = sorted(set(chosen) - set(KINDS))
    if unknown or not chosen:
        raise InputError(
            "contribution_unknown", f"choose from {', '.join(KINDS)}, not {', '.join(unknown) or 'nothing'}"
        )
    return [kind for kind in KINDS if kind in chosen]


def _check_data(tx: Transaction, study: str, name: str) -> StoredStudy:
    """Return the study if the data set has the form it asks for, before anything is signed."""
    stored, dataset = studies.read_study(tx, study), datasets.read_dataset(tx, name)
    if stored is None or stored.plan is None:
        raise InputError("study_unknown", f"no study {study!r} has arrived; `mitral-site studies list` shows them")
    if dataset is None:
        raise InputError("dataset_unknown", f"no data set {name!r}; `mitral-site data list` shows them")
    check_fits(DatasetManifest.check(dataset.manifest), task_spec(stored.plan.task))
    return stored
