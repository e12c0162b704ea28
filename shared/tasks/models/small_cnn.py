"""A small convolutional network: three convolutions with group normalisation, about 24 thousand weights."""

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64)
GROUPS = 8


class SmallCnn(nn.Module):
    """Convolution, normalisation, ReLU, three times; halved after each of the first two; averaged; one linear layer."""

    def __init__(self, channels: int, outputs: int) -> None:
        """Make the layers with torch's own initialisation."""
        super().__init__()
        sizes = (channels, *WIDTHS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(sizes[index], sizes[index + 1], 3, padding=1, bias=False) for index in range(len(WIDTHS))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for width in WIDTHS)
        self.head = nn.Linear(WIDTHS[-1], outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (cases, outputs) from (cases, channels, height, width)."""
        values = inputs
        last = len(WIDTHS) - 1
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            values = torch.relu(norm(convolution(values)))
            if index < last:
                values = nn.functional.max_pool2d(values, 2)
        result: Tensor = self.head(values.mean(dim=(2, 3)))
        return result
