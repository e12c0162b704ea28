"""This site's own copy of the log, the head it cosigned, and what it found wrong (PROTOCOLS B3).

The copy always holds exactly the entries under the cosigned head: both grow in one transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.audit.merkle import EMPTY_ROOT, NodeReader
from shared.errors import Misuse
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Head:
    """The head this site cosigned last; size 0 and no note before the first."""

    size: int
    root: bytes
    note: str  # with the log's signature and this site's line: the very bytes that are sent


@dataclass(frozen=True, slots=True)
class PeerHead:
    """The newest head of another site that verified and agrees with this site's copy."""

    site: str
    size: int
    note: str


@dataclass(frozen=True, slots=True)
class PendingReceipt:
    """A receipt whose entry is not in the copy yet; `waited` counts seconds in which the coordinator was heard."""

    seq: int
    log_index: int
    leaf_hash: str
    waited: int
    alarmed: bool


@dataclass(frozen=True, slots=True)
class SeenCertificate:
    """A certificate the log says was issued in this site's name; `state` is new, own or rogue."""

    sha256: str
    serial: str
    log_index: int
    seen_at: str
    state: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two histories of one log, and the file with the evidence."""

    code: str
    detail: str
    file: str
    found_at: str


def read_head(tx: Transaction) -> Head:
    """Return the head this site cosigned last."""
    row = tx.row("SELECT size, root, note FROM log_head")
    return Head(0, EMPTY_ROOT, "") if row is None else Head(*row)


def set_head(tx: Transaction, head: Head, at: str) -> None:
    """Move the head; a trigger refuses a smaller one."""
    tx.run(
        "INSERT INTO log_head (id, size, root, note, cosigned_at) VALUES (1, :size, :root, :note, :at)"
        " ON CONFLICT (id) DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note,"
        " cosigned_at = excluded.cosigned_at",
        size=head.size,
        root=head.root,
        note=head.note,
        at=at,
    )


def add_entry(tx: Transaction, index: int, leaf: bytes) -> None:
    """Add an entry behind the last one."""
    tx.add("log_entry", idx=index, leaf=leaf)


def add_node(tx: Transaction, level: int, index: int, node: bytes) -> None:
    """Add the hash of a complete subtree; level 0 has the entries' own hashes."""
    tx.add("log_node", level=level, idx=index, hash=node)


def node_reader(tx: Transaction) -> NodeReader:
    """Return the reader of the copy's tree."""

    def node(level: int, index: int) -> bytes:
        found = tx.value("SELECT hash FROM log_node WHERE level = :level AND idx = :idx", level=level, idx=index)
        if found is None:
            raise Misuse("log_node_missing", f"subtree {index} of level {level} was never stored")
        return bytes(found)

    return node


def read_entries(tx: Transaction, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield (index, entry) from `start` up to, not including, `end`."""
    for row in tx.rows(
        "SELECT idx, leaf FROM log_entry WHERE idx >= :start AND idx < :end ORDER BY idx", start=start, end=end
    ):
        yield row.idx, row.leaf


def set_peer(tx: Transaction, peer: PeerHead) -> None:
    """Remember a peer's head; it never goes back."""
    tx.run(
        "INSERT INTO log_peer (site, size, note) VALUES (:site, :size, :note) ON CONFLICT (site) DO UPDATE"
        " SET size = excluded.size, note = excluded.note WHERE excluded.size > size",
        site=peer.site,
        size=peer.size,
        note=peer.note,
    )


def read_peers(tx: Transaction) -> dict[str, PeerHead]:
    """Return the peers' newest heads by site."""
    return {row.site: PeerHead(*row) for row in tx.rows("SELECT site, size, note FROM log_peer ORDER BY site")}


def add_receipt(tx: Transaction, seq: int, log_index: int, leaf_hash: str) -> None:
    """Note a receipt whose entry has to turn up."""
    tx.run(
        "INSERT INTO log_receipt (seq, log_index, leaf_hash, waited, alarmed)"
        " VALUES (:seq, :log_index, :leaf_hash, 0, 0) ON CONFLICT DO NOTHING",
        seq=seq,
        log_index=log_index,
        leaf_hash=leaf_hash,
    )


def read_receipts(tx: Transaction) -> list[PendingReceipt]:
    """Return the receipts whose entries did not turn up yet."""
    rows = tx.rows("SELECT seq, log_index, leaf_hash, waited, alarmed FROM log_receipt ORDER BY seq")
    return [PendingReceipt(row.seq, row.log_index, row.leaf_hash, row.waited, bool(row.alarmed)) for row in rows]


def remove_receipt(tx: Transaction, seq: int) -> None:
    """Forget a receipt whose entry was found; the outbox keeps the receipt itself."""
    tx.run("DELETE FROM log_receipt WHERE seq = :seq", seq=seq)


def wait_for_receipts(tx: Transaction, seconds: int) -> None:
    """Count further seconds of waiting."""
    tx.run("UPDATE log_receipt SET waited = waited + :seconds", seconds=seconds)


def set_alarmed(tx: Transaction, seq: int) -> None:
    """Note that the alarm about a receipt was given."""
    tx.run("UPDATE log_receipt SET alarmed = 1 WHERE seq = :seq", seq=seq)


def read_leaf_hash(tx: Transaction, index: int) -> str | None:
    """Return the hash of an entry of the copy."""
    found = tx.value("SELECT hash FROM log_node WHERE level = 0 AND idx = :idx", idx=index)
    return None if found is None else bytes(found).hex()


def read_entry(tx: Transaction, index: int) -> bytes | None:
    """Return an entry of the copy."""
    found = tx.value("SELECT leaf FROM log_entry WHERE idx = :idx", idx=index)
    return None if found is None else bytes(found)


def add_certificate(tx: Transaction, certificate: SeenCertificate) -> None:
    """Note a certificate in this site's name."""
    tx.run(
        "INSERT INTO log_certificate (sha256, serial, log_index, seen_at, state)"
        " VALUES (:sha256, :serial, :log_index, :seen_at, 'new') ON CONFLICT DO NOTHING",
        sha256=certificate.sha256,
        serial=certificate.serial,
        log_index=certificate.log_index,
        seen_at=certificate.seen_at,
    )


def read_certificates(tx: Transaction, state: str) -> list[SeenCertificate]:
    """Return the certificates in this site's name that are in a state."""
    query = (
        "SELECT sha256, serial, log_index, seen_at, state FROM log_certificate WHERE state = :state ORDER BY log_index"
    )
    return [SeenCertificate(*row) for row in tx.rows(query, state=state)]


def set_certificate(tx: Transaction, sha256: str, state: str) -> None:
    """Note whose certificate it is: ``own`` or ``rogue``."""
    tx.run("UPDATE log_certificate SET state = :state WHERE sha256 = :sha256", sha256=sha256, state=state)


def add_conflict(tx: Transaction, conflict: Conflict) -> None:
    """Note a conflict; from now on nothing is cosigned and nothing is bound."""
    tx.add(
        "log_conflict",
        code=conflict.code,
        detail=conflict.detail[:2000],
        file=conflict.file,
        found_at=conflict.found_at,
    )


def read_conflict(tx: Transaction) -> Conflict | None:
    """Return the first conflict that was found."""
    row = tx.row("SELECT code, detail, file, found_at FROM log_conflict ORDER BY number LIMIT 1")
    return None if row is None else Conflict(*row)
