"""PneumoniaMNIST: 5,856 chest X-rays of children, 28x28, cut into four simulated hospitals.

Training images go where ``partitions.csv`` puts them, or, where that file is absent, where a draw with the same shares
puts them (Dirichlet(0.5): the classes are spread unevenly, one hospital has hardly a normal image). The official
validation and test images are shared out so that the hospitals together have exactly the official ones.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.canonical import JsonObject
from shared.errors import InputError
from workbench.splits.settings import settings
from workbench.splits.site_data import SiteData, Split, check_sites, check_source

FILES = {
    "pneumoniamnist.npz": "9267ed3b9941b481c32828c741f923c8061ada5bbea58a665e4aa4feee8fa04e",
}
PARTITION_FILE = {"partitions.csv": "64777edb85b36e8f2c8e1f6becbe8807a6fa1100cc3e53f3a010bbfa8041a4fd"}
WHERE = "The images are PneumoniaMNIST of MedMNIST v2: medmnist.com or zenodo.org/records/10519652 (CC BY 4.0)."
HOSPITALS = 4
# Normal and pneumonia images of each hospital: those of the file's partitions.
SHARES = {
    "dirichlet05_4": ((1024, 137, 1, 52), (2250, 371, 308, 565)),
    "iid4": ((1, 1, 1, 1), (1, 1, 1, 1)),
}


def write(
    folder: Path, source: Path | None, sites: Sequence[str], seed: int, partition: str = "dirichlet05_4"
) -> Split:
    """Write one ``.npz`` file per hospital; `seed` decides which official validation and test images it keeps.

    Raises:
        InputError: ``demo_data_missing`` also for a partition the file does not have.
    """
    check_sites(sites, HOSPITALS)
    place, warnings = check_source(source, FILES, WHERE)
    with np.load(place / "pneumoniamnist.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    generator = np.random.default_rng(seed)
    if (place / "partitions.csv").is_file():
        warnings += check_source(place, PARTITION_FILE, WHERE)[1]
        chosen = {"train": _places(place / "partitions.csv", partition, len(arrays["train_labels"]))}
    else:
        warnings.append("partitions.csv is not there: training images were drawn with the same shares")
        chosen = {"train": _drawn(arrays["train_labels"].ravel(), partition, generator)}
    for part in ("val", "test"):
        chosen[part] = _shared_out(arrays[f"{part}_labels"].ravel(), generator)
    written = {}
    for index, site in enumerate(sites):
        path = folder / f"{site}.npz"
        pieces = {}
        for part, owners in chosen.items():
            for kind in ("images", "labels"):
                pieces[f"{part}_{kind}"] = arrays[f"{part}_{kind}"][owners == index]
        np.savez_compressed(path, **pieces)
        written[site] = SiteData(path)
    return Split(written, warnings)


def _places(path: Path, partition: str, cases: int) -> np.ndarray:
    with path.open(newline="", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    if not rows or partition not in rows[0] or len(rows) != cases:
        raise InputError("demo_data_missing", f"{path} has no partition {partition!r} of {cases} images")
    owners = np.full(cases, -1)
    for row in rows:
        owners[int(row["train_index"])] = int(row[partition])
    return owners


def _drawn(labels: np.ndarray, partition: str, generator: np.random.Generator) -> np.ndarray:
    if partition not in SHARES:
        raise InputError("demo_data_missing", f"there is no partition {partition!r}; there are {', '.join(SHARES)}")
    owners = np.empty(len(labels), np.int64)
    for label, counts in enumerate(SHARES[partition]):
        members = generator.permutation(np.flatnonzero(labels == label))
        bounds = np.rint(np.cumsum(counts) / sum(counts) * len(members)).astype(int)
        for site, piece in enumerate(np.split(members, bounds[:-1])):
            owners[piece] = site
    return owners


def _shared_out(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the hospital of each image: the classes are dealt in turn, so that every hospital gets both."""
    owners = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        owners[members] = np.arange(len(members)) % HOSPITALS
    return owners


def default_settings() -> JsonObject:
    """Return the proposed study: a small convolutional network."""
    return settings(
        task={
            "name": "image_classification",
            "image_size": 28,
            "channels": 1,
            "classes": 2,
            "model": {"name": "small_cnn"},
        },
        training={
            "rounds": 10,
            "local_epochs": 1,
            "batch_size": 32,
            "optimizer": "adam",
            "learning_rate": "0.001",
            "weight_decay": "0.0005",
            "augmentation": ["shift"],
        },
        secure_aggregation={"w_cap": 4000, "clip": {"default": "0.25", "tensors": {}}},
        deadlines={"grace_seconds": 300},  # hospitals of very unlike sizes share this machine's cores
        selection={"patience": 6},
    )
