"""Registered data sets: manifests only."""

import json
from typing import NamedTuple

from shared.canonical import JsonObject
from site_agent.storage.database import Transaction


class StoredDataset(NamedTuple):
    """A registered data set."""

    name: str
    digest: str
    manifest: JsonObject
    registered_at: str


def add_dataset(tx: Transaction, name: str, digest: str, manifest: JsonObject, registered_at: str) -> None:
    """Add a data set; a name is used once."""
    tx.add("dataset", name=name, digest=digest, manifest=json.dumps(manifest), registered_at=registered_at)


def read_dataset(tx: Transaction, name: str) -> StoredDataset | None:
    """Return one data set."""
    row = tx.row("SELECT name, digest, manifest, registered_at FROM dataset WHERE name = :name", name=name)
    return None if row is None else StoredDataset(row.name, row.digest, json.loads(row.manifest), row.registered_at)


def read_datasets(tx: Transaction) -> list[StoredDataset]:
    """Return all data sets."""
    rows = tx.rows("SELECT name, digest, manifest, registered_at FROM dataset ORDER BY name")
    return [StoredDataset(row.name, row.digest, json.loads(row.manifest), row.registered_at) for row in rows]
