"""The log's tables (PROTOCOLS B4). Triggers refuse changes; only `append_leaves` and the checkpoint add rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Leaf:
    """A committed entry."""

    index: int
    leaf: bytes
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A signed checkpoint."""

    size: int
    note: str


def read_head(tx: Transaction) -> tuple[int, str]:
    """Return the log's size and the time of its last entry; in a write transaction nobody else can append now."""
    row = tx.row("SELECT size, last_ts FROM log_head WHERE id = 1")
    return (0, "") if row is None else (row.size, row.last_ts)


def add_leaf(tx: Transaction, leaf: Leaf, type_: str, study: str | None, ts: str) -> None:
    """Add an entry."""
    tx.add("log_leaf", idx=leaf.index, leaf=leaf.leaf, leaf_hash=leaf.leaf_hash, type=type_, study=study, ts=ts)


def set_head(tx: Transaction, size: int, last_ts: str) -> None:
    """Move the head behind the entries that were just added."""
    tx.run("UPDATE log_head SET size = :size, last_ts = :last_ts WHERE id = 1", size=size, last_ts=last_ts)


def add_dsse(tx: Transaction, sha256: str, body: bytes) -> None:
    """Keep a signed statement as evidence."""
    tx.run(
        "INSERT INTO dsse_blob (sha256, body) VALUES (:sha256, :body) ON CONFLICT DO NOTHING", sha256=sha256, body=body
    )


def read_dsse(tx: Transaction) -> list[tuple[str, bytes]]:
    """Return all evidence with its digest, in the order in which it came."""
    return [(row.sha256, row.body) for row in tx.rows("SELECT sha256, body FROM dsse_blob ORDER BY rowid")]


def read_dsse_of(tx: Transaction, sha256: str) -> bytes | None:
    """Return one signed statement by the digest of its envelope."""
    found: bytes | None = tx.value("SELECT body FROM dsse_blob WHERE sha256 = :sha256", sha256=sha256)
    return found


def read_leaf(tx: Transaction, index: int) -> Leaf | None:
    """Return one entry."""
    row = tx.row("SELECT idx, leaf, leaf_hash FROM log_leaf WHERE idx = :idx", idx=index)
    return None if row is None else Leaf(*row)


def read_leaves(tx: Transaction, start: int, end: int) -> list[Leaf]:
    """Return the entries from `start` up to, not including, `end`."""
    query = "SELECT idx, leaf, leaf_hash FROM log_leaf WHERE idx >= :start AND idx < :end ORDER BY idx"
    return [Leaf(*row) for row in tx.rows(query, start=start, end=end)]


def read_leaves_of_type(tx: Transaction, type_: str) -> list[Leaf]:
    """Return all entries of a type, in order."""
    query = "SELECT idx, leaf, leaf_hash FROM log_leaf WHERE type = :type ORDER BY idx"
    return [Leaf(*row) for row in tx.rows(query, type=type_)]


def read_newest_of_study(tx: Transaction, study: str) -> Leaf | None:
    """Return a study's newest entry."""
    query = "SELECT idx, leaf, leaf_hash FROM log_leaf WHERE study = :study ORDER BY idx DESC LIMIT 1"
    row = tx.row(query, study=study)
    return None if row is None else Leaf(*row)


def read_node(tx: Transaction, level: int, index: int) -> bytes | None:
    """Return the hash of a complete subtree of 2^level leaves, if it was built."""
    if level == 0:
        found: bytes | None = tx.value("SELECT leaf_hash FROM log_leaf WHERE idx = :idx", idx=index)
    else:
        found = tx.value("SELECT hash FROM log_node WHERE level = :level AND idx = :idx", level=level, idx=index)
    return found


def add_nodes(tx: Transaction, nodes: Sequence[tuple[int, int, bytes]]) -> None:
    """Add complete subtrees: (level, index, hash)."""
    for level, index, node in nodes:
        tx.add("log_node", level=level, idx=index, hash=node)


def read_newest_note(tx: Transaction) -> Note | None:
    """Return the newest signed checkpoint."""
    row = tx.row("SELECT size, note FROM log_checkpoint ORDER BY size DESC LIMIT 1")
    return None if row is None else Note(*row)


def add_note(tx: Transaction, note: Note) -> None:
    """Keep a signed checkpoint."""
    tx.add("log_checkpoint", size=note.size, note=note.note)


def read_note(tx: Transaction, size: int) -> Note | None:
    """Return the signed checkpoint of a size."""
    row = tx.row("SELECT size, note FROM log_checkpoint WHERE size = :size", size=size)
    return None if row is None else Note(*row)


def read_next_note(tx: Transaction, after: int, most: int) -> Note | None:
    """Return the largest checkpoint at most `most` entries after a size, or else the next one after it."""
    row = tx.row(
        "SELECT size, note FROM log_checkpoint WHERE size > :after AND size <= :last ORDER BY size DESC LIMIT 1",
        after=after,
        last=after + most,
    ) or tx.row("SELECT size, note FROM log_checkpoint WHERE size > :after ORDER BY size LIMIT 1", after=after)
    return None if row is None else Note(*row)


def add_cosignature(tx: Transaction, size: int, site: str, line: str) -> None:
    """Keep a witness's signature line; the first one of a site for a size stays."""
    tx.run(
        "INSERT INTO log_cosig (size, site, line) VALUES (:size, :site, :line) ON CONFLICT DO NOTHING",
        size=size,
        site=site,
        line=line,
    )


def read_cosigned_size(tx: Transaction, site: str) -> int:
    """Return the size of the largest head that a site cosigned; 0 if it never did."""
    return int(tx.value("SELECT MAX(size) FROM log_cosig WHERE site = :site", site=site) or 0)


def read_cosignature(tx: Transaction, size: int, site: str) -> str | None:
    """Return a site's signature line under the head of a size."""
    found: str | None = tx.value("SELECT line FROM log_cosig WHERE size = :size AND site = :site", size=size, site=site)
    return found


def read_cosignatures(tx: Transaction, size: int) -> list[str]:
    """Return all witnesses' signature lines under the head of a size."""
    return [row.line for row in tx.rows("SELECT line FROM log_cosig WHERE size = :size ORDER BY site", size=size)]


def add_disclosure(tx: Transaction, index: int, position: int, name: str, value: str, salt: bytes) -> None:
    """Keep what opens a committed field; unlike the entry it can be erased."""
    tx.add("audit_disclosure", leaf_idx=index, pos=position, name=name, value=value, salt=salt)


def read_disclosures(tx: Transaction) -> list[tuple[int, int, str, str, bytes]]:
    """Return the disclosed fields: leaf index, position, name, value as JSON, salt."""
    return [tuple(row) for row in tx.rows("SELECT * FROM audit_disclosure ORDER BY leaf_idx, pos")]


def erase_disclosure(tx: Transaction, index: int, name: str) -> bool:
    """Erase what opens a committed field for good; return whether it was there."""
    query = "DELETE FROM audit_disclosure WHERE leaf_idx = :idx AND name = :name"
    return tx.run(query, idx=index, name=name) > 0


def read_cosigned(tx: Transaction, until: int) -> dict[int, tuple[str, dict[str, str]]]:
    """Return every cosigned head of at most `until` entries by its size: the note, and the sites' lines."""
    query = (
        "SELECT size, note, site, line FROM log_checkpoint JOIN log_cosig USING (size) "
        "WHERE size <= :until ORDER BY size, site"
    )
    found: dict[int, tuple[str, dict[str, str]]] = {}
    for row in tx.rows(query, until=until):
        found.setdefault(row.size, (row.note, {}))[1][row.site] = row.line
    return found
