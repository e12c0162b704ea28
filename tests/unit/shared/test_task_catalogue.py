from typing import Any

import pytest

from shared.errors import InputError
from shared.protocol.vector_layout import vector_layout
from shared.task_catalogue import MAX_CASES, check_metrics, check_task, tail_items, task_spec
from tests.support.plans import IMAGES, TABULAR, plan_with


@pytest.mark.parametrize("task", [TABULAR, IMAGES])
def test_a_complete_task_is_returned_unchanged(task: dict[str, Any]) -> None:
    assert check_task(task) == task


def test_absent_keys_get_their_defaults() -> None:
    short = {"name": "tabular", "features": ["a"], "label": "b", "model": {"name": "mlp"}}
    assert check_task(short) == {**short, "classes": 2, "model": {"name": "mlp", "hidden": [16]}}
    assert check_task({"name": "image_classification"}) == IMAGES


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "segmentation"}, "segmentation"),
        ({"features": []}, "features"),
        ({"features": ["age", "age"]}, "'age' stands twice"),
        ({"label": "age"}, "'age' is also a feature"),
        ({"classes": 1}, "classes"),
        ({"model": {"name": "small_cnn"}}, "small_cnn"),
        ({"model": {"name": "mlp", "hidden": [0]}}, "hidden"),
        ({"model": {"name": "logistic_regression", "hidden": [4]}}, "hidden"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_impossible_task_names_the_wrong_key(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match="task_invalid") as caught:
        task_spec({**TABULAR, **change})
    assert named in caught.value.detail


@pytest.mark.parametrize("change", [{"image_size": 27}, {"image_size": 65}, {"channels": 2}, {"image_size": "28"}])
def test_an_impossible_image_task_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="task_invalid"):
        task_spec({**IMAGES, **change})


@pytest.mark.parametrize("metrics", [{"bins": 63}, {"bins": 0}, {"bins": True}, {"bins": 64, "more": 1}])
def test_odd_bins_are_refused(metrics: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="metrics_invalid"):
        check_metrics(metrics)


def test_the_tail_of_an_update_scores_the_received_model() -> None:
    names = [(name, length) for name, length, _ in tail_items(plan_with(), "update", "validation")]
    expected = [("weight", 1), ("n_sites", 1), ("score_histogram", 128), ("loss", 1), ("correct", 1), ("cases", 1)]
    assert names == [*expected, ("checksum", 4)]


def test_the_tail_without_scores_has_none() -> None:
    assert [name for name, _, _ in tail_items(plan_with(), "update", None)] == ["weight", "n_sites", "checksum"]


def test_each_class_of_many_has_a_histogram() -> None:
    plan = plan_with(task={**IMAGES, "classes": 3}, metrics={"bins": 16})
    items = {name: length for name, length, _ in tail_items(plan, "metrics", "test")}
    assert items["test_histogram"] == 3 * 2 * 16
    assert "weight" not in items


def test_statistics_have_one_value_per_feature_or_channel() -> None:
    tabular = {name: length for name, length, _ in tail_items(plan_with(), "statistics", None)}
    assert tabular == {
        "n_sites": 1,
        "feature_count": 2,
        "feature_sum": 2,
        "feature_square_sum": 2,
        "class_count": 2,
        "checksum": 4,
    }
    colour = plan_with(task={**IMAGES, "channels": 3, "classes": 4})
    images = {name: length for name, length, _ in tail_items(colour, "statistics", None)}
    assert (images["feature_sum"], images["class_count"]) == (3, 4)


@pytest.mark.parametrize("b", [16, 24, 32])
@pytest.mark.parametrize("n", [3, 4, 200])
def test_every_item_fits_the_limbs_of_its_context(b: int, n: int) -> None:
    plan = plan_with(secure_aggregation={"b": b, "q": 8, "w_cap": 2**40})
    for kind, part in (("update", "validation"), ("metrics", "test"), ("statistics", None)):
        layout = vector_layout(plan, kind, n, part)  # type: ignore[arg-type]
        largest = {name: maximum for name, _, maximum in tail_items(plan, kind, part)}  # type: ignore[arg-type]
        bits = layout.b - (n - 1).bit_length()
        for entry in layout.tail[:-1]:
            assert 2 ** (bits * entry.limbs) > largest[entry.name]
            assert entry.limbs <= 16
    assert MAX_CASES < 2**24
