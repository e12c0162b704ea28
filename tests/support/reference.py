"""What a published model version must be: the received one plus the weighted mean of exactly the survivors' updates."""

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from shared.model_state import Array, ModelState, flatten, from_bytes, layout_of
from shared.protocol.study import Plan, RoundView
from shared.task_catalogue import task_spec
from shared.tasks.registry import build_model, build_task
from site_agent.datasets.manifest import DatasetOptions
from site_agent.datasets.registry import inspect, load_part
from site_agent.rounds.job import training_seed
from site_agent.training.local_steps import local_steps, update_of
from tests.support.federation_fixture import SPLIT, Scene

# Rounding to q bits moves the mean by far less; one site more or less moves it by far more.
TOLERANCE = 1e-5


def assert_model_is_the_mean_of(scene: Scene, one: RoundView, *sites: str) -> None:
    """Train every site's update here again: the published model fits the mean of these sites and of no other set."""
    with scene.federation.client() as client:
        plan_raw = client.blob(client.study(scene.study).plan)
        received = client.blob(one.model)
        published = from_bytes(client.blob(one.result_model or ""))
    plan = Plan.parse(plan_raw)
    data = scene.federation.folder.parent / "data"
    updates = {site: _update(plan_raw, received, data / f"{site}.csv", site, one.round) for site in plan.sites}
    flat = flatten(layout_of(published), published)
    start = flatten(layout_of(published), from_bytes(received))
    fitting = [
        chosen
        for count in range(1, len(plan.sites) + 1)
        for chosen in combinations(plan.sites, count)
        if np.max(np.abs(flat - _mean(start, [updates[site] for site in chosen]))) <= TOLERANCE
    ]
    assert fitting == [tuple(sorted(sites))]


def _mean(start: Array, updates: list[tuple[int, Array]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    total = sum(weight for weight, _ in updates)
    change = sum((weight * update.astype(np.float64) for weight, update in updates), np.zeros(len(start)))
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = start.astype(np.float64) + change / total
    return result


@cache
def _update(plan_raw: bytes, received: bytes, table: Path, site: str, number: int) -> tuple[int, Array]:
    plan = Plan.parse(plan_raw)
    manifest = inspect(table, "cases", DatasetOptions(label="label", split=SPLIT, seed=1))
    cases = load_part(manifest, "training", task_spec(plan.task))
    task = build_task(plan.task)
    state: ModelState = from_bytes(received)
    trained = local_steps(
        build_model(plan.task),
        state,
        task=task,
        inputs=task.inputs(cases, None),
        labels=torch.from_numpy(cases.labels),
        training=plan.training,
        seed=training_seed(plan, site, number),
    )
    return len(cases), update_of(state, trained)[1]
