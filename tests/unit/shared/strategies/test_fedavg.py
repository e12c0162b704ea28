from typing import Any

import numpy as np
import pytest

from shared.errors import InputError, PeerFault
from shared.model_state import layout_of
from shared.strategies.registry import build_strategy, check_strategy
from shared.strategies.strategy import BLOCK, apply_aggregate, clip_runs
from tests.support.plans import plan_with

LAYOUT = layout_of({"bias": np.zeros(1, np.float32), "weight": np.zeros((1, 2), np.float32)})
CLIP = {"default": "0.5", "tensors": {"weight": "2"}}


def test_the_aggregate_moves_the_model_by_the_weighted_mean() -> None:
    plan = plan_with(secure_aggregation={"clip": CLIP, "w_cap": 100, "q": 16})
    quantum = 2**15 - 1
    # Two sites with 30 and 10 cases; each word is weight/w_cap * update * Q / clip, and the sum of both is given.
    updates = np.array([[0.25, 1.0, -1.5], [-0.5, 0.5, 2.0]])
    weights = np.array([[30.0], [10.0]])
    words = np.rint((weights / 100 * updates * quantum / np.array([0.5, 2, 2])).sum(axis=0)).astype(np.int32)
    model = np.array([1, 2, 3], np.float32)
    found = apply_aggregate(plan, LAYOUT, model, words, 40)
    np.testing.assert_allclose(found, model + (weights * updates).sum(axis=0) / 40, atol=5e-4)
    assert found.dtype == np.float32


def test_the_server_learning_rate_scales_the_step() -> None:
    words = np.array([100, -200, 300], np.int32)
    zero = np.zeros(3, np.float32)
    whole = apply_aggregate(plan_with(), LAYOUT, zero, words, 10)
    half = apply_aggregate(plan_with(strategy={"server_learning_rate": "0.5"}), LAYOUT, zero, words, 10)
    np.testing.assert_array_equal(half * 2, whole)


def test_the_result_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    size = 5000
    layout = layout_of({"w": np.zeros(size, np.float32)})
    model = generator.normal(size=size).astype(np.float32)
    words = generator.integers(-(2**20), 2**20, size).astype(np.int32)
    plan = plan_with(strategy={"server_learning_rate": "0.7"}, secure_aggregation={"clip": {"default": "0.3"}})
    assert size < BLOCK
    whole = apply_aggregate(plan, layout, model, words, 977)
    monkeypatch.setattr("shared.strategies.strategy.BLOCK", 7)
    assert apply_aggregate(plan, layout, model, words, 977).tobytes() == whole.tobytes()


def test_the_step_is_pinned_bit_for_bit() -> None:
    # Every site recomputes these bytes: a change here is a change of the protocol.
    words = np.array([12345, -999, 7], np.int32)
    model = np.array([0.1, -0.2, 0.3], np.float32)
    plan = plan_with(strategy={"server_learning_rate": "0.9"}, secure_aggregation={"clip": CLIP, "w_cap": 777})
    assert apply_aggregate(plan, LAYOUT, model, words, 1234).tobytes().hex() == "97b6533e1c2f70be56b9993e"


@pytest.mark.parametrize(
    ("words", "weight"),
    [(np.zeros(2, np.int32), 5), (np.zeros(3, np.int64), 5), (np.zeros(3, np.int32), 0)],
)
def test_an_aggregate_that_does_not_fit_is_refused(words: Any, weight: int) -> None:
    with pytest.raises(PeerFault, match="aggregate_malformed"):
        apply_aggregate(plan_with(), LAYOUT, np.zeros(3, np.float32), words, weight)


def test_a_model_that_overflows_is_refused() -> None:
    plan = plan_with(secure_aggregation={"clip": {"default": "1" + "0" * 38}})
    with pytest.raises(PeerFault, match="model_not_finite"):
        apply_aggregate(plan, LAYOUT, np.full(3, 3e38, np.float32), np.full(3, 2**31 - 1, np.int32), 1)


def test_a_clip_for_a_tensor_that_is_not_there_is_refused() -> None:
    plan = plan_with(secure_aggregation={"clip": {"default": "1", "tensors": {"wieght": "1"}}})
    with pytest.raises(InputError, match="wieght"):
        clip_runs(plan, LAYOUT)


def test_a_clip_of_zero_is_refused() -> None:
    with pytest.raises(InputError, match="positive"):
        clip_runs(plan_with(secure_aggregation={"clip": {"default": "0"}}), LAYOUT)


def test_clips_lie_over_the_flat_vector() -> None:
    runs = clip_runs(plan_with(secure_aggregation={"clip": CLIP}), LAYOUT)
    assert [(start, stop, float(clip)) for start, stop, clip in runs] == [(0, 1, 0.5), (1, 3, 2.0)]


def test_defaults_are_filled_in() -> None:
    assert check_strategy({"name": "fedavg"}) == {"name": "fedavg", "server_learning_rate": "1"}


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        ({"name": "fedprox"}, "fedprox"),
        ({"name": "fedavg", "momentum": "0"}, "momentum"),
        ({"name": "fedavg", "server_learning_rate": "0"}, "server_learning_rate"),
        ({"name": "fedavg", "server_learning_rate": 1}, "server_learning_rate"),
        ({"name": "fedavg", "server_learning_rate": "NaN"}, "server_learning_rate"),
        ({"name": "fedavg", "server_learning_rate": "fast"}, "server_learning_rate"),
    ],
)
def test_an_impossible_strategy_names_the_wrong_key(strategy: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match="strategy_invalid") as caught:
        build_strategy(strategy)
    assert named in caught.value.detail
