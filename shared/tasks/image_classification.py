"""Square images, one class each. Pixels are scaled to 0..1, then normalised by federated figures per channel."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.canonical import JsonObject
from shared.cases import Cases
from shared.errors import InputError
from shared.statistics import encode_sum
from shared.task_catalogue import ImageTask
from shared.tasks.tabular import numbers

SHIFT = 2  # pixels, each way
CONTRAST = 0.2  # slope and offset are changed by up to this much, in units of the pixels' deviation


class ImageClassification:
    """The task ``image_classification``."""

    def __init__(self, spec: ImageTask) -> None:
        """Keep the checked description."""
        self.spec = spec
        self.classes = spec.classes

    def inputs(self, cases: Cases, statistics: JsonObject | None) -> Tensor:
        """Return (cases, channels, size, size) float32."""
        values: NDArray[np.float32] = cases.inputs.astype(np.float32) / np.float32(255)
        if statistics is not None:
            mean, deviation = (numbers(statistics[name]).astype(np.float32) for name in ("mean", "std"))
            values = (values - mean) / deviation
        return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))

    def sums(self, cases: Cases) -> dict[str, list[int]]:
        """Return count, sum and sum of squares of the pixels (0..1) of each channel and the cases of each class."""
        sums: dict[str, list[int]] = {"feature_count": [], "feature_sum": [], "feature_square_sum": []}
        for channel in range(self.spec.channels):
            # A histogram of the 256 values makes the sums exact and needs no second copy of the images.
            counts = np.bincount(cases.inputs[..., channel].ravel(), minlength=256).astype(object)
            values = np.arange(256).astype(object)
            sums["feature_count"].append(int(counts.sum()))
            sums["feature_sum"].append(encode_sum(int((counts * values).sum()) / 255))
            sums["feature_square_sum"].append(encode_sum(int((counts * values * values).sum()) / 255**2))
        sums["class_count"] = np.bincount(cases.labels, minlength=self.classes).tolist()
        return sums

    def augmented(self, inputs: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Return the batch with the named changes, in the order of the names.

        Raises:
            InputError: ``task_invalid`` for a name that is not known.
        """
        for name in names:
            if name not in _CHANGES:
                known = ", ".join(_CHANGES)
                raise InputError("task_invalid", f"training.augmentation: {name!r} is none of {known}")
            inputs = _CHANGES[name](inputs, generator)
        return inputs


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image by up to two pixels both ways; the border is repeated."""
    count, _, height, width = images.shape
    moves = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=generator).to(images.device)
    padded = torch.nn.functional.pad(images, (SHIFT,) * 4, mode="replicate")
    rows = moves[0] + torch.arange(height, device=images.device)
    columns = moves[1] + torch.arange(width, device=images.device)
    cases = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[cases, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, left to right."""
    mirrored = torch.rand((len(images), 1, 1, 1), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device), images.flip(3), images)


def _contrast(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness and contrast of each image a little."""
    drawn = (torch.rand((2, len(images), 1, 1, 1), generator=generator) * 2 - 1).to(images.device)
    return images * (1 + CONTRAST * drawn[0]) + CONTRAST * drawn[1]


_CHANGES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "shift": _shift,
    "flip": _flip,
    "contrast": _contrast,
}
