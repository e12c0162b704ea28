"""The cases of one part of a data set as plain arrays: what data sets give and tasks take."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

DataPart = Literal["training", "validation", "test"]
DATA_PARTS: tuple[DataPart, ...] = ("training", "validation", "test")


@dataclass(frozen=True)
class Cases:
    """`inputs` is float64 (cases, features) with NaN for missing, or uint8 (cases, height, width, channels).

    `labels` is int64 (cases), from 0.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.labels)


def joined(parts: list[Cases]) -> Cases:
    """Return all cases of several sites, as pooled training would see them; rehearsals only."""
    return Cases(np.concatenate([part.inputs for part in parts]), np.concatenate([part.labels for part in parts]))
