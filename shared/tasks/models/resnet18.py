"""ResNet-18 (He et al. 2015) for small images: a 3x3 stem without pooling, group normalisation."""

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
GROUPS = 32


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        """Make the layers; the shortcut has a convolution only where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.GroupNorm(GROUPS, after)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (cases, after, height / stride, width / stride)."""
        values = torch.relu(self.norm1(self.conv1(inputs)))
        return torch.relu(self.norm2(self.conv2(values)) + self.shortcut(inputs))


class ResNet18(nn.Module):
    """A stem, four stages of two blocks, an average, one linear layer."""

    def __init__(self, channels: int, outputs: int) -> None:
        """Make the layers with torch's own initialisation."""
        super().__init__()
        self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, WIDTHS[0])
        blocks: list[nn.Module] = []
        before = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            blocks += [Block(before, width, 1 if stage == 0 else 2), Block(width, width, 1)]
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(WIDTHS[-1], outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (cases, outputs) from (cases, channels, height, width)."""
        values = self.blocks(torch.relu(self.norm(self.stem(inputs))))
        result: Tensor = self.head(values.mean(dim=(2, 3)))
        return result
