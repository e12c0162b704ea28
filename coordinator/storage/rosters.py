"""Roster versions and the sites' approvals of them."""

import json
from dataclasses import dataclass
from typing import Any

from coordinator.storage.database import Transaction
from shared.canonical import JsonObject


@dataclass(frozen=True, slots=True)
class StoredRoster:
    """A roster version; `state` is proposed, active or superseded."""

    version: int
    roster_hash: str
    roster: JsonObject
    state: str
    proposed_at: str
    activated_at: str | None

    @property
    def site_ids(self) -> list[str]:
        """Return the listed sites in order."""
        return [site["id"] for site in self.roster["sites"]]


_SELECT = "SELECT version, roster_hash, roster, state, proposed_at, activated_at FROM roster "


def read_roster(tx: Transaction, version: int) -> StoredRoster | None:
    """Return one version."""
    return _one(tx.row(_SELECT + "WHERE version = :version", version=version))


def read_active(tx: Transaction) -> StoredRoster | None:
    """Return the active version, if any."""
    return _one(tx.row(_SELECT + "WHERE state = 'active'"))


def read_newest(tx: Transaction) -> StoredRoster | None:
    """Return the highest version, active or not."""
    return _one(tx.row(_SELECT + "ORDER BY version DESC LIMIT 1"))


def read_by_hash(tx: Transaction, roster_hash: str) -> StoredRoster | None:
    """Return the version of a hash, as contexts name it."""
    return _one(tx.row(_SELECT + "WHERE roster_hash = :roster_hash", roster_hash=roster_hash))


def read_rosters(tx: Transaction) -> list[StoredRoster]:
    """Return all versions in order."""
    return [_read(row) for row in tx.rows(_SELECT + "ORDER BY version")]


def add_roster(tx: Transaction, version: int, roster_hash: str, roster: str, at: str) -> None:
    """Add a proposal."""
    tx.add("roster", version=version, roster_hash=roster_hash, roster=roster, state="proposed", proposed_at=at)


def set_active(tx: Transaction, version: int, at: str) -> None:
    """Make a version the active one."""
    tx.run("UPDATE roster SET state = 'superseded' WHERE version < :version", version=version)
    tx.run("UPDATE roster SET state = 'active', activated_at = :at WHERE version = :version", version=version, at=at)


def read_approvals(tx: Transaction, version: int) -> dict[str, bytes]:
    """Return the approval envelopes of a version by site."""
    found = tx.rows(
        "SELECT site, envelope FROM roster_approval WHERE version = :version ORDER BY site", version=version
    )
    return {row.site: row.envelope for row in found}


def add_approval(tx: Transaction, version: int, site: str, envelope: bytes) -> None:
    """Keep a site's approval."""
    tx.add("roster_approval", version=version, site=site, envelope=envelope)


def _one(row: Any) -> StoredRoster | None:  # noqa: ANN401 (a row)
    return None if row is None else _read(row)


def _read(row: Any) -> StoredRoster:  # noqa: ANN401 (a row)
    version, roster_hash, roster, state, proposed_at, activated_at = row
    return StoredRoster(version, roster_hash, json.loads(roster), state, proposed_at, activated_at)
