from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shared.errors import InputError, Misuse
from shared.model_state import layout_of
from shared.task_catalogue import TabularTask, task_spec
from shared.tasks.registry import build_model
from shared.tasks.weights import load_into, state_of
from tests.support.plans import IMAGES, TABULAR


def tabular(name: str, classes: int = 2, **model: Any) -> dict[str, Any]:
    return {**TABULAR, "classes": classes, "model": {"name": name, **model}}


def images(name: str, size: int = 28, channels: int = 1, classes: int = 2) -> dict[str, Any]:
    return {**IMAGES, "image_size": size, "channels": channels, "classes": classes, "model": {"name": name}}


@pytest.mark.parametrize(
    ("task", "weights"),
    [
        (tabular("logistic_regression"), 3),
        (tabular("logistic_regression", classes=4), 4 * 3),
        (tabular("mlp", hidden=[16]), 2 * 16 + 16 + 16 + 1),
        (tabular("mlp", hidden=[5, 3]), 2 * 5 + 5 + 5 * 3 + 3 + 3 + 1),
        (images("small_cnn"), 9 * (16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + 64 + 1),
        (images("small_cnn", channels=3, classes=5), 9 * (3 * 16 + 16 * 32 + 32 * 64) + 2 * 112 + 65 * 5),
        # The published network without its 1000-class head and 7x7 colour stem, with ours.
        (images("resnet18"), 11_689_512 - 513_000 - 9_408 + 576 + 513),
    ],
)
def test_the_number_of_weights(task: dict[str, Any], weights: int) -> None:
    assert layout_of(state_of(build_model(task))).size == weights


@pytest.mark.parametrize("name", ["small_cnn", "resnet18"])
@pytest.mark.parametrize(("size", "channels", "classes"), [(28, 1, 2), (64, 3, 4)])
def test_outputs_have_one_number_per_scored_class(name: str, size: int, channels: int, classes: int) -> None:
    model = build_model(images(name, size, channels, classes))
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 1 if classes == 2 else classes)


@pytest.mark.parametrize(
    "task", [tabular("logistic_regression"), tabular("mlp"), images("small_cnn"), images("resnet18")]
)
def test_no_network_keeps_statistics_of_batches(task: dict[str, Any]) -> None:
    model = build_model(task)
    assert not [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert not list(model.buffers())
    if task["name"] == "image_classification":
        assert [module for module in model.modules() if isinstance(module, nn.GroupNorm)]


@pytest.mark.parametrize("task", [tabular("mlp"), images("small_cnn")])
def test_a_case_is_scored_without_looking_at_the_others(task: dict[str, Any]) -> None:
    model = build_model(task).eval()
    spec = task_spec(task)
    shape = (len(spec.features),) if isinstance(spec, TabularTask) else (1, 28, 28)
    batch = torch.randn(4, *shape)
    with torch.no_grad():
        torch.testing.assert_close(model(batch)[:1], model(batch[:1]), rtol=1e-4, atol=1e-5)


def test_a_logistic_regression_starts_at_zero() -> None:
    assert all(not array.any() for array in state_of(build_model(tabular("logistic_regression"))).values())


def test_a_state_goes_into_a_network_and_comes_back() -> None:
    torch.manual_seed(1)
    first, second = build_model(images("small_cnn")), build_model(images("small_cnn"))
    load_into(second, state_of(first))
    for name, array in state_of(first).items():
        np.testing.assert_array_equal(array, state_of(second)[name])


def test_a_state_is_a_copy() -> None:
    model = build_model(tabular("logistic_regression"))
    before = state_of(model)
    load_into(model, {name: array + 1 for name, array in before.items()})
    assert not any(array.any() for array in before.values())


def test_the_state_of_another_network_is_refused() -> None:
    with pytest.raises(Misuse, match="model_layout_differs"):
        load_into(build_model(tabular("mlp")), state_of(build_model(tabular("logistic_regression"))))


def test_a_network_with_buffers_is_refused() -> None:
    with pytest.raises(Misuse, match="running_mean"):
        state_of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="task_invalid"):
        build_model(tabular("transformer"))
