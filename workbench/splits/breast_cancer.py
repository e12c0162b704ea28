"""The Wisconsin diagnostic data that scikit-learn carries: 569 real patients, cut into unequal hospitals that differ.

The patients are one hospital's in truth. Here each simulated hospital has its own size and its own share of malignant
findings, because equal hospitals would make federated learning look easier than it is.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.canonical import JsonObject
from shared.errors import InputError
from workbench.splits.settings import settings
from workbench.splits.site_data import SiteData, Split

LABEL = "malignant"
SPLIT = "30/20/50"  # half of the patients test, because with fewer the figures of hospitals differ by chance
MOST_SITES = 12


def write(folder: Path, source: Path | None, sites: Sequence[str], seed: int) -> Split:
    """Write one table per hospital. `source` is not used: the data comes with scikit-learn.

    Raises:
        InputError: ``demo_data_missing`` for fewer than three hospitals or more than the data can be cut into.
    """
    del source
    if not 3 <= len(sites) <= MOST_SITES:
        raise InputError("demo_data_missing", f"the data can be cut into 3 to {MOST_SITES} hospitals, not {len(sites)}")
    features, values, labels = _read()
    columns = feature_names(features)
    written = {}
    for site, rows in zip(sites, cut(labels, len(sites), seed), strict=True):
        path = folder / f"{site}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*columns, LABEL])
            writer.writerows([*map(repr, values[row].tolist()), int(labels[row])] for row in rows)
        written[site] = SiteData(path, LABEL, tuple(columns), SPLIT, seed)
    return Split(written, [])


def cut(labels: np.ndarray, parts: int, seed: int) -> list[list[int]]:
    """Return the rows of each hospital: each is smaller than the one before, and shares of malignancy alternate."""
    generator = np.random.default_rng([seed, len(labels)])
    sizes = 0.8 ** np.arange(parts)
    tilt = np.where(np.arange(parts) % 2 == 0, 1.0, 2.2)  # every second hospital sees twice as many malignant findings
    rows: list[list[int]] = [[] for _ in range(parts)]
    for label in (0, 1):
        members = generator.permutation(np.flatnonzero(labels == label))
        share = sizes * (tilt if label == 1 else 1 / tilt)
        bounds = np.rint(np.cumsum(share / share.sum()) * len(members)).astype(int)
        for index, piece in enumerate(np.split(members, bounds[:-1])):
            rows[index] += piece.tolist()
    return [sorted(piece) for piece in rows]


def feature_names(names: Sequence[str]) -> list[str]:
    """Return column names in the form study files use."""
    return [name.replace(" ", "_") for name in names]


def default_settings() -> JsonObject:
    """Return the proposed study: logistic regression on all thirty features."""
    features, _, _ = _read()
    return settings(
        task={
            "name": "tabular",
            "features": feature_names(features),
            "label": LABEL,
            "classes": 2,
            "model": {"name": "logistic_regression"},
        },
        training={"rounds": 12, "local_epochs": 5, "learning_rate": "0.5", "weight_decay": "0.01"},
        secure_aggregation={"w_cap": 250, "clip": {"default": "2", "tensors": {}}},
        selection={"patience": 5},
    )


def _read() -> tuple[list[str], np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer  # scikit-learn takes a second to import

    data = load_breast_cancer()
    # scikit-learn codes benign as 1; the finding a study is about is the malignant one.
    return list(data.feature_names), np.asarray(data.data, np.float64), 1 - np.asarray(data.target, np.int64)
