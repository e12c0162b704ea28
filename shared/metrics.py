"""Figures from summed score histograms (PROTOCOLS A15): AUC and its interval, confusion table, calibration.

Sums in, numbers out. A score is a log-odds. A histogram has equal bins on [-8, 8] whose outermost ones are open; with
an even number of bins the probability 0.5 is an edge, so the confusion table at 0.5 is exact.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import Misuse, PeerFault, Unavailable

LOWEST, HIGHEST = -8.0, 8.0
LOSS_SCALE = 2**16  # losses are summed in this fixed point
LOSS_CAP = 64  # of one case
LEAST_CASES = 10  # positives and negatives each; below, a figure would speak of single patients (PROTOCOLS A15)

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Cases by truth and by decision at probability 0.5."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def sensitivity(self) -> float:
        """Return the share of positives that are recognised."""
        return self.true_positives / (self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Return the share of negatives that are recognised."""
        return self.true_negatives / (self.true_negatives + self.false_positives)


@dataclass(frozen=True)
class Calibration:
    """How far predicted probabilities are from frequencies, seen through the bins."""

    expected_error: float
    brier: float


@dataclass(frozen=True)
class Figures:
    """What is said about one model version on one part of the patients."""

    auc: float
    auc_low: float
    auc_high: float
    accuracy: float
    loss: float
    cases: int

    def as_json(self) -> dict[str, str | int]:
        """Return the figures with decimal strings of six digits, as views and reports carry them."""
        shown = {name: f"{getattr(self, name):.6f}" for name in ("auc", "auc_low", "auc_high", "accuracy", "loss")}
        return {**shown, "cases": self.cases}


def histogram(scores: Scores, labels: Counts, bins: int) -> Counts:
    """Count `scores` (cases, scored classes) with `labels` (cases) in ``(scored classes, 2, bins)``, flattened.

    Positives come first. One scored class means two classes, and class 1 is the positive one; otherwise each class is
    positive against the rest.
    """
    scored = scores.shape[1]
    place = np.floor((scores - LOWEST) * (bins / (HIGHEST - LOWEST)))
    place = np.clip(place, 0, bins - 1).astype(np.int64)
    counts = np.zeros((scored, 2, bins), np.int64)
    for index in range(scored):
        positive = labels == (1 if scored == 1 else index)
        counts[index, 0] = np.bincount(place[positive, index], minlength=bins)
        counts[index, 1] = np.bincount(place[~positive, index], minlength=bins)
    return counts.ravel()


def split_histogram(flat: Sequence[int] | Counts, bins: int) -> Counts:
    """Return the flattened counts as ``(scored classes, 2, bins)``.

    Raises:
        Misuse: ``metrics_malformed`` when the length does not fit.
    """
    counts = np.asarray(flat, np.int64)
    if counts.ndim != 1 or not counts.size or counts.size % (2 * bins) or (counts < 0).any():
        raise Misuse("metrics_malformed", f"{counts.size} counts are no histograms of 2 x {bins} bins")
    return counts.reshape(-1, 2, bins)


def check_case_counts(counts: Counts) -> None:
    """Refuse figures about fewer than 10 positives or negatives of any scored class (PROTOCOLS A15).

    Raises:
        Unavailable: ``metrics_too_few_cases``.
    """
    for index, (positives, negatives) in enumerate(counts.sum(axis=2).tolist()):
        if min(positives, negatives) < LEAST_CASES:
            found = f"score {index} has {positives} positive and {negatives} negative cases"
            raise Unavailable("metrics_too_few_cases", f"{found}, at least {LEAST_CASES} of each are needed")


def auc_from_histogram(counts: Counts) -> float:
    """Return the area under the ROC curve (macro average one-vs-rest) of ``(scored classes, 2, bins)`` counts.

    A tie inside a bin counts one half; the error is at most ``auc_error_bound(counts)``.
    """
    areas = []
    for positive, negative in counts.astype(float):
        below = np.concatenate(([0.0], np.cumsum(negative)[:-1]))
        areas.append(float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum())))
    return math.fsum(areas) / len(areas)


def auc_error_bound(counts: Counts) -> float:
    """Return how far the AUC from these bins can be from the exact one: half the mass that shares a bin."""
    halves = [float((p * n).sum() / (2 * p.sum() * n.sum())) for p, n in counts.astype(float)]
    return math.fsum(halves) / len(halves)


def exact_auc(scores: NDArray[np.float64], labels: Counts) -> float:
    """Return the AUC (Mann-Whitney, ties one half) of one score per case against binary labels; the reference.

    Raises:
        Unavailable: ``metrics_too_few_cases`` when one of the classes has no case.
    """
    if not 0 < int((labels == 1).sum()) < len(labels):
        raise Unavailable("metrics_too_few_cases", f"{len(labels)} cases of one class have no AUC")
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    group = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(ordered))
    ranks = ((first + last + 1) / 2)[group]
    positive = labels[order] == 1
    positives = int(positive.sum())
    negatives = len(labels) - positives
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def hanley_mcneil(auc: float, positives: int, negatives: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval of an AUC (Hanley and McNeil 1982), cut off at 0 and 1."""
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (q1 - auc * auc) + (negatives - 1) * (q2 - auc * auc)
    half = z * math.sqrt(max(0.0, spread) / (positives * negatives))
    return max(0.0, auc - half), min(1.0, auc + half)


def confusion_at_half(counts: Counts) -> Confusion:
    """Return the confusion table of one scored class ``(2, bins)`` at probability 0.5.

    Raises:
        Misuse: ``metrics_malformed`` for an odd number of bins.
    """
    bins = counts.shape[1]
    if bins % 2:
        raise Misuse("metrics_malformed", f"with {bins} bins the probability 0.5 is not an edge")
    half = bins // 2
    (low_positive, high_positive), (low_negative, high_negative) = [
        (int(row[:half].sum()), int(row[half:].sum())) for row in counts
    ]
    return Confusion(high_positive, high_negative, low_negative, low_positive)


def calibration(counts: Counts) -> Calibration:
    """Return calibration error and Brier score of one scored class ``(2, bins)``; a bin stands for its middle."""
    bins = counts.shape[1]
    middles = LOWEST + (np.arange(bins) + 0.5) * ((HIGHEST - LOWEST) / bins)
    probability = 1 / (1 + np.exp(-middles))
    positive, negative = counts.astype(float)
    total = positive.sum() + negative.sum()
    error = np.abs(positive - probability * (positive + negative)).sum() / total
    brier = (positive * (1 - probability) ** 2 + negative * probability**2).sum() / total
    return Calibration(float(error), float(brier))


def figures(values: Mapping[str, Sequence[int]], bins: int) -> Figures:
    """Return the figures of a sum that carries a score or test histogram, loss, correct and cases.

    Raises:
        Unavailable: ``metrics_too_few_cases``.
        PeerFault: ``metrics_malformed`` when the items contradict each other.
    """
    name = "score_histogram" if "score_histogram" in values else "test_histogram"
    if not {name, "loss", "correct", "cases"} <= set(values):
        raise PeerFault("metrics_malformed", f"the sum has {sorted(values)}")
    counts = split_histogram(list(values[name]), bins)
    cases = int(values["cases"][0])
    correct = int(values["correct"][0])
    if any(total != cases for total in counts.sum(axis=(1, 2)).tolist()) or correct > cases:
        raise PeerFault(
            "metrics_malformed", f"the histograms, {cases} cases and {correct} correct ones do not fit together"
        )
    check_case_counts(counts)
    auc = auc_from_histogram(counts)
    fewest = min(counts.sum(axis=2).tolist(), key=min)  # the rarest class makes the widest interval
    low, high = hanley_mcneil(auc, *fewest)
    return Figures(auc, low, high, correct / cases, int(values["loss"][0]) / LOSS_SCALE / cases, cases)


def loss_sum(losses: NDArray[np.float64]) -> int:
    """Return the sum of per-case losses in the fixed point of the tail; each is cut off at 64, NaN counts 64."""
    capped = np.minimum(np.nan_to_num(losses, nan=LOSS_CAP, posinf=LOSS_CAP), LOSS_CAP)
    return int(np.rint(np.maximum(capped, 0) * LOSS_SCALE).astype(np.int64).sum())
