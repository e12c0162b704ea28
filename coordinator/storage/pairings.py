"""Pairing bundles: who covers whom (PROTOCOLS A6)."""

import json
from dataclasses import dataclass, replace
from typing import Any

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Pairing:
    """One bundle; `members` are the sites it holds envelopes for."""

    study: str
    site: str
    serial: int
    pairing_hash: str
    roster_hash: str
    members: frozenset[str]
    blob: str
    received_at: str
    renew: bool
    uses: int


_SELECT = "SELECT study, site, serial, pairing_hash, roster_hash, members, blob, received_at, renew, uses FROM pairing "


def read_current(tx: Transaction, study: str) -> dict[str, Pairing]:
    """Return each site's newest bundle for a study."""
    found = tx.rows(_SELECT + "WHERE study = :study AND current = 1 ORDER BY site", study=study)
    return {row.site: _read(row) for row in found}


def read_readable(tx: Transaction, study: str) -> dict[str, Pairing]:
    """Return each site's newest bundle without the members that complained that their envelope does not open."""
    found = read_current(tx, study)
    rows = tx.rows(
        "SELECT DISTINCT p.site, c.site AS reader FROM pairing p JOIN complaint c ON c.pairing_hash = p.pairing_hash"
        " WHERE p.study = :study AND p.current = 1",
        study=study,
    )
    for row in rows:
        bundle = found[row.site]
        found[row.site] = replace(bundle, members=bundle.members - {row.reader})
    return found


def read_by_hash(tx: Transaction, pairing_hash: str) -> Pairing | None:
    """Return a bundle that was current once, and may be so still."""
    row = tx.row(_SELECT + "WHERE pairing_hash = :pairing_hash", pairing_hash=pairing_hash)
    return None if row is None else _read(row)


def read_study_of(tx: Transaction, pairing_hash: str) -> str | None:
    """Return the study a bundle was made for."""
    found = read_by_hash(tx, pairing_hash)
    return None if found is None else found.study


def read_last_serial(tx: Transaction, study: str, site: str) -> int:
    """Return the highest serial seen of a site in a study, 0 when there is none."""
    found = tx.value("SELECT MAX(serial) FROM pairing WHERE study = :study AND site = :site", study=study, site=site)
    return int(found or 0)


def add_pairing(
    tx: Transaction, study: str, site: str, serial: int, *, pairing_hash: str, roster_hash: str, members: list[str],
    blob: str, at: str,
) -> None:  # fmt: skip
    """Add a bundle and make it the current one."""
    tx.run("UPDATE pairing SET current = 0 WHERE study = :study AND site = :site", study=study, site=site)
    tx.add(
        "pairing", study=study, site=site, serial=serial, pairing_hash=pairing_hash, roster_hash=roster_hash,
        members=json.dumps(members), blob=blob, received_at=at, current=True, renew=False, uses=0,
    )  # fmt: skip


def count_use(tx: Transaction, pairing_hashes: list[str]) -> None:
    """Count that a context names these bundles."""
    for pairing_hash in pairing_hashes:
        tx.run("UPDATE pairing SET uses = uses + 1 WHERE pairing_hash = :pairing_hash", pairing_hash=pairing_hash)


def set_renew(tx: Transaction, study: str, sites: list[str]) -> None:
    """Ask these sites for new bundles; the present ones are not used any more."""
    for site in sites:
        tx.run(
            "UPDATE pairing SET renew = 1 WHERE study = :study AND site = :site AND current = 1", study=study, site=site
        )


def _read(row: Any) -> Pairing:  # noqa: ANN401 (a row)
    study, site, serial, pairing_hash, roster_hash, members, blob, at, renew, uses = row
    held = frozenset(json.loads(members))
    return Pairing(study, site, serial, pairing_hash, roster_hash, held, blob, at, bool(renew), uses)
