"""Small data sets in files, for tests of what reads and trains on them."""

from pathlib import Path
from typing import Any

import numpy as np

from site_agent.datasets.manifest import DatasetManifest, DatasetOptions
from site_agent.datasets.registry import inspect


def write_table(path: Path, cases: int = 60, seed: int = 0, missing: float = 0.05) -> Path:
    """Write rows of age, pressure and an outcome that depends on both."""
    generator = np.random.default_rng(seed)
    age, pressure = generator.normal(60, 10, cases), generator.normal(130, 15, cases)
    odds = (age - 60) / 5 + (pressure - 130) / 15 + generator.normal(size=cases)
    lines = ["age,pressure,outcome"]
    for row in range(cases):
        cells = ["" if generator.random() < missing else f"{value:.3f}" for value in (age[row], pressure[row])]
        lines.append(",".join([*cells, str(int(odds[row] > 0))]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_images(path: Path, cases: int = 40, seed: int = 0) -> Path:
    """Write an array file of images whose class shows as a bright left or right half."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        labels = np.arange(cases) % 2
        images = generator.integers(0, 100, (cases, 28, 28))
        images[labels == 0, :, :14] += 100
        images[labels == 1, :, 14:] += 100
        arrays |= {f"{part}_images": images.astype(np.uint8), f"{part}_labels": labels[:, None].astype(np.uint8)}
    np.savez(path, **arrays)
    return path


def table_manifest(folder: Path, cases: int = 60, seed: int = 0) -> DatasetManifest:
    """Write a table and return its manifest."""
    path = write_table(folder / f"table-{cases}-{seed}.csv", cases, seed)
    return inspect(path, "table", DatasetOptions(label="outcome", seed=seed))


def image_manifest(folder: Path, cases: int = 40, seed: int = 0) -> DatasetManifest:
    """Write an array file and return its manifest."""
    return inspect(write_images(folder / f"images-{cases}-{seed}.npz", cases, seed), "images", DatasetOptions())
