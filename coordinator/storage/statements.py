"""Accepted site statements, for receipts and for the one-message-per-number rule (PROTOCOLS section 1, clause 6)."""

from dataclasses import dataclass

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Statement:
    """Where an accepted statement stands in the log."""

    digest: str
    site: str
    seq: int
    kind: str
    log_index: int
    leaf_hash: str
    accepted_at: str


def read_statement(tx: Transaction, digest: str) -> Statement | None:
    """Return the statement with this payload digest."""
    row = tx.row("SELECT * FROM statement WHERE digest = :digest", digest=digest)
    return None if row is None else Statement(*row)


def read_digest_of(tx: Transaction, site: str, seq: int) -> str | None:
    """Return which payload a site signed under a sequence number."""
    found: str | None = tx.value("SELECT digest FROM statement WHERE site = :site AND seq = :seq", site=site, seq=seq)
    return found


def add_statement(
    tx: Transaction, digest: str, site: str, seq: int, *, kind: str, log_index: int, leaf_hash: str, at: str
) -> None:
    """Record an accepted statement."""
    tx.add(
        "statement", digest=digest, site=site, seq=seq, kind=kind, log_index=log_index, leaf_hash=leaf_hash,
        accepted_at=at,
    )  # fmt: skip
