"""Fully connected layers with ReLU between them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """Hidden layers of the given sizes."""

    def __init__(self, features: int, hidden: Sequence[int], outputs: int) -> None:
        """Make the layers with torch's own initialisation."""
        super().__init__()
        sizes = [features, *hidden, outputs]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (cases, outputs)."""
        values = inputs
        for layer in self.layers[:-1]:
            values = torch.relu(layer(values))
        result: Tensor = self.layers[-1](values)
        return result
