"""Folders of images: one folder per class, or folders train, validation and test with one folder per class in each."""

import hashlib
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from shared.cases import DATA_PARTS, Cases, DataPart
from shared.errors import InputError
from shared.task_catalogue import ImageTask
from site_agent.datasets.image_pixels import as_pixels
from site_agent.datasets.manifest import (
    DatasetManifest,
    DatasetOptions,
    Labels,
    PartOfEachCase,
    SplitRule,
    describe,
)
from site_agent.datasets.split import PART_NAMES, by_shares, count_parts, shares_rule

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"}
IGNORED = {"thumbs.db", "desktop.ini"}


class Listing(NamedTuple):
    """The images of a folder in a fixed order, their labels, and their parts where the folder says so."""

    files: list[Path]
    labels: Labels
    parts: PartOfEachCase | None
    classes: list[str]


def inspect_folder(path: Path, name: str, options: DatasetOptions) -> DatasetManifest:
    """Check a folder of images and return its manifest.

    Raises:
        InputError: ``data_unreadable`` names the file, ``data_one_class``, ``data_empty``, ``data_split_invalid``.
    """
    listing = _list(path)
    for file in listing.files:
        _open(file)
    rule = SplitRule(by="given") if listing.parts is not None else shares_rule(options.split, options.seed)
    return describe(
        name,
        "image_folder",
        str(path),
        label=None,
        features=[],
        classes=listing.classes,
        split=rule,
        counts=count_parts(listing.labels, _parts(listing, rule), len(listing.classes)),
        content=_content(path, listing.files),
    )


def load_folder(path: Path, manifest: DatasetManifest, part: DataPart, task: ImageTask) -> tuple[Cases, str]:
    """Return the cases of a part in the size and channels of the task, and the digest over all files.

    Raises:
        InputError: ``data_unreadable`` names the file.
    """
    listing = _list(path)
    chosen = np.flatnonzero(_parts(listing, manifest.split) == DATA_PARTS.index(part))
    images = np.empty((len(chosen), task.image_size, task.image_size, task.channels), np.uint8)
    for row, index in enumerate(chosen):
        images[row] = as_pixels(_open(listing.files[index]), task.image_size, task.channels)
    return Cases(images, listing.labels[chosen]), _content(path, listing.files)


def _list(path: Path) -> Listing:
    folders = _folders(path)
    if folders and all(folder.name.lower() in PART_NAMES for folder in folders):
        names = sorted({inner.name for folder in folders for inner in _folders(folder)})
        places = [(PART_NAMES[folder.name.lower()], folder) for folder in folders]
        given = True
    else:
        names = [folder.name for folder in folders]
        places = [(0, path)]
        given = False
    if names and all(name.isdecimal() for name in names):
        names.sort(key=int)
    files: list[Path] = []
    labels: list[int] = []
    parts: list[int] = []
    for part, folder in places:
        for label, name in enumerate(names):
            found = _images(folder / name)
            files += found
            labels += [label] * len(found)
            parts += [part] * len(found)
    return Listing(files, np.array(labels, np.int64), np.array(parts, np.int8) if given else None, names)


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = sorted(entry for entry in folder.iterdir() if entry.name[0] != "." and entry.name.lower() not in IGNORED)
    odd = next((entry for entry in found if entry.suffix.lower() not in SUFFIXES or not entry.is_file()), None)
    if odd is not None:
        raise InputError("data_unreadable", f"{odd} is not an image; class folders hold {', '.join(sorted(SUFFIXES))}")
    return found


def _open(file: Path) -> Image.Image:
    try:
        # A decompression bomb only warns by default; here it is a file that cannot be read.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image.load()
                return image.copy()
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        raise InputError("data_unreadable", f"{file}: {error}") from error


def _parts(listing: Listing, rule: SplitRule) -> PartOfEachCase:
    return listing.parts if listing.parts is not None else by_shares(listing.labels, rule)


def _content(path: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
