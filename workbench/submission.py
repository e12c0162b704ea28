"""Submitting a study: first the model version by digest, then the plan that names it."""

from shared.errors import InputError
from shared.protocol.study import Plan, StudyView
from workbench.client import CoordinatorClient
from workbench.initial_model import build_initial_model
from workbench.study_file import StudyDraft

_NOT_BUILT_YET = "0" * 64


def plan_with_model(draft: StudyDraft) -> tuple[Plan, bytes]:
    """Build the first model version of a checked study file; return the plan that names it, and its bytes."""
    model = build_initial_model(draft.plan(_NOT_BUILT_YET, 1))
    return draft.plan(model.digest, model.dimension), model.raw


def submit_draft(client: CoordinatorClient, draft: StudyDraft) -> StudyView:
    """Upload the first model version and submit the plan; the same draft again is the same study.

    Raises:
        InputError: ``study_federation``; and what the coordinator answers.
    """
    federation = str(client.whoami()["federation"])
    named = draft.values["federation"]
    if named != federation:
        raise InputError("study_federation", f"the study names {named!r}, this coordinator serves {federation!r}")
    plan, raw = plan_with_model(draft)
    client.upload_blob(raw)
    return client.submit(plan)
