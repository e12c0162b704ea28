"""Roster versions this site has seen."""

import json
from dataclasses import dataclass
from typing import Any

from shared.canonical import JsonObject, canonical_bytes, parse_strict
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class StoredRoster:
    """A version with the approvals gathered so far; `approved` by this site's administrator."""

    version: int
    roster_hash: str
    roster: JsonObject
    approvals: dict[str, str]
    state: str
    approved: bool


_SELECT = "SELECT version, roster_hash, body, approvals, state, approved FROM roster "


def read_active(tx: Transaction) -> StoredRoster | None:
    """Return the active version."""
    return _read(tx.row(_SELECT + "WHERE state = 'active'"))


def read_roster(tx: Transaction, version: int) -> StoredRoster | None:
    """Return one version."""
    return _read(tx.row(_SELECT + "WHERE version = :version", version=version))


def read_newest(tx: Transaction) -> StoredRoster | None:
    """Return the highest version seen."""
    return _read(tx.row(_SELECT + "ORDER BY version DESC LIMIT 1"))


def set_roster(tx: Transaction, roster: JsonObject, roster_hash: str, approvals: dict[str, str]) -> None:
    """Add a version, or update the approvals of a known one."""
    tx.run(
        "INSERT INTO roster (version, roster_hash, body, approvals, state, approved)"
        " VALUES (:version, :roster_hash, :body, :approvals, 'known', 0)"
        " ON CONFLICT (version) DO UPDATE SET approvals = excluded.approvals",
        version=roster["version"],
        roster_hash=roster_hash,
        body=canonical_bytes(roster),
        approvals=json.dumps(approvals),
    )


def set_approved(tx: Transaction, version: int) -> None:
    """Note that this site's administrator signed a version."""
    tx.run("UPDATE roster SET approved = 1 WHERE version = :version", version=version)


def set_active(tx: Transaction, version: int) -> None:
    """Make a version the active one."""
    tx.run("UPDATE roster SET state = 'superseded' WHERE state = 'active'")
    tx.run("UPDATE roster SET state = 'active' WHERE version = :version", version=version)


def _read(row: Any) -> StoredRoster | None:  # noqa: ANN401 (a row of the query above)
    if row is None:
        return None
    version, roster_hash, body, approvals, state, approved = row
    return StoredRoster(version, roster_hash, parse_strict(body), json.loads(approvals), state, bool(approved))
