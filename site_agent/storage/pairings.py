"""Own and peers' pairing bundles (PROTOCOLS A6); the pair secrets are made from the two halves when they are needed."""

import json
from dataclasses import dataclass, field

from shared.crypto.secret import Secret
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class OwnPairing:
    """A bundle this site made; `halves` are its sealed secrets by member, empty once erased."""

    study: str
    serial: int
    pairing_hash: str
    roster_hash: str
    members: list[str]
    halves: dict[str, Secret] = field(repr=False)
    made_at: str


@dataclass(frozen=True, slots=True)
class PeerPairing:
    """A peer's verified bundle; `half` is what it sealed to this site, None when that did not open or was erased."""

    study: str
    site: str
    serial: int
    pairing_hash: str
    roster_hash: str
    half: Secret | None
    code: str | None


_OWN = "SELECT study, serial, pairing_hash, roster_hash, members, secrets, made_at FROM pairing "
_PEER = "SELECT study, site, serial, pairing_hash, roster_hash, secret, code FROM peer_pairing "


def add_own(
    tx: Transaction, study: str, serial: int, *, pairing_hash: str, roster_hash: str, halves: dict[str, Secret], at: str
) -> None:
    """Store a bundle this site has just signed."""
    plain = json.dumps({member: half.reveal().hex() for member, half in halves.items()}).encode()
    tx.add(
        "pairing", study=study, serial=serial, pairing_hash=pairing_hash, roster_hash=roster_hash,
        members=json.dumps(sorted(halves)), secrets=tx.seal(plain, f"pairing/{study}/{serial}"), made_at=at,
    )  # fmt: skip


def read_own(tx: Transaction, study: str) -> OwnPairing | None:
    """Return this site's newest bundle for a study."""
    row = tx.row(_OWN + "WHERE study = :study ORDER BY serial DESC LIMIT 1", study=study)
    return None if row is None else _own(tx, tuple(row))


def read_own_by_hash(tx: Transaction, pairing_hash: str) -> OwnPairing | None:
    """Return the bundle of this site that a context names."""
    row = tx.row(_OWN + "WHERE pairing_hash = :pairing_hash", pairing_hash=pairing_hash)
    return None if row is None else _own(tx, tuple(row))


def add_peer(
    tx: Transaction, study: str, site: str, serial: int, *, pairing_hash: str, roster_hash: str, half: Secret | None,
    code: str | None,
) -> None:  # fmt: skip
    """Store a peer's bundle that was verified."""
    sealed = None if half is None else tx.seal(half.reveal(), f"peer_pairing/{study}/{site}/{serial}")
    tx.add(
        "peer_pairing", study=study, site=site, serial=serial, pairing_hash=pairing_hash, roster_hash=roster_hash,
        secret=sealed, code=code,
    )  # fmt: skip


def read_peer(tx: Transaction, study: str, pairing_hash: str) -> PeerPairing | None:
    """Return a peer's bundle by its hash."""
    row = tx.row(
        _PEER + "WHERE study = :study AND pairing_hash = :pairing_hash", study=study, pairing_hash=pairing_hash
    )
    return None if row is None else _peer(tx, tuple(row))


def read_peer_serial(tx: Transaction, study: str, site: str) -> int:
    """Return the highest serial seen of a peer, 0 for none."""
    found = tx.value(
        "SELECT MAX(serial) FROM peer_pairing WHERE study = :study AND site = :site", study=study, site=site
    )
    return int(found or 0)


def erase_superseded(tx: Transaction, study: str, needed: set[str]) -> None:
    """Erase the secrets of all bundles but the newest ones and those whose hash is in `needed`."""
    rows = tx.rows(
        "SELECT p.serial, p.pairing_hash FROM pairing p WHERE p.study = :study AND p.secrets IS NOT NULL AND p.serial <"
        " (SELECT MAX(q.serial) FROM pairing q WHERE q.study = p.study)",
        study=study,
    )
    for row in rows:
        if row.pairing_hash not in needed:
            tx.run(
                "UPDATE pairing SET secrets = NULL WHERE study = :study AND serial = :serial",
                study=study,
                serial=row.serial,
            )
    rows = tx.rows(
        "SELECT p.site, p.serial, p.pairing_hash FROM peer_pairing p WHERE p.study = :study AND p.secret IS NOT NULL"
        " AND p.serial < (SELECT MAX(q.serial) FROM peer_pairing q WHERE q.study = p.study AND q.site = p.site)",
        study=study,
    )
    for row in rows:
        if row.pairing_hash not in needed:
            tx.run(
                "UPDATE peer_pairing SET secret = NULL WHERE study = :study AND site = :site AND serial = :serial",
                study=study,
                site=row.site,
                serial=row.serial,
            )


def erase_own(tx: Transaction) -> None:
    """Erase what this site sealed for others in every study: the bundles it made are not used any more."""
    tx.run("UPDATE pairing SET secrets = NULL")


def erase_study(tx: Transaction, study: str) -> None:
    """Erase all secrets of a study; whoever takes part again makes a new bundle."""
    tx.run("UPDATE pairing SET secrets = NULL WHERE study = :study", study=study)
    tx.run("UPDATE peer_pairing SET secret = NULL WHERE study = :study", study=study)


def _own(tx: Transaction, row: tuple[object, ...]) -> OwnPairing:
    study, serial, pairing_hash, roster_hash, members, secrets, made_at = row
    halves: dict[str, Secret] = {}
    if isinstance(secrets, bytes):
        plain = json.loads(tx.open(secrets, f"pairing/{study}/{serial}"))
        halves = {member: Secret(bytes.fromhex(half)) for member, half in plain.items()}
    return OwnPairing(
        str(study),
        int(str(serial)),
        str(pairing_hash),
        str(roster_hash),
        json.loads(str(members)),
        halves,
        str(made_at),
    )


def _peer(tx: Transaction, row: tuple[object, ...]) -> PeerPairing:
    study, site, serial, pairing_hash, roster_hash, sealed, code = row
    half = Secret(tx.open(sealed, f"peer_pairing/{study}/{site}/{serial}")) if isinstance(sealed, bytes) else None
    return PeerPairing(
        str(study), str(site), int(str(serial)), str(pairing_hash), str(roster_hash), half,
        None if code is None else str(code),
    )  # fmt: skip
