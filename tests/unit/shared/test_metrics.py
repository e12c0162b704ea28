import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from shared.errors import Misuse, PeerFault, Unavailable
from shared.metrics import (
    LOSS_SCALE,
    auc_error_bound,
    auc_from_histogram,
    calibration,
    check_case_counts,
    confusion_at_half,
    exact_auc,
    figures,
    hanley_mcneil,
    histogram,
    loss_sum,
    split_histogram,
)


def random_case(seed: int, cases: int = 400, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random(cases) < 0.4).astype(np.int64)
    labels[:2] = [0, 1]
    return generator.normal(size=cases) * 2 + shift * labels, labels


@pytest.mark.parametrize("seed", range(20))
def test_exact_auc_equals_scikit_learn(seed: int) -> None:
    scores, labels = random_case(seed)
    if seed % 2:
        scores = np.round(scores)  # many ties
    assert exact_auc(scores, labels) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0]])
def test_one_class_has_no_auc(labels: list[int]) -> None:
    with pytest.raises(Unavailable, match="metrics_too_few_cases"):
        exact_auc(np.zeros(len(labels)), np.array(labels, np.int64))


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 8, 32, 64, 256]), st.integers(20, 500))
def test_the_histogram_auc_stays_within_its_bound(seed: int, bins: int, cases: int) -> None:
    scores, labels = random_case(seed, cases)
    counts = split_histogram(histogram(scores[:, None], labels, bins), bins)
    assert abs(auc_from_histogram(counts) - exact_auc(scores, labels)) <= auc_error_bound(counts) + 1e-12


def test_more_bins_come_closer() -> None:
    scores, labels = random_case(3, 9000)
    errors = []
    for bins in (8, 32, 256):
        counts = split_histogram(histogram(scores[:, None], labels, bins), bins)
        errors.append(abs(auc_from_histogram(counts) - exact_auc(scores, labels)))
    assert errors[0] > errors[2]
    assert errors[1] < 2e-3
    assert errors[2] < 1e-4


def test_histograms_of_parts_add_up_to_the_histogram_of_all() -> None:
    scores, labels = random_case(5)
    parts = histogram(scores[:150, None], labels[:150], 64) + histogram(scores[150:, None], labels[150:], 64)
    np.testing.assert_array_equal(parts, histogram(scores[:, None], labels, 64))


def test_scores_beyond_the_range_fall_into_the_outer_bins() -> None:
    counts = histogram(np.array([[-50.0], [50.0], [-np.inf], [np.inf]]), np.array([0, 1, 0, 1]), 4)
    assert counts.tolist() == [0, 0, 0, 2, 2, 0, 0, 0]


def test_one_half_is_an_edge() -> None:
    counts = split_histogram(histogram(np.array([[-1e-9], [0.0], [1e-9]]), np.array([1, 1, 0]), 64), 64)
    table = confusion_at_half(counts[0])
    assert (table.true_positives, table.false_negatives, table.false_positives, table.true_negatives) == (1, 1, 1, 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_confusion_table_equals_scikit_learn(seed: int) -> None:
    scores, labels = random_case(seed)
    table = confusion_at_half(split_histogram(histogram(scores[:, None], labels, 64), 64)[0])
    expected = reference.confusion_matrix(labels, scores >= 0)
    found = [[table.true_negatives, table.false_positives], [table.false_negatives, table.true_positives]]
    assert expected.tolist() == found
    assert table.sensitivity == pytest.approx(reference.recall_score(labels, scores >= 0))
    assert table.specificity == pytest.approx(reference.recall_score(1 - labels, scores < 0))


def test_an_odd_number_of_bins_has_no_confusion_table() -> None:
    with pytest.raises(Misuse, match="metrics_malformed"):
        confusion_at_half(np.ones((2, 3), np.int64))


@pytest.mark.parametrize("seed", range(5))
def test_many_classes_are_averaged_one_against_the_rest(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, 3000)
    logits = generator.normal(size=(3000, 3)) + 1.5 * np.eye(3)[labels]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    log_odds = np.log(probability) - np.log1p(-probability)
    counts = split_histogram(histogram(log_odds, labels, 256), 256)
    expected = reference.roc_auc_score(labels, probability, multi_class="ovr", average="macro")
    assert auc_from_histogram(counts) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("seed", range(5))
def test_brier_score_is_close_to_the_exact_one(seed: int) -> None:
    scores, labels = random_case(seed, 4000)
    counts = split_histogram(histogram(scores[:, None], labels, 256), 256)
    exact = reference.brier_score_loss(labels, 1 / (1 + np.exp(-scores)))
    assert calibration(counts[0]).brier == pytest.approx(exact, abs=2e-3)


def test_perfectly_calibrated_scores_have_a_small_calibration_error() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=200_000) * 2
    labels = (generator.random(200_000) < 1 / (1 + np.exp(-scores))).astype(np.int64)
    good = calibration(split_histogram(histogram(scores[:, None], labels, 64), 64)[0])
    bad = calibration(split_histogram(histogram(scores[:, None] + 2, labels, 64), 64)[0])
    assert good.expected_error < 0.01
    assert bad.expected_error > 0.2


def test_hanley_mcneil_matches_the_published_example() -> None:
    # Hanley and McNeil 1982, table II: area 0.893, 51 abnormal and 58 normal images, standard error 0.0320.
    low, high = hanley_mcneil(0.893, 51, 58)
    assert (high - low) / 2 / 1.959964 == pytest.approx(0.0320, abs=0.0015)
    assert hanley_mcneil(1.0, 20, 20) == (1.0, 1.0)


@pytest.mark.parametrize(("positives", "negatives"), [(9, 500), (500, 9), (0, 0)])
def test_small_cells_are_refused(positives: int, negatives: int) -> None:
    counts = np.array([[[positives, 0], [negatives, 0]]])
    with pytest.raises(Unavailable, match="metrics_too_few_cases"):
        check_case_counts(counts)


def test_ten_of_each_are_enough() -> None:
    check_case_counts(np.array([[[10, 0], [0, 10]]]))


def summed(seed: int = 1) -> dict[str, list[int]]:
    scores, labels = random_case(seed)
    losses = np.logaddexp(0, -np.where(labels == 1, scores, -scores))
    return {
        "n_sites": [4],
        "score_histogram": histogram(scores[:, None], labels, 64).tolist(),
        "loss": [loss_sum(losses)],
        "correct": [int(((scores >= 0) == (labels == 1)).sum())],
        "cases": [len(labels)],
    }


def test_figures_of_a_sum_agree_with_scikit_learn() -> None:
    scores, labels = random_case(1)
    found = figures(summed(), 64)
    assert found.auc == pytest.approx(reference.roc_auc_score(labels, scores), abs=5e-3)
    assert found.auc_low < found.auc < found.auc_high
    assert found.accuracy == pytest.approx(reference.accuracy_score(labels, scores >= 0))
    assert found.loss == pytest.approx(reference.log_loss(labels, 1 / (1 + np.exp(-scores))), abs=1e-4)
    assert found.as_json()["cases"] == 400
    assert found.as_json()["auc"] == f"{found.auc:.6f}"


@pytest.mark.parametrize("change", [{"cases": [399]}, {"correct": [401]}, {"score_histogram": [-1] + [0] * 127}])
def test_contradicting_sums_are_refused(change: dict[str, list[int]]) -> None:
    with pytest.raises((PeerFault, Misuse), match="metrics_malformed"):
        figures({**summed(), **change}, 64)


def test_missing_items_are_refused() -> None:
    values = summed()
    del values["loss"]
    with pytest.raises(PeerFault, match="metrics_malformed"):
        figures(values, 64)


def test_a_loss_is_cut_off_and_never_negative() -> None:
    losses = np.array([0.5, 1000.0, math.nan, math.inf, -1e-9])
    assert loss_sum(losses) == (LOSS_SCALE // 2) + 3 * 64 * LOSS_SCALE


def test_the_interval_is_that_of_the_rarest_class() -> None:
    """Three classes of 10, 100 and 190 cases, all scored alike: the ten decide how wide it is."""
    counts = np.zeros((3, 2, 4), np.int64)
    for index, positives in enumerate((10, 100, 190)):
        counts[index, 0] = [positives // 2, 0, 0, positives // 2]
        counts[index, 1] = [(300 - positives) // 2, 0, 0, (300 - positives) // 2]
    found = figures({"score_histogram": counts.ravel().tolist(), "loss": [0], "correct": [150], "cases": [300]}, 4)
    assert (found.auc_low, found.auc_high) == hanley_mcneil(found.auc, 10, 290)
