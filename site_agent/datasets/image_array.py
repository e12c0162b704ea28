"""Images in one ``.npz`` file with MedMNIST's keys: ``train_images, train_labels, val_..., test_...``. Never pickle."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.cases import DATA_PARTS, Cases, DataPart
from shared.errors import InputError
from shared.task_catalogue import ImageTask
from site_agent.datasets.image_pixels import stack_as_pixels
from site_agent.datasets.manifest import DatasetManifest, Labels, SplitRule, describe
from site_agent.datasets.split import count_parts

KEYS: dict[DataPart, str] = {"training": "train", "validation": "val", "test": "test"}
MOST_CLASSES = 1000
BLOCK = 2**20


def inspect_array(path: Path, name: str) -> DatasetManifest:
    """Check an ``.npz`` file and return its manifest; the parts are as the file has them.

    Raises:
        InputError: ``data_unreadable`` names the key, ``data_label_invalid``, ``data_one_class``, ``data_empty``.
    """
    labels, parts = [], []
    for index, part in enumerate(DATA_PARTS):
        _images, found = _read(path, part)
        labels.append(found)
        parts.append(np.full(len(found), index, np.int8))
    everything = np.concatenate(labels)
    classes = int(everything.max(initial=-1)) + 1
    return describe(
        name,
        "image_array",
        str(path),
        label=None,
        features=[],
        classes=[str(index) for index in range(classes)],
        split=SplitRule(by="given"),
        counts=count_parts(everything, np.concatenate(parts), classes),
        content=file_digest(path),
    )


def load_array(path: Path, part: DataPart, task: ImageTask) -> tuple[Cases, str]:
    """Return the cases of a part in the size and channels of the task, and the digest of the file.

    Raises:
        InputError: ``data_unreadable``, ``data_label_invalid``.
    """
    images, labels = _read(path, part)
    return Cases(stack_as_pixels(images, task.image_size, task.channels), labels), file_digest(path)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path, part: DataPart) -> tuple[NDArray[Any], Labels]:
    prefix = KEYS[part]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            images, labels = archive[f"{prefix}_images"], archive[f"{prefix}_labels"]
    except KeyError as error:
        raise InputError("data_unreadable", f"{path}: {error.args[0]}") from error
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:  # TypeError: a lone .npy array
        raise InputError("data_unreadable", f"{path}: {error}") from error
    if images.dtype != np.uint8 or images.ndim not in {3, 4} or images.shape[3:] not in {(), (1,), (3,)}:
        found = f"{images.dtype}{list(images.shape)}"
        raise InputError(
            "data_unreadable", f"{path}: {prefix}_images is {found}, not uint8 (n, h, w) or (n, h, w, 1 or 3)"
        )
    flat = labels.reshape(-1)
    if labels.shape not in {(len(images),), (len(images), 1)} or not np.issubdtype(labels.dtype, np.integer):
        raise InputError("data_unreadable", f"{path}: {prefix}_labels is {labels.dtype}{list(labels.shape)}")
    if len(flat) and (int(flat.min()) < 0 or int(flat.max()) >= MOST_CLASSES):
        raise InputError("data_label_invalid", f"{path}: {prefix}_labels has values outside 0 to 999")
    return images, flat.astype(np.int64)
