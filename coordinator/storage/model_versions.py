"""Published model versions, and which deterministic tail items were already asked of them."""

import json
from dataclasses import dataclass

from coordinator.storage.database import Transaction
from shared.canonical import JsonObject


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model version by digest; `round` is the update round that made it, 0 for the initial model."""

    study: str
    sha256: str
    round: int
    published_at: str
    metrics: JsonObject | None
    test_metrics: JsonObject | None


def read_versions(tx: Transaction, study: str) -> list[ModelVersion]:
    """Return a study's versions in order."""
    found = tx.rows("SELECT * FROM model_version WHERE study = :study ORDER BY round", study=study)
    return [
        ModelVersion(one, sha256, number, at, _object(metrics), _object(test))
        for one, sha256, number, at, metrics, test in found
    ]


def add_version(tx: Transaction, study: str, sha256: str, round_number: int, at: str) -> None:
    """Add a version; a round that changed nothing publishes the same digest again, which keeps its first number."""
    tx.run(
        "INSERT INTO model_version (study, sha256, round, published_at) VALUES (:study, :sha256, :round, :at)"
        " ON CONFLICT DO NOTHING",
        study=study, sha256=sha256, round=round_number, at=at,
    )  # fmt: skip


def set_metrics(tx: Transaction, study: str, sha256: str, metrics: str) -> None:
    """Record the validation metrics of a version."""
    tx.run(
        "UPDATE model_version SET metrics = :metrics WHERE study = :study AND sha256 = :sha256",
        study=study, sha256=sha256, metrics=metrics,
    )  # fmt: skip


def set_test_metrics(tx: Transaction, study: str, sha256: str, metrics: str) -> None:
    """Record the test metrics of a version."""
    tx.run(
        "UPDATE model_version SET test_metrics = :metrics WHERE study = :study AND sha256 = :sha256",
        study=study, sha256=sha256, metrics=metrics,
    )  # fmt: skip


def is_asked(tx: Transaction, study: str, model: str, item: str) -> bool:
    """Return whether a context that was ever opened asked this item of this version."""
    query = "SELECT 1 FROM asked WHERE study = :study AND model = :model AND item = :item"
    return tx.row(query, study=study, model=model, item=item) is not None


def add_asked(tx: Transaction, study: str, model: str, item: str, ctx_hash: str) -> None:
    """Record that an item is being asked; a second time is a conflict."""
    tx.add("asked", study=study, model=model, item=item, ctx_hash=ctx_hash)


def _object(text: str | None) -> JsonObject | None:
    return None if text is None else json.loads(text)
