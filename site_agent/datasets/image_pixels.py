"""Pixels of one image in the form a task asks for: square, 8 bits, one or three channels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def as_pixels(image: Image.Image, size: int, channels: int) -> Pixels:
    """Return ``(size, size, channels)`` uint8; other sizes are scaled, colour and grey are converted."""
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would cut 16 bits off at 255; medical images use the whole range, so it is mapped to 8 bits.
        wide = np.asarray(image, np.float64)
        span = max(float(wide.max() - wide.min()), 1.0)
        image = Image.fromarray(np.rint((wide - wide.min()) * (255 / span)).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(size, size, channels)


def stack_as_pixels(images: NDArray[Any], size: int, channels: int) -> Pixels:
    """Return ``(images, size, size, channels)`` uint8 from uint8 images with or without a channel axis."""
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1:] == (size, size, channels):
        return images
    pictures = [Image.fromarray(image[..., 0] if image.shape[2] == 1 else image) for image in images]
    return np.stack([as_pixels(picture, size, channels) for picture in pictures])
