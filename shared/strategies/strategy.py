"""What a strategy is, and the step every party repeats: dequantize, then move the model (PROTOCOLS A9, R4, R5)."""

from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import InputError, PeerFault
from shared.model_state import Array, Layout
from shared.protocol.study import Plan

BLOCK = 2**16  # elements; the intermediate float64 vectors stay in the processor's cache


class Strategy(Protocol):
    """Moves a model by the mean update. No state is kept between rounds, so a site can recompute any version."""

    def step(self, model: Array, mean_update: NDArray[np.float64]) -> Array:
        """Return the next model, float32, from a part of the flat model and the same part of the mean update.

        Element by element: a vector may be given in parts of any size. Every operation is one rounded IEEE operation.
        """
        ...


def clip_runs(plan: Plan, layout: Layout) -> list[tuple[int, int, Fraction]]:
    """Return first element, end and clip of each tensor: the plan's clip table laid over the flat vector.

    Raises:
        InputError: ``task_invalid`` for a tensor that the model does not have or a clip that is not positive.
    """
    table = plan.secure_aggregation.clip
    tensors = table.get("tensors", {})
    unknown = sorted(set(tensors) - set(layout.names))
    if unknown:
        raise InputError(
            "task_invalid", f"the clip table names {unknown[0]!r}; the model has {', '.join(layout.names[:20])}"
        )
    runs = [
        (start, stop, Fraction(tensors.get(name, table.get("default", "1")))) for name, start, stop in layout.runs()
    ]
    if any(clip <= 0 for _, _, clip in runs):
        raise InputError("task_invalid", "clips are positive numbers")
    return runs


def apply_aggregate(
    plan: Plan, layout: Layout, model_flat: Array, sum_words: NDArray[np.int32], total_weight: int
) -> Array:
    """Return the next model from the main words of an aggregate.

    ``mean = sum * clip/Q * w_cap / total weight``, then the plan's strategy.

    Raises:
        PeerFault: ``aggregate_malformed`` for other lengths or no weight, ``model_not_finite``.
        InputError: ``task_invalid``, ``strategy_invalid``.
    """
    from shared.strategies.registry import (
        build_strategy,
    )  # the registry names strategies, which are of this module's type

    if model_flat.shape != (layout.size,) or sum_words.shape != (layout.size,) or sum_words.dtype != np.int32:
        raise PeerFault(
            "aggregate_malformed", f"{sum_words.dtype}{list(sum_words.shape)} for a model of {layout.size} elements"
        )
    if total_weight < 1:
        raise PeerFault("aggregate_malformed", "no site brought a training case")
    strategy = build_strategy(plan.strategy)
    numbers = plan.secure_aggregation
    quantum = 2 ** (numbers.q - 1) - 1
    result = np.empty(layout.size, np.float32)
    for start, stop, clip in clip_runs(plan, layout):
        # One correctly rounded factor per tensor, from exact arithmetic: no order of operations is left to chance.
        factor = np.float64(float(clip * numbers.w_cap / (quantum * total_weight)))
        for first in range(start, stop, BLOCK):
            last = min(first + BLOCK, stop)
            mean = sum_words[first:last].astype(np.float64) * factor
            result[first:last] = strategy.step(model_flat[first:last], mean)
    if not np.isfinite(result).all():
        raise PeerFault("model_not_finite", "the next model version would hold NaN or infinity")
    return result
