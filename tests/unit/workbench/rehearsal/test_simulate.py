"""The float64 reference: against an independent computation, and against what the secure path does to a sum."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import InputError
from shared.metrics import exact_auc
from shared.model_state import flatten, from_bytes, layout_of
from shared.protocol.study import Plan
from shared.strategies.strategy import apply_aggregate, clip_runs
from site_agent.datasets.manifest import DatasetManifest
from tests.support.datasets import image_manifest, table_manifest
from tests.support.plans import IMAGES, TABULAR
from workbench.initial_model import build_initial_model
from workbench.rehearsal import simulate
from workbench.rehearsal.rehearsal_plan import rehearsal_plan
from workbench.splits.settings import settings

SITES = ["site-a", "site-b", "site-c"]


def tabular_plan(**changes: Any) -> Plan:
    training = {"rounds": 6, "local_epochs": 2, "learning_rate": "0.5"}
    return rehearsal_plan(settings(task=TABULAR, **{"training": training, **changes}), SITES)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DatasetManifest]:
    folder = tmp_path_factory.mktemp("sites")
    return {site: table_manifest(folder, 80 + 60 * index, index) for index, site in enumerate(SITES)}


def test_the_same_plan_gives_the_same_models(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan(training={"rounds": 3, "batch_size": 16, "local_epochs": 1, "learning_rate": "0.1"})
    assert simulate.simulate(plan, manifests).models == simulate.simulate(plan, manifests).models


def test_federated_learning_reaches_pooled_training(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan(training={"rounds": 30, "local_epochs": 1, "learning_rate": "1"})
    federated, pooled = simulate.simulate(plan, manifests), simulate.pooled(plan, manifests)
    assert federated.test_auc > 0.85
    assert federated.test_auc == pytest.approx(pooled.test_auc, abs=0.005)
    assert federated.training_cases == pooled.training_cases
    # One full-batch step from the same model is the same step, wherever the patients are.
    one, other = (flat_of(result.models[1]) for result in (federated, pooled))
    np.testing.assert_allclose(one, other, atol=1e-6)


def flat_of(raw: bytes) -> Any:
    state = from_bytes(raw)
    return flatten(layout_of(state), state)


def test_a_hospital_alone_is_tested_on_all_patients(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan()
    alone = simulate.local(plan, manifests, "site-a")
    cases = sum(sum(manifest.counts["test"]) for manifest in manifests.values())
    assert alone.test is not None
    assert alone.test["cases"] == cases
    assert alone.training_cases == sum(manifests["site-a"].counts["training"])


def test_a_small_hospital_alone_gets_the_steps_of_the_largest(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan(training={"rounds": 2, "batch_size": 20, "learning_rate": "0.1"}, selection={"patience": 1})
    assert len(simulate.local(plan, manifests, "site-c").models) == 1 + 2
    assert len(simulate.local(plan, manifests, "site-a").models) == 1 + 2 * 3


def test_the_result_is_what_the_secure_path_gives_up_to_rounding(manifests: dict[str, DatasetManifest]) -> None:
    """Quantize the same updates, sum the integers, apply the aggregate: the model differs by rounding only."""
    plan = tabular_plan(training={"rounds": 1, "local_epochs": 3, "learning_rate": "0.5"})
    federation = simulate._Federation(plan, simulate.load_sites(plan, manifests))
    received = from_bytes(build_initial_model(plan).raw)
    layout = layout_of(received)
    numbers = plan.secure_aggregation
    quantum = 2 ** (numbers.q - 1) - 1
    words = np.zeros(layout.size, np.int64)
    total = 0
    for site in SITES:
        lone = flatten(layout, federation.round(received, 1, [site])) - flatten(layout, received)
        weight = sum(manifests[site].counts["training"])
        total += weight
        for start, stop, clip in clip_runs(plan, layout):
            scaled = lone[start:stop].astype(np.float64) * (weight / numbers.w_cap) * quantum / float(clip)
            words[start:stop] += np.rint(scaled).astype(np.int64)
    secure = apply_aggregate(plan, layout, flatten(layout, received), words.astype(np.int32), total)
    np.testing.assert_allclose(secure, flatten(layout, federation.round(received, 1, SITES)), atol=1e-5)


def test_updates_are_clipped_as_the_sites_clip_them(manifests: dict[str, DatasetManifest]) -> None:
    clip = {"clip": {"default": "0.001", "tensors": {}}}
    plan = tabular_plan(training={"rounds": 3, "learning_rate": "1"}, secure_aggregation=clip)
    models = [flat_of(raw) for raw in simulate.simulate(plan, manifests).models]
    assert all(np.abs(after - before).max() <= 0.00100001 for before, after in pairwise(models))


def test_rounds_may_have_lost_sites(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan(training={"rounds": 2, "learning_rate": "0.5"})
    whole = simulate.simulate(plan, manifests)
    lost = simulate.simulate(plan, manifests, [SITES, SITES[:2]])
    assert lost.models[1] == whole.models[1]
    assert lost.models[2] != whole.models[2]


def test_the_best_version_is_chosen_by_validation_figures(manifests: dict[str, DatasetManifest]) -> None:
    result = simulate.simulate(tabular_plan(), manifests)
    aucs = [float(figures["auc"]) for figures in result.validation if figures is not None]
    assert len(aucs) == len(result.models)
    assert aucs[result.best] >= max(aucs) - 0.0005


def test_training_stops_when_nothing_is_gained(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan(training={"rounds": 50, "learning_rate": "0.5"}, selection={"patience": 2})
    result = simulate.simulate(plan, manifests)
    assert len(result.models) < 30
    assert result.best < len(result.models) - 2


def test_progress_is_told_round_by_round(manifests: dict[str, DatasetManifest]) -> None:
    seen: list[int] = []
    simulate.simulate(tabular_plan(), manifests, on_round=lambda number, _: seen.append(number))
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_model_version_can_be_tested_later(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan()
    result = simulate.simulate(plan, manifests)
    assert simulate.auc_of(plan, manifests, result.models[result.best]) == result.test_auc
    assert result.test is not None
    assert float(result.test["auc"]) == pytest.approx(result.test_auc, abs=0.01)


def test_a_site_above_the_cap_is_refused(manifests: dict[str, DatasetManifest]) -> None:
    with pytest.raises(InputError, match=r"weight_out_of_range.*site-c"):
        simulate.simulate(tabular_plan(secure_aggregation={"w_cap": 100}), manifests)


def test_without_normalisation_inputs_stay_as_they_are(manifests: dict[str, DatasetManifest]) -> None:
    plain = tabular_plan(preprocessing={"normalise": "none"}, training={"rounds": 1, "learning_rate": "0.0001"})
    normal = tabular_plan(training={"rounds": 1, "learning_rate": "0.0001"})
    first, second = (simulate.simulate(plan, manifests).models[1] for plan in (plain, normal))
    assert np.abs(flat_of(first)).max() > 3 * np.abs(flat_of(second)).max()


def test_images_are_learned_too(tmp_path: Path) -> None:
    training = {"rounds": 4, "batch_size": 8, "optimizer": "adam", "learning_rate": "0.003", "augmentation": ["shift"]}
    plan = rehearsal_plan(settings(task=IMAGES, training=training), SITES)
    manifests = {site: image_manifest(tmp_path, 40, index) for index, site in enumerate(SITES)}
    assert simulate.simulate(plan, manifests).test_auc > 0.95


def test_the_first_model_follows_the_seed() -> None:
    plans = [rehearsal_plan(settings(task=IMAGES, training={"seed": seed}), SITES) for seed in (1, 1, 2)]
    first, again, other = (build_initial_model(plan) for plan in plans)
    assert first == again
    assert first.digest != other.digest
    assert first.digest == plans[0].initial_model
    assert first.dimension == plans[0].dimension == layout_of(from_bytes(first.raw)).size


def test_exact_auc_is_used_for_tests(manifests: dict[str, DatasetManifest]) -> None:
    plan = tabular_plan()
    sites = simulate.load_sites(plan, manifests)
    result = simulate.simulate(plan, manifests)
    weights = from_bytes(result.models[result.best])
    statistics = simulate._Federation(plan, sites)._statistics
    assert statistics is not None
    values, labels = (
        np.concatenate([getattr(cases["test"], name) for cases in sites.values()]) for name in ("inputs", "labels")
    )
    mean, deviation = (np.array([float(text) for text in statistics[name]]) for name in ("mean", "std"))
    rows = np.nan_to_num((values - mean) / deviation)
    scores = rows @ weights["linear.weight"][0].astype(float) + float(weights["linear.bias"][0])
    assert result.test_auc == pytest.approx(exact_auc(scores, labels), abs=1e-6)
