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


def read_newest(tx: Transaction, site: str, *, kept: bool = False) -> Statement | None:
    """Return the accepted statement of a site with the highest number; of those that are `kept`, if asked."""
    condition = " AND kind <> 'unmask'" if kept else ""
    row = tx.row(f"SELECT * FROM statement WHERE site = :site{condition} ORDER BY seq DESC LIMIT 1", site=site)  # noqa: S608
    return None if row is None else Statement(*row)


def read_after(tx: Transaction, site: str, after: int, kinds: tuple[str, ...]) -> list[Statement]:
    """Return a site's accepted statements of some kinds with numbers above `after`, in order."""
    rows = tx.rows("SELECT * FROM statement WHERE site = :site AND seq > :after ORDER BY seq", site=site, after=after)
    return [Statement(*row) for row in rows if row.kind in kinds]


def read_times(tx: Transaction, site: str, kind: str, since: str) -> list[str]:
    """Return when statements of one kind were accepted from a site since a moment, in order."""
    rows = tx.rows(
        "SELECT accepted_at FROM statement WHERE site = :site AND kind = :kind AND accepted_at >= :since"
        " ORDER BY accepted_at",
        site=site,
        kind=kind,
        since=since,
    )
    return [row.accepted_at for row in rows]


def add_statement(
    tx: Transaction, digest: str, site: str, seq: int, *, kind: str, log_index: int, leaf_hash: str, at: str
) -> None:
    """Record an accepted statement."""
    tx.add(
        "statement", digest=digest, site=site, seq=seq, kind=kind, log_index=log_index, leaf_hash=leaf_hash,
        accepted_at=at,
    )  # fmt: skip
