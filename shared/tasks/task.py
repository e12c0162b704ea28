"""What every task gives: tensors from cases, sums for the statistics, random changes for training, loss and scores."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from shared.canonical import JsonObject
from shared.cases import Cases


class Task(Protocol):
    """A learning task, built from a plan's ``task`` object."""

    classes: int

    def inputs(self, cases: Cases, statistics: JsonObject | None) -> Tensor:
        """Return the normalised inputs, float32 with cases first; without statistics they are only scaled."""
        ...

    def sums(self, cases: Cases) -> dict[str, list[int]]:
        """Return this site's items of a ``statistics`` context (`shared/statistics.py`)."""
        ...

    def augmented(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Return a batch with the random changes a plan names; all randomness comes from `generator`."""
        ...


def outputs_of(classes: int) -> int:
    """Return how many numbers a model gives per case: one log-odds for two classes, else one logit per class."""
    return 1 if classes == 2 else classes


def case_losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each case, from outputs (cases, 1 or classes) and labels (cases)."""
    if outputs.shape[1] == 1:
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels.float(), reduction="none")
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


def log_odds(outputs: Tensor) -> Tensor:
    """Return the scores of `shared/metrics.py`, float64 (cases, 1 or classes): the log-odds of each scored class."""
    if outputs.shape[1] == 1:
        return outputs.double()
    logs = torch.log_softmax(outputs.double(), dim=1)
    # log(1 - p) from the other classes' logits: exact where p is so close to 1 that 1 - p would vanish.
    others = [
        logs[:, [k for k in range(logs.shape[1]) if k != index]].logsumexp(dim=1) for index in range(logs.shape[1])
    ]
    return logs - torch.stack(others, dim=1)


def decided_classes(outputs: Tensor) -> Tensor:
    """Return the class each case is put in: at probability one half for two classes, else the most probable."""
    return (outputs[:, 0] >= 0).long() if outputs.shape[1] == 1 else outputs.argmax(dim=1)
