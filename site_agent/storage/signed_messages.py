"""This site's chain of signed messages (PROTOCOLS section 1, clause 6)."""

from typing import NamedTuple

from site_agent.storage.database import Transaction

FIRST_PREV = "0" * 64


class ChainEnd(NamedTuple):
    """The newest message's number and the digest of its payload."""

    seq: int
    digest: str


def read_end(tx: Transaction) -> ChainEnd:
    """Return the end of the chain; ``(0, 32 zero bytes)`` before the first message."""
    row = tx.row("SELECT seq, digest FROM signed_message ORDER BY seq DESC LIMIT 1")
    return ChainEnd(0, FIRST_PREV) if row is None else ChainEnd(row.seq, row.digest)


def read_digest(tx: Transaction, seq: int) -> str | None:
    """Return the digest of a message by its number."""
    found = tx.value("SELECT digest FROM signed_message WHERE seq = :seq", seq=seq)
    return None if found is None else str(found)


def add_message(tx: Transaction, seq: int, *, kind: str, subject: str, digest: str, prev: str, signed_at: str) -> None:
    """Append a message; two messages with one number or one predecessor are impossible."""
    tx.add("signed_message", seq=seq, kind=kind, subject=subject, digest=digest, prev=prev, signed_at=signed_at)
