"""`mitral study`: write and check study files; submit, steer, watch and fetch studies."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from shared.clock import SystemClock
from shared.errors import InputError
from workbench.access import load_access
from workbench.cli import output
from workbench.cli.extras import extra

app = typer.Typer(
    help="Write, check, submit, steer, watch and fetch a study.", no_args_is_help=True, rich_markup_mode=None
)

AccessOption = Annotated[
    Path | None, typer.Option("--access", metavar="FILE", help="The access file; default: what MITRAL_ACCESS names.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="The study's id.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The study file.")]


@app.command("new")
def new(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to write it; default: print it.")] = None,
    task: Annotated[str, typer.Option("--task", help="tabular or image_classification.")] = "tabular",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write an example study file with every key, its default and its meaning."""
    from workbench.study_example import example, to_fill_in
    from workbench.study_fields import TASKS

    if task not in TASKS:
        raise InputError("task_invalid", f"{task!r} is not a task; there are {', '.join(TASKS)}")
    text = example(task, datetime.now(UTC).date())
    if file is None:
        sys.stdout.write(text)
        return
    if file.exists() and not force:
        raise InputError("study_file_exists", f"{file} exists")
    file.write_text(text, encoding="utf-8")
    output.remark(f"Wrote {file}. Fill in: {', '.join(to_fill_in(task))}.")


@app.command("check")
def check(
    file: FileArgument,
    build: Annotated[bool, typer.Option("--build", help="Also build the first model version (takes seconds).")] = False,
    json: JsonOption = False,
) -> None:
    """Say everything that is wrong with a study file, with lines and nearest keys; nothing is sent."""
    with extra("workbench"):
        from workbench.study_file import StudyFileError, load_study_file
    try:
        draft = load_study_file(file, SystemClock().now())
    except StudyFileError as error:
        if json:
            output.as_json({"valid": False, "problems": [problem._asdict() for problem in error.problems]})
        raise
    result = {"valid": True, "study": draft.values["study"], "to_fill_in": draft.placeholders}
    if build:
        with extra("workbench"):
            from workbench.submission import plan_with_model
        plan, _ = plan_with_model(draft)
        result |= {"dimension": plan.dimension, "initial_model": plan.initial_model, "plan": plan.plan_hash}
    if json:
        output.as_json(result)
        return
    output.line(f"{file}: no problems")
    for name in ("dimension", "initial_model", "plan"):
        if name in result:
            output.line(f"  {name}: {result[name]}")
    if draft.placeholders:
        output.remark(f"These keys still hold the example's value: {', '.join(draft.placeholders)}.")


@app.command("submit")
def submit(file: FileArgument, access: AccessOption = None, json: JsonOption = False) -> None:
    """Build the first model version, upload it by digest and submit the study; the hospitals approve it next."""
    with extra("workbench"):
        from workbench.client import CoordinatorClient
        from workbench.study_file import load_study_file
        from workbench.submission import submit_draft
    draft = load_study_file(file, SystemClock().now())
    with CoordinatorClient(load_access(access)) as client:
        view = submit_draft(client, draft)
    if json:
        output.as_json(view.as_json())
        return
    output.line(f"submitted {view.study}")
    output.line(f"  plan:  {view.plan}  (the digest that the hospitals approve)")
    output.line(f"  model: {view.model}")
    output.line(f"  sites: {', '.join(view.sites)}")
    output.remark(
        f"Next: each hospital runs `mitral-site studies approve {view.study} --data NAME`, then you start it."
    )


def _steer(study: str, verb: str, access: Path | None, json: bool) -> None:
    with extra("workbench"):
        from workbench.client import CoordinatorClient
    with CoordinatorClient(load_access(access)) as client:
        client.command(study, verb)
        view = client.study(study)
    if json:
        output.as_json(view.as_json())
    else:
        output.line(f"{study}: {view.state}{f' ({view.reason})' if view.reason else ''}")


@app.command("start")
def start(study: StudyArgument, access: AccessOption = None, json: JsonOption = False) -> None:
    """Let the coordinator open rounds; also goes on after a pause."""
    _steer(study, "start", access, json)


@app.command("pause")
def pause(study: StudyArgument, access: AccessOption = None, json: JsonOption = False) -> None:
    """Finish the round under way and open no other."""
    _steer(study, "pause", access, json)


@app.command("stop")
def stop(study: StudyArgument, access: AccessOption = None, json: JsonOption = False) -> None:
    """End the study for good; the model versions so far remain."""
    _steer(study, "stop", access, json)


@app.command("watch")
def watch(
    study: StudyArgument,
    access: AccessOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per change, one per line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show the state now and end.")] = False,
) -> None:
    """Show rounds and sites until the study ends; plain lines when there is no terminal."""
    with extra("workbench"):
        from workbench.cli.watch import follow
        from workbench.client import CoordinatorClient
    with CoordinatorClient(load_access(access)) as client:
        follow(client, study, as_json=json, once=once)


@app.command("fetch")
def fetch(
    study: StudyArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write into.")] = Path(),
    access: AccessOption = None,
    json: JsonOption = False,
) -> None:
    """Save the best model version (model.safetensors) and its card (card.json) after checking every digest."""
    with extra("workbench"):
        from workbench.client import CoordinatorClient
        from workbench.model_card import fetch_model
    with CoordinatorClient(load_access(access)) as client:
        card = fetch_model(client, study, out)
    if json:
        output.as_json(card)
        return
    output.line(f"wrote {out / 'model.safetensors'} and {out / 'card.json'}")
    output.line(f"  model {card['model']['digest']} of round {card['model']['round']}")
