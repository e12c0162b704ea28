"""The log as the coordinator writes it: facts in the caller's transaction, signed checkpoints (PROTOCOLS B)."""

import copy
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.storage import log as stored
from coordinator.storage import statements
from coordinator.storage.database import Database, Transaction
from shared.audit.entries import SALT_BYTES, Actor, Commitment, Outcome, build_entry
from shared.audit.log_checkpoint import ED25519, LogCheckpoint, LogVkey, sign_checkpoint
from shared.audit.merkle import Frontier, NodeReader, leaf_hash, root_at
from shared.audit.proofs import build_inclusion
from shared.canonical import JsonObject, canonical_bytes, parse_strict
from shared.clock import parse_timestamp, timestamp
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import SignedMessage, sign_envelope
from shared.errors import Misuse
from shared.ids import COORDINATOR, uuid7
from shared.protocol.log import Inclusion
from shared.protocol.masked_update import Receipt

COORDINATOR_ACTOR = Actor("coordinator", COORDINATOR, "local")
SYSTEM_ACTOR = Actor("system", COORDINATOR, "local")


@dataclass(frozen=True, slots=True)
class Fact:
    """What happened, in the words of a leaf (PROTOCOLS B2). `subject` is (kind, id)."""

    type: str
    actor: Actor
    data: JsonObject = field(default_factory=dict)
    study: str | None = None
    subject: tuple[str, str] | None = None
    outcome: Outcome = "success"
    evidence: tuple[str, ...] = ()  # digests of signed envelopes kept beside the log
    private: JsonObject = field(default_factory=dict)  # committed with a salt, kept apart, erasable


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a fact stands."""

    index: int
    leaf: bytes
    leaf_hash: bytes


class AuditLog:
    """Appends, signs checkpoints, proves. One per process; the database's write transaction is its lock."""

    def __init__(self, federation: str, log_key: SigningKey, idk: SigningKey) -> None:
        """Write to the log of this federation under these keys."""
        self.origin = f"{federation}/log/1"
        self.vkey = LogVkey(self.origin, ED25519, log_key.verify_key)
        self._log_key = log_key
        self.idk = idk
        self._frontier: Frontier | None = None
        self._signing = threading.Lock()

    def append(self, tx: Transaction, fact: Fact, now: datetime) -> Entry:
        """Append one fact; see `append_many`."""
        return self.append_many(tx, [fact], now)[0]

    def append_many(self, tx: Transaction, facts: Sequence[Fact], now: datetime) -> list[Entry]:
        """Append facts as the caller's last statements: no change without its entry, no gap, one order.

        Raises:
            Misuse: ``entry_malformed``, ``entry_unknown_type``.
        """
        size, last_ts = stored.read_head(tx)
        ts = max(timestamp(now), last_ts)
        frontier = self._edge(tx, size)
        ends = {fact.study: end_of_study(tx, fact.study) for fact in facts if fact.study is not None}
        entries = []
        for offset, fact in enumerate(facts):
            commitments = [
                Commitment(name, value, os.urandom(SALT_BYTES)) for name, value in sorted(fact.private.items())
            ]
            leaf = self._leaf(fact, ts, commitments, ends.get(fact.study or ""))
            entry = Entry(size + offset, leaf, leaf_hash(leaf))
            if fact.study is not None:
                ends[fact.study] = ((ends[fact.study] or (0, ""))[0] + 1, entry.leaf_hash.hex())
            stored.add_leaf(tx, stored.Leaf(entry.index, leaf, entry.leaf_hash), fact.type, fact.study, ts)
            stored.add_nodes(tx, [node for node in frontier.append(entry.leaf_hash) if node.level > 0])
            for position, one in enumerate(commitments):
                value = canonical_bytes(one.value).decode()
                stored.add_disclosure(tx, entry.index, position, one.name, value, one.salt)
            entries.append(entry)
        stored.set_head(tx, size + len(facts), ts)

        def keep() -> None:
            self._frontier = frontier

        tx.after_commit.append(keep)
        return entries

    def append_statement(
        self, tx: Transaction, message: SignedMessage, fact: Fact, now: datetime, *, evidence: bool = True
    ) -> Entry:
        """Append the fact that a site's signed statement was accepted, with the envelope as evidence, and remember it.

        `evidence=False` keeps the envelope out of the log: unmask responses hold shares.
        """
        if evidence:
            stored.add_dsse(tx, message.envelope_digest, message.envelope)
        entry = self.append(tx, fact, now)
        statements.add_statement(
            tx, message.digest, message.keyid, message.body["seq"], kind=message.kind, log_index=entry.index,
            leaf_hash=entry.leaf_hash.hex(), at=timestamp(now),
        )  # fmt: skip
        return entry

    def receipt(self, statement: statements.Statement) -> bytes:
        """Return the signed receipt of an accepted statement; the same one every time. Call it after the commit."""
        receipt = Receipt(
            v="SA1",
            kind="receipt",
            accepted=statement.digest,
            leaf_hash=statement.leaf_hash,
            log_index=statement.log_index,
            time=statement.accepted_at,
        )
        return sign_envelope("receipt", receipt.as_json(), COORDINATOR, self.idk)

    def sign_checkpoint(self, database: Database) -> str | None:
        """Sign a checkpoint over the committed entries if there are new ones; return the newest note."""
        with self._signing:
            with database.reading("read the log's head") as tx:
                size, _ = stored.read_head(tx)
                newest = stored.read_newest_note(tx)
                if size == 0 or (newest is not None and newest.size == size):
                    return None if newest is None else newest.note
                root = root_at(size, _nodes(tx))
            note = sign_checkpoint(LogCheckpoint(self.origin, size, root), self._log_key)
            with database.transaction("keep a log checkpoint") as tx:
                stored.add_note(tx, stored.Note(size, note))
            return note

    def inclusion(self, tx: Transaction, index: int) -> Inclusion | None:
        """Return the proof of an entry under the newest checkpoint; None while no checkpoint covers it."""
        newest = stored.read_newest_note(tx)
        leaf = stored.read_leaf(tx, index)
        if newest is None or leaf is None or newest.size <= index:
            return None
        return Inclusion.check(build_inclusion(leaf.leaf, index, newest.note, _nodes(tx)))

    def _edge(self, tx: Transaction, size: int) -> Frontier:
        if self._frontier is None or self._frontier.size != size:
            return Frontier.load(size, _nodes(tx))
        return copy.deepcopy(self._frontier)

    def _leaf(self, fact: Fact, ts: str, commitments: list[Commitment], follows: tuple[int, str] | None) -> bytes:
        return build_entry(
            log=self.origin,
            entry_id=uuid7(int(parse_timestamp(ts).timestamp() * 1000)),
            ts=ts,
            type_=fact.type,
            actor=fact.actor,
            data=fact.data,
            subject=fact.subject,
            study=fact.study,
            outcome=fact.outcome,
            evidence=fact.evidence,
            commitments=commitments,
            follows=follows,
        )


def _nodes(tx: Transaction) -> NodeReader:
    def node(level: int, index: int) -> bytes:
        found = stored.read_node(tx, level, index)
        if found is None:
            raise Misuse("log_node_missing", f"subtree {index} of level {level} was never stored")
        return found

    return node


def end_of_study(tx: Transaction, study: str) -> tuple[int, str] | None:
    """Return number and leaf hash of a study's newest entry."""
    found = stored.read_newest_of_study(tx, study)
    return None if found is None else (parse_strict(found.leaf)["study_seq"], found.leaf_hash.hex())
