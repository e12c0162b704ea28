"""What a study asks for next: statistics, update rounds, validation of the last version, test of the best one, the end.

A pure function of what has happened so far, so that a restart, a failed round and a resumed study need no special case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from coordinator.storage.model_versions import ModelVersion
from coordinator.storage.rounds import Round
from shared.protocol.round_context import Kind
from shared.protocol.study import Plan
from shared.selection import choose

Purpose = Literal["statistics", "update", "validation", "test"]
MOST_UPDATES_PER_MODEL = 3  # PROTOCOLS R5: one model serves at most 3 updates, then a person decides
KINDS: dict[Purpose, Kind] = {
    "statistics": "statistics",
    "update": "update",
    "validation": "metrics",
    "test": "metrics",
}


@dataclass(frozen=True, slots=True)
class Next:
    """A context to plan, of this model version."""

    purpose: Purpose
    model: str


@dataclass(frozen=True, slots=True)
class Pause:
    """A person has to decide."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything the plan asks for has been done."""

    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What a study has behind it. `versions` are in order, the newest is what the next update starts from."""

    plan: Plan
    versions: Sequence[ModelVersion]
    rounds: Sequence[Round]
    model: str
    failed_on_model: int


def best_version(progress: Progress) -> ModelVersion:
    """Return the version the plan's selection rule picks among those published so far."""
    history = [version.metrics for version in progress.versions]
    return progress.versions[choose(history, progress.plan.selection).best]


def next_step(progress: Progress) -> Next | Pause | Finished:  # noqa: PLR0911 (one return per stage of a study)
    """Return what to do when no round is under way."""
    plan, model = progress.plan, progress.model
    if plan.preprocessing.get("normalise") == "federated" and not _published(progress, "statistics"):
        if any(one.state in {"LOST", "ABANDONED"} and one.closed_at for one in _of(progress, "statistics")):
            # Sites that sealed their statistics do not give them a second time, for the difference of two sums.
            return Pause("the statistics round failed after sites had answered; asking twice needs a new study")
        if progress.failed_on_model >= MOST_UPDATES_PER_MODEL:
            return Pause(f"{progress.failed_on_model} rounds in a row failed to gather statistics")
        return Next("statistics", model)
    done = len(_published(progress, "update"))
    chosen = choose([version.metrics for version in progress.versions], plan.selection)
    converged = chosen.converged or _is_still(progress)
    if done < plan.training.rounds and not converged:
        if progress.failed_on_model >= MOST_UPDATES_PER_MODEL:
            return Pause(f"{progress.failed_on_model} rounds failed on the same model version")
        return Next("update", model)
    if not _opened(progress, "validation", model) and not _was_scored(progress, model):
        return Next("validation", model)
    best = best_version(progress).sha256
    if _opened(progress, "test", best):
        return Finished("converged" if converged and done < plan.training.rounds else "all rounds done")
    return Next("test", best)


def _of(progress: Progress, purpose: Purpose) -> list[Round]:
    return [one for one in progress.rounds if one.purpose == purpose]


def _published(progress: Progress, purpose: Purpose) -> list[Round]:
    return [one for one in _of(progress, purpose) if one.state == "PUBLISHED"]


def _is_still(progress: Progress) -> bool:
    """Return whether the last update left the model as it was, to the bit: more of them lead nowhere."""
    updates = _published(progress, "update")
    return bool(updates) and updates[-1].result_model == updates[-1].model


def _opened(progress: Progress, purpose: Purpose, model: str) -> bool:
    return any(one.model == model for one in _of(progress, purpose))


def _was_scored(progress: Progress, model: str) -> bool:
    """Return whether an update context already asked for this version's validation scores."""
    asked = (one for one in _of(progress, "update") if one.model == model)
    return any(entry.name == "score_histogram" for one in asked for entry in one.ctx.tail)
