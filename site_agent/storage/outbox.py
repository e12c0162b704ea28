"""Signed messages on their way to the coordinator, in the order they were signed."""

from dataclasses import dataclass, field

from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A message to PUT; `digest` is what its receipt must name."""

    seq: int
    kind: str
    path: str
    body: bytes = field(repr=False)
    ctx_hash: str | None
    study: str | None
    digest: str


def add_item(
    tx: Transaction, seq: int, *, kind: str, path: str, body: bytes, ctx_hash: str | None, study: str | None
) -> None:
    """Put a message into the outbox."""
    tx.add("outbox", seq=seq, kind=kind, path=path, body=body, ctx_hash=ctx_hash, study=study, state="pending")


def read_next(tx: Transaction) -> OutboxItem | None:
    """Return the oldest message that was not delivered."""
    row = tx.row(
        "SELECT o.seq, o.kind, o.path, o.body, o.ctx_hash, o.study, m.digest FROM outbox o"
        " JOIN signed_message m ON m.seq = o.seq WHERE o.state = 'pending' ORDER BY o.seq LIMIT 1"
    )
    return None if row is None else OutboxItem(*row)


def is_pending(tx: Transaction, seq: int) -> bool:
    """Return whether a message still waits to be delivered."""
    return tx.value("SELECT 1 FROM outbox WHERE seq = :seq AND state = 'pending'", seq=seq) is not None


def is_rejected(tx: Transaction, digest: str) -> bool:
    """Return whether the coordinator refused the message with this payload digest for good."""
    found = tx.value(
        "SELECT 1 FROM outbox o JOIN signed_message m ON m.seq = o.seq"
        " WHERE m.digest = :digest AND o.state = 'rejected'",
        digest=digest,
    )
    return found is not None


def count_pending(tx: Transaction) -> int:
    """Return how many messages wait."""
    return int(tx.value("SELECT COUNT(*) FROM outbox WHERE state = 'pending'"))


def read_rejected(tx: Transaction) -> list[tuple[int, str, str]]:
    """Return (seq, kind, code) of what the coordinator refused for good."""
    rows = tx.rows("SELECT seq, kind, code FROM outbox WHERE state = 'rejected' ORDER BY seq DESC LIMIT 20")
    return [(row.seq, row.kind, row.code) for row in rows]


def set_delivered(tx: Transaction, seq: int, receipt: bytes, log_index: int) -> None:
    """Keep the coordinator's receipt instead of the message."""
    tx.run(
        "UPDATE outbox SET state = 'delivered', body = NULL, receipt = :receipt, log_index = :log_index"
        " WHERE seq = :seq",
        seq=seq,
        receipt=receipt,
        log_index=log_index,
    )


def read_receipt(tx: Transaction, seq: int) -> bytes | None:
    """Return the coordinator's signed receipt of a message."""
    found: bytes | None = tx.value("SELECT receipt FROM outbox WHERE seq = :seq", seq=seq)
    return found


def set_rejected(tx: Transaction, seq: int, code: str) -> None:
    """Note that the coordinator will never take this message."""
    tx.run(
        "UPDATE outbox SET state = 'rejected', body = NULL, code = :code WHERE seq = :seq AND state = 'pending'",
        seq=seq,
        code=code,
    )


def read_last_delivered(tx: Transaction) -> int:
    """Return the highest number whose receipt is here, 0 for none."""
    return int(tx.value("SELECT MAX(seq) FROM outbox WHERE state = 'delivered'") or 0)


def take_back(tx: Transaction) -> list[OutboxItem]:
    """Take back everything that waits, and return it in order."""
    rows = tx.rows(
        "SELECT o.seq, o.kind, o.path, o.body, o.ctx_hash, o.study, m.digest FROM outbox o"
        " JOIN signed_message m ON m.seq = o.seq WHERE o.state = 'pending' ORDER BY o.seq"
    )
    tx.run("UPDATE outbox SET state = 'dropped', body = NULL WHERE state = 'pending'")
    return [OutboxItem(*row) for row in rows]


def drop_pending(tx: Transaction, ctx_hash: str, kinds: tuple[str, ...]) -> None:
    """Take messages of a context back that are of no use any more."""
    for kind in kinds:
        tx.run(
            "UPDATE outbox SET state = 'dropped', body = NULL"
            " WHERE ctx_hash = :ctx_hash AND kind = :kind AND state = 'pending'",
            ctx_hash=ctx_hash,
            kind=kind,
        )
