"""Transactions: immediate, named, all or nothing; a full disk is an answer, not a crash."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from coordinator.storage import log_tables, operator_tables, operators, tables, tokens
from coordinator.storage.database import Database, Transaction
from coordinator.storage.schema import FOLDER, NEWEST, current_revision, migrate
from shared.errors import InputError, Unavailable


def add(tx: Transaction, name: str) -> None:
    operators.add_operator(tx, name, "viewer", "2026-11-21T09:00:00.000Z")


def fail(database: Database, first: Callable[[Transaction], object]) -> None:
    with database.transaction("test") as tx:
        first(tx)
        raise RuntimeError


def names(database: Database) -> list[str]:
    with database.reading("test") as tx:
        return [one.operator for one in operators.read_operators(tx)]


def test_the_migrations_build_exactly_the_tables(database: Database) -> None:
    assert {table.__name__ for table in (tables, log_tables, operator_tables)}  # importing them registers the classes
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    assert current_revision(database) == NEWEST == ScriptDirectory(str(FOLDER)).get_current_head()


def test_migrating_again_changes_nothing(database: Database) -> None:
    with database.transaction("test") as tx:
        add(tx, "a")
    migrate(database)
    assert names(database) == ["a"]


def test_a_database_of_a_newer_release_is_refused(database: Database) -> None:
    with database.transaction("test") as tx:
        tx.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InputError, match="state_newer"):
        migrate(database)


def test_an_exception_takes_everything_back(database: Database) -> None:
    with pytest.raises(RuntimeError):
        fail(database, lambda tx: add(tx, "a"))
    assert names(database) == []


def test_what_was_touched_is_told_after_the_commit_and_only_then(database: Database) -> None:
    heard: list[tuple[set[str], list[str]]] = []
    database.listener = lambda touched: heard.append((touched, names(database)))
    with pytest.raises(RuntimeError):
        fail(database, lambda tx: tx.touch("agents"))
    with database.transaction("test") as tx:
        add(tx, "a")
        tx.touch("agents", "study/s")
    assert heard == [({"agents", "study/s"}, ["a"])]


def test_hooks_run_after_the_commit_and_not_after_a_rollback(database: Database) -> None:
    ran: list[list[str]] = []
    with pytest.raises(RuntimeError):
        fail(database, lambda tx: tx.after_commit.append(lambda: ran.append([])))
    with database.transaction("test") as tx:
        add(tx, "a")
        tx.after_commit.append(lambda: ran.append(names(database)))
    assert ran == [["a"]]


def test_concurrent_increments_are_all_counted(database: Database) -> None:
    with database.transaction("test") as tx:
        tx.run("UPDATE log_head SET size = 0")

    def increment() -> None:
        for _ in range(20):
            with database.transaction("test") as tx:
                size = tx.value("SELECT size FROM log_head")
                tx.run("UPDATE log_head SET size = :size", size=size + 1)

    threads = [threading.Thread(target=increment) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading("test") as tx:
        assert tx.value("SELECT size FROM log_head") == 120


def test_a_reader_sees_one_moment_and_does_not_wait_for_a_writer(database: Database) -> None:
    with database.reading("test") as before, database.transaction("test") as tx:
        assert before.value("SELECT COUNT(*) FROM operator") == 0
        add(tx, "a")
        assert before.value("SELECT COUNT(*) FROM operator") == 0
    assert names(database) == ["a"]


def test_every_connection_is_durable_and_wipes_what_it_deletes(database: Database) -> None:
    with database.reading("test") as tx:
        assert tx.value("PRAGMA journal_mode") == "wal"
        assert tx.value("PRAGMA synchronous") == 2  # FULL
        assert tx.value("PRAGMA secure_delete") == 1


def test_a_full_disk_is_named_and_nothing_is_half_done(database: Database) -> None:
    with database.transaction("test") as tx:
        add(tx, "a")
        pages = tx.value("PRAGMA page_count")

    def outgrow(tx: Transaction) -> None:
        tx.value(f"PRAGMA max_page_count = {pages}")
        add(tx, "b")
        add(tx, "x" * 200_000)

    with pytest.raises(Unavailable, match="storage_full"):
        fail(database, outgrow)
    database.close()
    assert names(Database(database.path)) == ["a"]


def test_another_error_of_the_driver_is_not_hidden(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError), database.transaction("test") as tx:
        tx.run("UPDATE no_such_table SET x = 1")


@pytest.mark.parametrize("table", ["log_leaf", "log_node", "log_checkpoint", "log_cosig", "dsse_blob"])
@pytest.mark.parametrize("verb", ["UPDATE", "DELETE"])
def test_the_log_only_grows(database: Database, tmp_path: Path, table: str, verb: str) -> None:
    rows = {
        "log_leaf": "(0, x'00', x'00', 't', NULL, 'now')",
        "log_node": "(1, 0, x'00')",
        "log_checkpoint": "(1, 'note')",
        "log_cosig": "(1, 'site-a', 'line')",
        "dsse_blob": "('00', x'00')",
    }
    with database.transaction("test") as tx:
        tx.run(f"INSERT INTO {table} VALUES {rows[table]}")
    statement = f"DELETE FROM {table}" if verb == "DELETE" else f"UPDATE {table} SET rowid = rowid"
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), database.transaction("test") as tx:
        tx.run(statement)


def test_the_head_never_goes_back(database: Database) -> None:
    with database.transaction("test") as tx:
        tx.run("UPDATE log_head SET size = 5")
    with pytest.raises(sqlite3.IntegrityError, match="only grows"), database.transaction("test") as tx:
        tx.run("UPDATE log_head SET size = 4")
    with pytest.raises(sqlite3.IntegrityError, match="stays"), database.transaction("test") as tx:
        tx.run("DELETE FROM log_head")


def test_operators_of_the_first_schema_keep_their_tokens(tmp_path: Path) -> None:
    """A token without an end gets one; a removed operator's token stays taken away."""
    from alembic import command
    from alembic.config import Config

    old = Database(tmp_path / "old.sqlite")
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with old.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    with old.transaction("test") as tx:
        for name, ends, removed in (
            ("ada", None, None),
            ("bob", "2030-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"),
        ):
            tx.add(
                "operator", operator=name, role="viewer", token_hash=f"hash-of-{name}",
                created_at="2025-01-01T00:00:00.000Z", expires_at=ends, removed_at=removed,
            )  # fmt: skip
    migrate(old)
    with old.reading("test") as tx:
        ada, bob = (tokens.read_by_hash(tx, f"hash-of-{name}") for name in ("ada", "bob"))
        assert [one.operator for one in operators.read_operators(tx)] == ["ada", "bob"]
    old.close()
    assert ada is not None
    assert bob is not None
    assert (ada.operator, ada.limits, ada.revoked_at, ada.is_session) == ("ada", None, None, False)
    assert ada.expires_at > "2026-11-21"
    assert (bob.expires_at, bob.revoked_at) == ("2030-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z")
