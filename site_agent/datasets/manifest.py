"""What a hospital registered: a data set's form, classes, split and digest. The manifest stays at the site."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.canonical import canonical_bytes, sha256_hex
from shared.protocol.wire import Count, Hash, Id, WireObject

DatasetKind = Literal["csv_table", "image_folder", "image_array"]
Labels = NDArray[np.int64]
PartOfEachCase = NDArray[np.int8]  # position in shared.cases.DATA_PARTS


@dataclass(frozen=True)
class DatasetOptions:
    """What a data steward may say about a data set; the command line's words."""

    label: str | None = None
    features: tuple[str, ...] = ()  # empty: every column but the label and the split column
    split: str = "70/15/15"  # training/validation/test in per cent, drawn within each class
    split_column: str | None = None  # a column that says train, validation or test
    seed: int = 0


class SplitRule(WireObject):
    """How cases are assigned to parts: by shares and a seed, by a column, or as the data already is."""

    by: Literal["shares", "column", "given"]
    shares: list[Annotated[int, Field(ge=0, le=100)]] = []  # noqa: RUF012 (pydantic copies defaults)
    seed: Count = 0
    column: str | None = None


class DatasetManifest(WireObject):
    """A registered data set; `digest` is over all of it but the name and the path, so a file may be moved."""

    name: Id
    kind: DatasetKind
    path: str
    label: str | None  # the column; None for images
    features: list[str]  # the columns with numbers; empty for images
    classes: list[str]  # names in the order of the labels 0, 1, ...
    split: SplitRule
    counts: dict[str, list[Count]]  # cases by part and class
    content: Hash  # of the bytes of the file or files
    digest: Hash

    @property
    def cases(self) -> int:
        """Return the number of cases in all parts."""
        return sum(sum(row) for row in self.counts.values())


def describe(
    name: str,
    kind: DatasetKind,
    path: str,
    *,
    label: str | None,
    features: list[str],
    classes: list[str],
    split: SplitRule,
    counts: dict[str, list[int]],
    content: str,
) -> DatasetManifest:
    """Return the manifest with its digest."""
    described = {
        "kind": kind,
        "label": label,
        "features": features,
        "classes": classes,
        "split": split.as_json(),
        "counts": counts,
        "content": content,
    }
    return DatasetManifest.check(
        {**described, "name": name, "path": path, "digest": sha256_hex(canonical_bytes(described))}
    )
