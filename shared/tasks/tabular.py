"""Rows of numbers. A missing cell becomes the federated mean, which is 0 after normalisation."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.canonical import JsonObject
from shared.cases import Cases
from shared.errors import InputError
from shared.statistics import site_sums
from shared.task_catalogue import TabularTask


class Tabular:
    """The task ``tabular``."""

    def __init__(self, spec: TabularTask) -> None:
        """Keep the checked description."""
        self.spec = spec
        self.classes = spec.classes

    def inputs(self, cases: Cases, statistics: JsonObject | None) -> Tensor:
        """Return (cases, features) float32."""
        values = cases.inputs
        if statistics is not None:
            values = (values - numbers(statistics["mean"])) / numbers(statistics["std"])
        return torch.from_numpy(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32))

    def sums(self, cases: Cases) -> dict[str, list[int]]:
        """Return count, sum and sum of squares of each feature and the cases of each class."""
        return site_sums(cases.inputs, cases.labels, self.classes)

    def augmented(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Return the batch as it is.

        Raises:
            InputError: ``task_invalid`` when the plan asks for random changes: there are none for rows.
        """
        del generator
        if names:
            raise InputError("task_invalid", f"training.augmentation: rows of a table have no {names[0]!r}")
        return inputs


def numbers(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return decimal strings as float64."""
    return np.array([float(text) for text in texts], np.float64)
