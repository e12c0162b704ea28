from typing import Any

import numpy as np
import pytest
import torch

from shared.metrics import exact_auc, figures
from shared.model_state import layout_of, to_bytes
from shared.tasks.registry import build_model, build_task
from shared.tasks.weights import state_of
from site_agent.training.evaluation import outputs, score
from site_agent.training.local_steps import local_steps, update_of
from tests.support.plans import IMAGES, TABULAR, plan_with


def trained(seed: int = 1, task: dict[str, Any] = TABULAR, cases: int = 50, **changes: Any) -> dict[str, Any]:
    """Train on cases whose class is the sign of their mean, from a fixed first model."""
    torch.manual_seed(0)
    model = build_model(task)
    received = state_of(model)
    shape = (cases, 2) if task["name"] == "tabular" else (cases, 1, 28, 28)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    inputs += torch.where(torch.arange(cases) % 2 == 1, 1.0, -1.0).reshape(-1, *[1] * (len(shape) - 1))
    labels = torch.arange(cases) % 2
    training = plan_with(training=changes).training
    state = local_steps(
        model, received, task=build_task(task), inputs=inputs, labels=labels, training=training, seed=seed
    )
    return {"state": state, "received": received, "model": model, "inputs": inputs, "labels": labels}


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (TABULAR, {"batch_size": 0}),
        (TABULAR, {"batch_size": 8, "local_epochs": 3, "momentum": "0.9"}),
        (IMAGES, {"batch_size": 8, "optimizer": "adam", "learning_rate": "0.001"}),
        (IMAGES, {"batch_size": 8, "augmentation": ["shift", "flip", "contrast"]}),
    ],
)
def test_the_same_seed_gives_the_same_bits(task: dict[str, Any], changes: dict[str, Any]) -> None:
    first, again, other = (to_bytes(trained(seed, task, 24, **changes)["state"]) for seed in (1, 1, 2))
    assert first == again
    assert (first == other) == (changes == {"batch_size": 0}), (
        "only one batch of everything does not depend on the seed"
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_learns(optimizer: str) -> None:
    run = trained(optimizer=optimizer, local_epochs=30, batch_size=10, learning_rate="0.1")
    found = score(run["model"], run["inputs"], run["labels"], bins=64, classes=2, item="score_histogram")
    assert figures(found, 64).auc > 0.9


def test_one_full_batch_step_is_the_gradient() -> None:
    run = trained(batch_size=0, learning_rate="0.5")
    # From zero weights every probability is one half, so the gradient is mean((0.5 - label) * input).
    residual = 0.5 - run["labels"].numpy()
    expected = -0.5 * (residual[:, None] * run["inputs"].numpy()).mean(axis=0)
    np.testing.assert_allclose(run["state"]["linear.weight"][0], expected, rtol=1e-5)


def test_weight_decay_pulls_to_zero() -> None:
    free = trained(local_epochs=50)["state"]["linear.weight"]
    held = trained(local_epochs=50, weight_decay="0.5")["state"]["linear.weight"]
    assert np.linalg.norm(held) < np.linalg.norm(free)


def test_progress_counts_steps() -> None:
    torch.manual_seed(0)
    model = build_model(TABULAR)
    seen: list[tuple[int, int]] = []
    local_steps(
        model,
        state_of(model),
        task=build_task(TABULAR),
        inputs=torch.zeros(10, 2),
        labels=torch.zeros(10, dtype=torch.long),
        training=plan_with(training={"batch_size": 4, "local_epochs": 2}).training,
        seed=1,
        progress=lambda done, steps: seen.append((done, steps)),
    )
    assert seen == [(step, 6) for step in range(1, 7)]


def test_without_cases_nothing_moves() -> None:
    run = trained(cases=0)
    layout, update = update_of(run["received"], run["state"])
    assert layout == layout_of(run["received"])
    assert not update.any()


def test_the_update_is_new_minus_received() -> None:
    received = {"a": np.array([1, 2], np.float32), "b": np.array([[3]], np.float32)}
    layout, update = update_of(received, {"a": np.array([2, 2], np.float32), "b": np.array([[1]], np.float32)})
    assert layout.names == ("a", "b")
    assert update.tolist() == [1, 0, -2]
    assert update.dtype == np.float32


def test_the_score_of_a_site_is_what_its_cases_give() -> None:
    run = trained(batch_size=0)
    found = score(run["model"], run["inputs"], run["labels"], bins=64, classes=2, item="test_histogram")
    assert sum(found["test_histogram"]) == found["cases"][0] == 50
    exact = exact_auc(outputs(run["model"], run["inputs"])[:, 0].double().numpy(), run["labels"].numpy())
    assert figures(found, 64).auc == pytest.approx(exact, abs=0.02)


def test_scores_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained()
    whole = score(run["model"], run["inputs"], run["labels"], bins=64, classes=2, item="score_histogram")
    monkeypatch.setattr("site_agent.training.evaluation.BATCH", 7)
    assert score(run["model"], run["inputs"], run["labels"], bins=64, classes=2, item="score_histogram") == whole


def test_a_site_without_cases_scores_zeros() -> None:
    run = trained()
    empty = score(run["model"], run["inputs"][:0], run["labels"][:0], bins=8, classes=2, item="score_histogram")
    assert empty == {"score_histogram": [0] * 16, "loss": [0], "correct": [0], "cases": [0]}
