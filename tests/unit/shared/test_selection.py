from typing import Any

from shared.protocol.study import Selection
from shared.selection import choose


def selection(**changes: Any) -> Selection:
    return Selection(**{"metric": "auc", "patience": 2, "min_delta": "0.01", **changes})


def auc(*values: float | None) -> list[dict[str, Any] | None]:
    return [None if value is None else {"auc": f"{value:.6f}", "loss": f"{1 - value:.6f}"} for value in values]


def test_the_best_version_has_the_highest_auc() -> None:
    assert choose(auc(0.5, 0.8, 0.7), selection()) == (1, False)


def test_a_gain_below_min_delta_is_none() -> None:
    assert choose(auc(0.80, 0.805, 0.809), selection()) == (0, True)


def test_patience_counts_versions_without_gain() -> None:
    assert choose(auc(0.8, 0.7), selection()) == (0, False)
    assert choose(auc(0.8, 0.7, 0.7), selection()) == (0, True)
    assert choose(auc(0.8, 0.7, 0.9, 0.7), selection()) == (2, False)


def test_patience_zero_never_stops() -> None:
    assert choose(auc(*[0.8] * 50), selection(patience=0)) == (0, False)


def test_the_lowest_loss_is_best_when_loss_is_the_metric() -> None:
    assert choose(auc(0.5, 0.9, 0.7), selection(metric="loss")).best == 1


def test_versions_without_figures_are_passed_over() -> None:
    assert choose(auc(None, 0.6, None, 0.5), selection()) == (1, False)


def test_without_any_figures_the_newest_is_best() -> None:
    assert choose(auc(None, None, None), selection()) == (2, False)


def test_equal_figures_keep_the_older_version() -> None:
    assert choose(auc(0.8, 0.8), selection(min_delta="0")).best == 0


def test_a_gain_of_exactly_min_delta_counts() -> None:
    assert choose(auc(0.80, 0.81), selection()).best == 1
