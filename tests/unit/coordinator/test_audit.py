"""The log: entries with their facts, no gaps, proofs that verify, receipts that never change."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.storage import log as stored
from coordinator.storage import statements
from coordinator.storage.database import Database
from shared.audit.log_checkpoint import verify_checkpoint
from shared.audit.merkle import leaf_hash, tree_root
from shared.audit.proofs import verify_inclusion_bundle
from shared.canonical import from_b64u
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import open_envelope, sign_envelope
from shared.errors import Misuse

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def fact(number: int = 0, **more: Any) -> Fact:
    return Fact("audit.exported", COORDINATOR_ACTOR, {"size": number}, **more)


def append(database: Database, log: AuditLog, *facts: Fact, now: datetime = NOW) -> None:
    with database.transaction("test") as tx:
        log.append_many(tx, list(facts), now)


def append_and_fail(database: Database, log: AuditLog) -> None:
    with database.transaction("test") as tx:
        log.append(tx, fact(2), NOW)
        raise RuntimeError


def leaves(database: Database) -> list[dict[str, Any]]:
    with database.reading("test") as tx:
        return [json.loads(leaf.leaf) for leaf in stored.read_leaves(tx, 0, 10**6)]


def test_a_rollback_leaves_no_entry(database: Database, log: AuditLog) -> None:
    append(database, log, fact(1))
    with pytest.raises(RuntimeError):
        append_and_fail(database, log)
    append(database, log, fact(3))
    assert [entry["data"]["size"] for entry in leaves(database)] == [1, 3]
    log.sign_checkpoint(database)
    with database.reading("test") as tx:
        inclusion = log.inclusion(tx, 1)
    assert inclusion is not None
    verify_inclusion_bundle(inclusion.as_json(), log.vkey, log.origin)


def test_concurrent_appends_have_no_gaps(database: Database, log: AuditLog) -> None:
    def run(start: int) -> None:
        for number in range(12):
            append(database, log, fact(start + number), fact(start + number))

    threads = [threading.Thread(target=run, args=(100 * index,)) for index in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading("test") as tx:
        found = stored.read_leaves(tx, 0, 1000)
        assert stored.read_head(tx)[0] == 120
    assert [leaf.index for leaf in found] == list(range(120))
    note = log.sign_checkpoint(database)
    checkpoint = verify_checkpoint(note or "", log.vkey, log.origin)
    assert (checkpoint.size, checkpoint.root) == (120, tree_root(leaf_hash(leaf.leaf) for leaf in found))


def test_every_entry_is_proved_at_every_size_after_a_restart(database: Database, log: AuditLog) -> None:
    for number in range(9):
        append(database, log, fact(number))
        again = AuditLog("federation-1", SigningKey.from_seed(bytes(32)), SigningKey.from_seed(bytes(32)))
        again.sign_checkpoint(database)
        with database.reading("test") as tx:
            for index in range(number + 1):
                inclusion = again.inclusion(tx, index)
                assert inclusion is not None
                proved = verify_inclusion_bundle(inclusion.as_json(), again.vkey, again.origin)
                assert proved.entry["data"]["size"] == index
                assert proved.leaf == from_b64u(inclusion.leaf)


def test_an_entry_without_a_checkpoint_has_no_proof_yet(database: Database, log: AuditLog) -> None:
    append(database, log, fact())
    with database.reading("test") as tx:
        assert log.inclusion(tx, 0) is None


def test_a_checkpoint_is_signed_once_per_size(database: Database, log: AuditLog) -> None:
    assert log.sign_checkpoint(database) is None
    append(database, log, fact())
    note = log.sign_checkpoint(database)
    assert note is not None
    assert log.sign_checkpoint(database) == note


def test_times_never_go_back(database: Database, log: AuditLog) -> None:
    append(database, log, fact())
    append(database, log, fact(), now=NOW - timedelta(hours=1))
    append(database, log, fact(), now=NOW + timedelta(seconds=1))
    assert [entry["ts"][11:19] for entry in leaves(database)] == ["09:00:00", "09:00:00", "09:00:01"]


def test_private_fields_are_committed_and_kept_apart(database: Database, log: AuditLog) -> None:
    append(database, log, fact(private={"reason_text": "Dr Who asked"}))
    (entry,) = leaves(database)
    assert [shown["field"] for shown in entry["sd"]] == ["reason_text"]
    assert "Dr Who" not in json.dumps(entry)
    with database.reading("test") as tx:
        ((_, _, name, value, salt),) = stored.read_disclosures(tx)
    assert (name, json.loads(value), len(salt)) == ("reason_text", "Dr Who asked", 16)


def test_a_fact_without_its_data_is_our_own_bug(database: Database, log: AuditLog) -> None:
    with pytest.raises(Misuse, match="entry_malformed"):
        append(database, log, Fact("round.open", COORDINATOR_ACTOR, {}))
    with pytest.raises(Misuse, match="entry_unknown_type"):
        append(database, log, Fact("no.such.type", COORDINATOR_ACTOR, {}))
    assert leaves(database) == []


def test_the_receipt_of_a_statement_is_always_the_same(database: Database, log: AuditLog) -> None:
    key = SigningKey.from_seed(bytes(32))
    payload = {"site": "site-a", "seq": 4, "prev": "0" * 64, "v": "SA1"}
    message = open_envelope(sign_envelope("approval", payload, "site-a", key), "approval", {"site-a": key.verify_key})
    about = Fact(
        "plan.approved", COORDINATOR_ACTOR, {"site": "site-a", "plan": "0" * 64}, evidence=(message.envelope_digest,)
    )
    with database.transaction("test") as tx:
        entry = log.append_statement(tx, message, about, NOW)
    with database.reading("test") as tx:
        found = statements.read_statement(tx, message.digest)
        kept = stored.read_dsse(tx)
    assert found is not None
    assert log.receipt(found) == log.receipt(found)
    receipt = open_envelope(log.receipt(found), "receipt", {"coordinator": log.idk.verify_key}).body
    assert (receipt["accepted"], receipt["log_index"]) == (message.digest, entry.index)
    assert receipt["leaf_hash"] == entry.leaf_hash.hex()
    assert kept == [(message.envelope_digest, message.envelope)]
