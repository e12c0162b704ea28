"""The rows of the site's own log; they are only ever added (the database refuses to change or delete one)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from site_agent.storage.database import Transaction

FIRST_PREV = "0" * 64
_PAGE = 1000
_COLUMNS = "number, at, event, digest, envelope"


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry: its number, time, event and the digest of its payload, and the signed envelope itself."""

    number: int
    at: str
    event: str
    digest: str
    envelope: bytes = field(repr=False)


def add_entry(tx: Transaction, entry: StoredEntry) -> None:
    """Add an entry; two with one number are impossible."""
    tx.add("journal", number=entry.number, at=entry.at, event=entry.event, digest=entry.digest, envelope=entry.envelope)


def read_entries(tx: Transaction, after: int = 0) -> Iterator[StoredEntry]:
    """Return the entries after a number, in order."""
    while True:
        rows = tx.rows(
            f"SELECT {_COLUMNS} FROM journal WHERE number > :after ORDER BY number LIMIT {_PAGE}",  # noqa: S608 (constants)
            after=after,
        )
        yield from (StoredEntry(*row) for row in rows)
        if len(rows) < _PAGE:
            return
        after = rows[-1].number


def read_last(tx: Transaction, *events: str, before: int = 2**53) -> StoredEntry | None:
    """Return the newest entry below number `before`, of some events if any are named."""
    chosen = ", ".join(f":event{position}" for position in range(len(events)))
    row = tx.row(
        f"SELECT {_COLUMNS} FROM journal WHERE number < :before"  # noqa: S608 (constants and names of parameters)
        + (f" AND event IN ({chosen})" if events else "")
        + " ORDER BY number DESC LIMIT 1",
        before=before,
        **{f"event{position}": event for position, event in enumerate(events)},
    )
    return None if row is None else StoredEntry(*row)


def read_number_since(tx: Transaction, at: str) -> int:
    """Return the number of the last entry before the first one written at or after `at`."""
    found = tx.value("SELECT MIN(number) FROM journal WHERE at >= :at", at=at)
    return (tx.value("SELECT COALESCE(MAX(number), 0) FROM journal") if found is None else found - 1) or 0
