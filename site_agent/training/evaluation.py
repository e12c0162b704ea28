"""The score of a model on a site's cases, as counts that can be summed over sites."""

import torch
from torch import Tensor, nn

from shared.metrics import histogram, loss_sum
from shared.tasks.task import case_losses, decided_classes, log_odds, outputs_of

BATCH = 512


def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the model's outputs for all cases, on the CPU, without gradients."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(inputs[start : start + BATCH]).cpu() for start in range(0, len(inputs), BATCH)])


def score(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, bins: int, classes: int, item: str
) -> dict[str, list[int]]:
    """Return the score items of a masked tail: the histogram under the name `item`, loss, correct and cases."""
    if not len(labels):
        scored = outputs_of(classes)
        return {item: [0] * (scored * 2 * bins), "loss": [0], "correct": [0], "cases": [0]}
    found, truth = outputs(model, inputs), labels.cpu()
    return {
        item: histogram(log_odds(found).numpy(), truth.numpy(), bins).tolist(),
        "loss": [loss_sum(case_losses(found.double(), truth).numpy())],
        "correct": [int((decided_classes(found) == truth).sum())],
        "cases": [len(truth)],
    }
