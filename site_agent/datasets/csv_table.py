"""Tables in CSV files: a header line, then one case per line. Commas, semicolons or tabs."""

import csv
import io
import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.canonical import sha256_hex
from shared.cases import DATA_PARTS, Cases, DataPart
from shared.errors import InputError
from shared.task_catalogue import TabularTask
from site_agent.datasets.manifest import (
    DatasetManifest,
    DatasetOptions,
    Labels,
    PartOfEachCase,
    SplitRule,
    describe,
)
from site_agent.datasets.split import by_names, by_shares, count_parts, shares_rule

MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}  # compared in lower case
MOST_CLASSES = 1000


@dataclass(frozen=True)
class Table:
    """A file's header and rows as text, each row's line as people count them, and the digest of the bytes."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    content: str

    def texts(self, column: str) -> list[str]:
        """Return a column as text.

        Raises:
            InputError: ``data_column_missing`` names it and the nearest one.
        """
        if column not in self.header:
            near = get_close_matches(column, self.header, 1, 0.4)
            hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(self.header[:20])}"
            raise InputError("data_column_missing", f"there is no column {column!r}; {hint}")
        place = self.header.index(column)
        return [row[place] for row in self.rows]


def inspect_csv(path: Path, name: str, options: DatasetOptions) -> DatasetManifest:
    """Check a table and return its manifest.

    Raises:
        InputError: ``data_unreadable``, ``data_empty``, ``data_column_missing``, ``data_not_numeric``,
            ``data_label_invalid``, ``data_one_class``, ``data_split_invalid``.
    """
    table = read_table(path)
    label = options.label or "label"
    others = {label, options.split_column}
    features = list(options.features) or [column for column in table.header if column not in others]
    if not features or label in features or len(set(features)) != len(features):
        raise InputError("data_column_missing", "give --features: at least one column, each once, and not the label")
    labels = _labels(table, label)
    for feature in features:
        _numbers(table, feature)
    rule = (
        SplitRule(by="column", column=options.split_column)
        if options.split_column is not None
        else shares_rule(options.split, options.seed)
    )
    classes = int(labels.max()) + 1
    return describe(
        name,
        "csv_table",
        str(path),
        label=label,
        features=features,
        classes=[str(index) for index in range(classes)],
        split=rule,
        counts=count_parts(labels, _parts(table, labels, rule), classes),
        content=table.content,
    )


def load_csv(path: Path, manifest: DatasetManifest, part: DataPart, task: TabularTask) -> tuple[Cases, str]:
    """Return the cases of a part with the task's features in its order, and the digest of the bytes they came from.

    Raises:
        InputError: as `inspect_csv`.
    """
    table = read_table(path)
    labels = _labels(table, manifest.label or "label")
    chosen = _parts(table, labels, manifest.split) == DATA_PARTS.index(part)
    inputs = np.stack([_numbers(table, feature) for feature in task.features], axis=1)
    return Cases(inputs[chosen], labels[chosen]), table.content


def read_table(path: Path) -> Table:
    """Read a CSV file as text.

    Raises:
        InputError: ``data_unreadable`` names the row, ``data_empty``.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("data_unreadable", f"{path}: byte {error.start} is not UTF-8") from error
    header_line = text.partition("\n")[0]
    try:
        delimiter = max(",;\t", key=lambda sign: _columns(header_line, sign))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        found = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError("data_unreadable", f"{path}: {error}") from error
    if not found:
        raise InputError("data_empty", f"{path} is empty")
    header = [column.strip() for column in found[0][1]]
    twice = next((column for index, column in enumerate(header) if column in header[:index]), None)
    if twice is not None or "" in header:
        raise InputError(
            "data_unreadable", f"{path}: the header needs a name of its own for every column, not {twice!r}"
        )
    for number, row in found[1:]:
        if len(row) != len(header):
            raise InputError("data_unreadable", f"{path}: row {number} has {len(row)} cells, the header {len(header)}")
    if len(found) == 1:
        raise InputError("data_empty", f"{path} has a header and no rows")
    return Table(header, [row for _, row in found[1:]], [number for number, _ in found[1:]], sha256_hex(raw))


def _columns(header_line: str, delimiter: str) -> int:
    """Return how many columns a header would have; none when it cannot be cut with this delimiter."""
    try:
        return len(next(csv.reader([header_line], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


def _numbers(table: Table, column: str) -> NDArray[np.float64]:
    """Return a column as float64, NaN where a cell is empty or says that it is missing."""
    values = np.empty(len(table.rows), np.float64)
    for index, text in enumerate(table.texts(column)):
        cell = text.strip()
        try:
            values[index] = math.nan if cell.lower() in MISSING else float(cell)
            fits = not math.isinf(values[index]) and "_" not in cell  # Python reads 1_000 as a number, people do not
        except ValueError:
            fits = False
        if not fits:
            hint = "; decimals are written with a point" if cell.replace(",", "", 1).isdigit() else ""
            detail = f"row {table.lines[index]}, column {column!r}: {cell[:40]!r} is not a number{hint}"
            raise InputError("data_not_numeric", detail)
    return values


def _labels(table: Table, column: str) -> Labels:
    values = _numbers(table, column)
    whole = np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < MOST_CLASSES)
    if not whole.all():
        index = int(np.flatnonzero(~whole)[0])
        cell = table.texts(column)[index]
        detail = f"row {table.lines[index]}, column {column!r}: {cell[:40]!r} is not a whole number from 0 to 999"
        raise InputError("data_label_invalid", detail)
    return values.astype(np.int64)


def _parts(table: Table, labels: Labels, rule: SplitRule) -> PartOfEachCase:
    if rule.by == "column" and rule.column is not None:
        return by_names(table.texts(rule.column), table.lines)
    return by_shares(labels, rule)
