"""FedAvg: add the mean update, weighted by training cases, times the server learning rate (McMahan et al. 2017)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.model_state import Array


@dataclass(frozen=True)
class FedAvg:
    """`server_learning_rate` 1 is the plain average of the hospitals' models."""

    server_learning_rate: float = 1.0

    def step(self, model: Array, mean_update: NDArray[np.float64]) -> Array:
        """Return ``float32(model + rate * mean_update)``, computed in float64."""
        moved = model.astype(np.float64) + mean_update * np.float64(self.server_learning_rate)
        # A value beyond float32 becomes infinite here and is refused by the caller, with a reason.
        with np.errstate(over="ignore"):
            return moved.astype(np.float32)
