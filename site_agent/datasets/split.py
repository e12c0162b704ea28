"""Which case belongs to which part: to exactly one, and the rule gives the same answer for ever (ADR 0004)."""

import hashlib
from collections.abc import Sequence

import numpy as np

from shared.cases import DATA_PARTS
from shared.errors import InputError
from site_agent.datasets.manifest import Labels, PartOfEachCase, SplitRule

# Words people and data sets use for the parts.
PART_NAMES = {
    "train": 0,
    "training": 0,
    "val": 1,
    "valid": 1,
    "validation": 1,
    "test": 2,
    "testing": 2,
}


def shares_rule(text: str, seed: int) -> SplitRule:
    """Return the rule for shares such as ``70/15/15`` (per cent of training, validation and test).

    Raises:
        InputError: ``data_split_invalid``.
    """
    parts = text.split("/")
    if len(parts) != len(DATA_PARTS) or not all(part.strip().isdecimal() for part in parts):
        raise InputError("data_split_invalid", f"{text[:40]!r}: three whole numbers such as 70/15/15 were expected")
    shares = [int(part) for part in parts]
    if sum(shares) != 100 or shares[0] == 0:
        raise InputError("data_split_invalid", f"{text[:40]!r}: shares add up to 100 and the first is above 0")
    if not 0 <= seed < 2**53:
        raise InputError("data_split_invalid", f"seed {seed}: a whole number from 0 was expected")
    return SplitRule(by="shares", shares=shares, seed=seed)


def by_shares(labels: Labels, rule: SplitRule) -> PartOfEachCase:
    """Return each case's part: within each class, cases are ordered by a hash of seed and position and cut by shares.

    A hash rather than a library's generator, because a split has to stay the same through every upgrade.
    """
    parts = np.zeros(len(labels), np.int8)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label).tolist()
        members.sort(key=lambda position: hashlib.sha256(f"{rule.seed}/{position}".encode()).digest())
        tests = round(len(members) * rule.shares[2] / 100)
        validations = round(len(members) * rule.shares[1] / 100)
        parts[members[:tests]] = 2
        parts[members[tests : tests + validations]] = 1
    return parts


def by_names(names: Sequence[str], rows: Sequence[int]) -> PartOfEachCase:
    """Return each case's part from the words of a split column; `rows` are the cases' lines in the file.

    Raises:
        InputError: ``data_split_invalid`` names the row.
    """
    parts = np.zeros(len(names), np.int8)
    for index, name in enumerate(names):
        part = PART_NAMES.get(name.strip().lower())
        if part is None:
            detail = f"row {rows[index]}: {name[:40]!r} is none of train, validation, test"
            raise InputError("data_split_invalid", detail)
        parts[index] = part
    return parts


def count_parts(labels: Labels, parts: PartOfEachCase, classes: int) -> dict[str, list[int]]:
    """Return the cases of each part and class.

    Raises:
        InputError: ``data_one_class`` when all cases are of one class, ``data_empty`` without training cases.
    """
    if not len(labels) or not (parts == 0).any():
        raise InputError("data_empty", "there is no case to train on")
    present = np.unique(labels)
    if len(present) < 2:
        raise InputError("data_one_class", f"all {len(labels)} cases are of class {int(present[0])}")
    return {
        part: np.bincount(labels[parts == index], minlength=classes).tolist() for index, part in enumerate(DATA_PARTS)
    }
