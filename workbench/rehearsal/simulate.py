"""The same federation in one process and in float64: what the masked rounds are compared with.

Training, seeds, statistics, clipping, weights, scoring and the choice of the best version are the real ones; only masks
and quantization are missing. The product has no unmasked mode: this runs where the data of all sites is at hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.canonical import JsonObject
from shared.cases import DATA_PARTS, Cases, DataPart, joined
from shared.errors import InputError, MitralError
from shared.metrics import exact_auc, figures
from shared.model_state import Layout, ModelState, flatten, from_bytes, layout_of, to_bytes, unflatten
from shared.protocol.study import Plan
from shared.selection import choose
from shared.statistics import statistics_from_sums
from shared.strategies.registry import build_strategy
from shared.strategies.strategy import clip_runs
from shared.task_catalogue import task_spec
from shared.tasks.registry import build_model, build_task
from shared.tasks.task import log_odds
from shared.tasks.weights import load_into
from site_agent.datasets.manifest import DatasetManifest
from site_agent.datasets.registry import load_part
from site_agent.rounds.job import training_seed
from site_agent.training.evaluation import outputs, score
from site_agent.training.local_steps import local_steps, update_of
from workbench.initial_model import build_initial_model

MOST_PASSES = 6
SiteCases = dict[DataPart, Cases]
Rows = NDArray[Any]
OnRound = Callable[[int, JsonObject | None], None]


@dataclass(frozen=True)
class SimulationResult:
    """What a federation (or a lone hospital, or pooled data) would have learned.

    `models[r]` is the version after round r (0: the first one), `validation[r]` its figures on validation patients
    (None: too few). `test_auc` is exact, over the test patients of all sites; `test` are the figures from histograms,
    as a study would publish them.
    """

    models: list[bytes]
    validation: list[JsonObject | None]
    best: int
    test_auc: float
    test: JsonObject | None
    training_cases: int


def load_sites(plan: Plan, manifests: Mapping[str, DatasetManifest]) -> dict[str, SiteCases]:
    """Return the cases of every site and part."""
    spec = task_spec(plan.task)
    return {
        site: {part: load_part(manifest, part, spec) for part in DATA_PARTS}
        for site, manifest in sorted(manifests.items())
    }


def simulate(
    plan: Plan,
    manifests: Mapping[str, DatasetManifest],
    survivors: Sequence[Sequence[str]] | None = None,
    on_round: OnRound | None = None,
) -> SimulationResult:
    """Run the federation of a plan over all `manifests`; `survivors` names the sites of each round, if not all.

    Raises:
        InputError: ``weight_out_of_range`` for a site with more training cases than the plan's ``w_cap``.
    """
    sites = load_sites(plan, manifests)
    cap = plan.secure_aggregation.w_cap
    over = next((site for site, cases in sites.items() if len(cases["training"]) > cap), None)
    if over is not None:
        detail = f"{over} has {len(sites[over]['training'])} training cases, secure_aggregation.w_cap is {cap}"
        raise InputError("weight_out_of_range", detail)
    return train(plan, sites, test=_test_cases(sites), survivors=survivors, on_round=on_round)


def pooled(plan: Plan, manifests: Mapping[str, DatasetManifest]) -> SimulationResult:
    """Train the same plan on the data of all sites in one place."""
    sites = load_sites(plan, manifests)
    together = {part: joined([cases[part] for cases in sites.values()]) for part in DATA_PARTS}
    return train(plan, {"pooled": together}, test=_test_cases(sites))


def local(plan: Plan, manifests: Mapping[str, DatasetManifest], site: str) -> SimulationResult:
    """Train the same plan at one hospital alone, with its own statistics; tested on the patients of all hospitals.

    A small hospital has fewer batches in a pass. So that it is not beaten for want of steps, it gets as many passes as
    give it the steps of the largest one (at most six times as many), and does not stop early.
    """
    sites = load_sites(plan, manifests)
    batches = {name: _batches(plan, len(cases["training"])) for name, cases in sites.items()}
    factor = min(MOST_PASSES, -(-max(batches.values()) // batches[site]))
    longer = {**plan.training.as_json(), "rounds": plan.training.rounds * factor}
    alone = Plan.check({**plan.as_json(), "training": longer, "selection": {**plan.selection.as_json(), "patience": 0}})
    return train(alone, {site: sites[site]}, test=_test_cases(sites))


def auc_of(plan: Plan, manifests: Mapping[str, DatasetManifest], raw: bytes) -> float:
    """Return the exact AUC of a federated model version on the test patients of all sites."""
    sites = load_sites(plan, manifests)
    federation = _Federation(plan, sites)
    return federation.exact_test_auc(from_bytes(raw), _test_cases(sites))


def pooled_tensors(plan: Plan, manifests: Mapping[str, DatasetManifest]) -> dict[DataPart, tuple[Rows, Rows]]:
    """Return normalised inputs and labels of all sites' patients by part, for other software to learn from."""
    sites = load_sites(plan, manifests)
    federation = _Federation(plan, sites)
    together = {part: federation.prepared(joined([cases[part] for cases in sites.values()])) for part in DATA_PARTS}
    return {part: (inputs.numpy(), labels.numpy()) for part, (inputs, labels) in together.items()}


def train(
    plan: Plan,
    sites: Mapping[str, SiteCases],
    *,
    test: Cases,
    survivors: Sequence[Sequence[str]] | None = None,
    on_round: OnRound | None = None,
) -> SimulationResult:
    """Run a plan over cases in memory: one site is a hospital alone or pooled data."""
    with _one_thread():
        federation = _Federation(plan, sites)
        first = build_initial_model(plan)
        models = [first.raw]
        validation: list[JsonObject | None] = [None]
        for number in range(1, plan.training.rounds + 1):
            if choose(validation, plan.selection).converged:
                break
            named = sorted(sites) if survivors is None else survivors[number - 1]
            received = from_bytes(models[-1])
            validation[-1] = federation.validation(received)
            models.append(to_bytes(federation.round(received, number, named)))
            validation.append(None)
            if on_round is not None:
                on_round(number, validation[-2])
        validation[-1] = federation.validation(from_bytes(models[-1]))
        best = choose(validation, plan.selection).best
        state = from_bytes(models[best])
        return SimulationResult(
            models=models,
            validation=validation,
            best=best,
            test_auc=federation.exact_test_auc(state, test),
            test=federation.figures(state, federation.prepared(test)),
            training_cases=sum(len(cases["training"]) for cases in sites.values()),
        )


class _Federation:
    """Tensors of all sites under one plan, normalised by the statistics of these sites."""

    def __init__(self, plan: Plan, sites: Mapping[str, SiteCases]) -> None:
        self._plan = plan
        self._task = build_task(plan.task)
        self._model = build_model(plan.task)
        self._statistics = self._summed(sites) if plan.preprocessing.get("normalise") == "federated" else None
        self._training = {site: self.prepared(cases["training"]) for site, cases in sites.items()}
        self._validation = self.prepared(joined([cases["validation"] for cases in sites.values()]))

    def prepared(self, cases: Cases) -> tuple[Tensor, Tensor]:
        return self._task.inputs(cases, self._statistics), torch.from_numpy(cases.labels)

    def round(self, received: ModelState, number: int, sites: Sequence[str]) -> ModelState:
        """Return the next model version: weighted mean of the clipped updates in float64, then the strategy's step."""
        plan = self._plan
        layout = layout_of(received)
        runs = clip_runs(plan, layout)
        total = np.zeros(layout.size, np.float64)
        weights = 0
        for site in sites:
            inputs, labels = self._training[site]
            trained = local_steps(
                self._model,
                received,
                task=self._task,
                inputs=inputs,
                labels=labels,
                training=plan.training,
                seed=training_seed(plan, site, number),
            )
            update = update_of(received, trained)[1].astype(np.float64)
            for start, stop, clip in runs:
                np.clip(update[start:stop], -float(clip), float(clip), out=update[start:stop])
            total += len(labels) * update
            weights += len(labels)
        return unflatten(layout, _stepped(plan, layout, received, total / weights))

    def validation(self, state: ModelState) -> JsonObject | None:
        return self.figures(state, self._validation)

    def figures(self, state: ModelState, prepared: tuple[Tensor, Tensor]) -> JsonObject | None:
        bins = self._plan.metrics.get("bins", 64)
        load_into(self._model, state)
        values = score(self._model, *prepared, bins=bins, classes=self._task.classes, item="score_histogram")
        try:
            return figures(values, bins).as_json()
        except MitralError:  # fewer than ten cases of a class: a study publishes nothing either
            return None

    def exact_test_auc(self, state: ModelState, test: Cases) -> float:
        inputs, labels = self.prepared(test)
        load_into(self._model, state)
        scores = log_odds(outputs(self._model, inputs)).numpy()
        if scores.shape[1] == 1:
            return exact_auc(scores[:, 0], labels.numpy())
        areas = [exact_auc(scores[:, k], (labels == k).long().numpy()) for k in range(scores.shape[1])]
        return float(np.mean(areas))

    def _summed(self, sites: Mapping[str, SiteCases]) -> JsonObject:
        parts = [self._task.sums(cases["training"]) for cases in sites.values()]
        added = {name: [sum(row) for row in zip(*(part[name] for part in parts), strict=True)] for name in parts[0]}
        return statistics_from_sums(added, len(parts))


def _batches(plan: Plan, cases: int) -> int:
    batch = plan.training.batch_size
    return 1 if batch == 0 else max(1, -(-cases // batch))


def _stepped(plan: Plan, layout: Layout, received: ModelState, mean: np.ndarray) -> np.ndarray:
    return build_strategy(plan.strategy).step(flatten(layout, received), mean)


def _test_cases(sites: Mapping[str, SiteCases]) -> Cases:
    return joined([cases["test"] for cases in sites.values()])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train with one thread, as the children of the demo do: the order of float32 sums is then the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
