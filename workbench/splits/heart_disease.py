"""The UCI Heart Disease data: four real hospitals, as the donors published them in 1988.

What the files say is turned into what they mean: ``?`` and a cholesterol of 0 are missing values, the finding is any
narrowing (num > 0), and codes without an order become one column per code.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from shared.canonical import JsonObject
from workbench.splits.settings import settings
from workbench.splits.site_data import SiteData, Split, check_sites, check_source

SITES = ("cleveland", "hungarian", "switzerland", "va")
FILES = {
    "processed.cleveland.data": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
    "processed.hungarian.data": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "processed.switzerland.data": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "processed.va.data": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
}
WHERE = "The files are at the UCI Repository: archive.ics.uci.edu/dataset/45/heart+disease (CC BY 4.0)."
COLUMNS = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal",
    "num",
)  # fmt: skip
CODES = {"cp": (1, 2, 3, 4), "restecg": (0, 1, 2), "slope": (1, 2, 3), "thal": (3, 6, 7)}
LABEL = "disease"
SPLIT = "60/20/20"


def write(folder: Path, source: Path | None, sites: Sequence[str], seed: int) -> Split:
    """Write one table per hospital, in the order of `sites`; `seed` decides which patients train and which test.

    Raises:
        InputError: ``demo_data_missing``.
    """
    check_sites(sites, len(SITES))
    place, warnings = check_source(source, FILES, WHERE)
    features = feature_names()
    written = {}
    for site, hospital in zip(sites, SITES, strict=True):
        lines = (place / f"processed.{hospital}.data").read_text(encoding="ascii").splitlines()
        path = folder / f"{site}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*features, LABEL])
            writer.writerows(meaning(line) for line in lines if line.strip())
        written[site] = SiteData(path, LABEL, tuple(features), SPLIT, seed)
    return Split(written, warnings)


def meaning(line: str) -> list[str]:
    """Return the cells of one patient: the features, then 1 for disease or 0."""
    raw = dict(zip(COLUMNS, (cell.strip() for cell in line.split(",")), strict=True))
    cells = []
    for name in COLUMNS[:-1]:
        value = None if raw[name] == "?" else float(raw[name])
        if name == "chol" and value == 0:
            value = None
        if name in CODES:
            cells += ["" if value is None else str(int(value == code)) for code in CODES[name]]
        else:
            cells.append("" if value is None else repr(value))
    return [*cells, str(int(float(raw["num"]) > 0))]


def feature_names() -> list[str]:
    """Return the columns of the written tables."""
    names: list[str] = []
    for name in COLUMNS[:-1]:
        names += [f"{name}_{code}" for code in CODES[name]] if name in CODES else [name]
    return names


def default_settings() -> JsonObject:
    """Return the proposed study: logistic regression on everything the four hospitals recorded."""
    return settings(
        task={
            "name": "tabular",
            "features": feature_names(),
            "label": LABEL,
            "classes": 2,
            "model": {"name": "logistic_regression"},
        },
        training={"rounds": 30, "local_epochs": 2, "learning_rate": "0.3", "weight_decay": "0.01"},
        secure_aggregation={"w_cap": 250},
        selection={"patience": 10},
    )
