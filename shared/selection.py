"""Which model version is the best, and when a study has converged: by validation figures, never by test data."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from shared.canonical import JsonObject
from shared.protocol.study import Selection


class Choice(NamedTuple):
    """The best version so far (its place in the list of versions) and whether to stop."""

    best: int
    converged: bool


def choose(history: Sequence[JsonObject | None], selection: Selection) -> Choice:
    """Choose among versions 0, 1, ... by their validation figures (`Figures.as_json`; None: not scored).

    A version is better when it gains at least ``min_delta`` over the best one before it; after ``patience`` versions
    without gain (0: never) the study has converged. Where no version has figures, the newest is the best.
    """
    sign = 1 if selection.metric == "auc" else -1
    least = Decimal(selection.min_delta)
    best, value, waited = len(history) - 1, None, 0
    for index, figures in enumerate(history):
        if figures is None:
            continue
        score = sign * Decimal(str(figures[selection.metric]))
        if value is None or score - value >= max(least, Decimal("0.000001")):
            best, value, waited = index, score, 0
        else:
            waited += 1
    return Choice(best, bool(selection.patience) and waited >= selection.patience)
