"""The database: explicit transactions, sealed columns, a schema that its migrations build."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from shared.crypto.secret import Secret
from shared.errors import InputError, PeerFault
from site_agent.storage import schema
from site_agent.storage.database import ChangeWatch, Database
from site_agent.storage.notices import add_notice, read_facts, read_notices, set_fact
from site_agent.storage.tables import SiteTable

KEK = Secret(b"k" * 32)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(tmp_path / "state.db", KEK)
    schema.migrate(made)
    return made


def test_the_migrations_build_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SiteTable.metadata) == []
        connection.rollback()
    newest = max(path.name for path in Path(schema.__file__).parent.glob("migrations/versions/[0-9]*.py"))
    assert newest.startswith(schema.NEWEST)
    assert schema.current_revision(database) == schema.NEWEST


def test_the_constraints_of_w3_to_w5_are_in_the_database(database: Database) -> None:
    with sqlite3.connect(database.path) as connection:
        tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type='table'"))
    assert "UNIQUE (study, round, kind)" in tables["round"]
    assert "PRIMARY KEY (ctx_hash)" in tables["decision"]
    assert "PRIMARY KEY (ctx_hash)" in tables["release"]
    assert "PRIMARY KEY (study, model, item)" in tables["released_item"]
    assert "PRIMARY KEY (study, round)" in tables["attestation"]


def test_a_newer_database_is_left_alone(database: Database) -> None:
    with database.transaction("pretend") as tx:
        tx.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InputError, match=r"^state_newer:"):
        schema.migrate(database)


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    hooks: list[str] = []

    def fail() -> None:
        with database.transaction("fails") as tx:
            set_fact(tx, "a", "1")
            tx.after_commit.append(lambda: hooks.append("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.transaction("works") as tx:
        set_fact(tx, "b", "2")
        tx.after_commit.append(lambda: hooks.append("b"))
        assert hooks == []
    with database.reading("look") as tx:
        assert read_facts(tx) == {"b": "2"}
    assert hooks == ["b"]


def test_a_reader_writes_nothing_and_sees_one_moment(database: Database) -> None:
    with database.reading("look") as tx:
        before = read_facts(tx)
        with database.transaction("meanwhile") as writing:
            set_fact(writing, "a", "1")
        assert read_facts(tx) == before
    with database.reading("look") as tx:
        assert read_facts(tx) == {"a": "1"}


def test_every_commit_is_forced_to_disk(database: Database) -> None:
    with database.reading("look") as tx:
        assert tx.value("PRAGMA journal_mode") == "wal"
        assert tx.value("PRAGMA synchronous") == 2
        assert tx.value("PRAGMA foreign_keys") == 1
        assert tx.value("PRAGMA secure_delete") == 1


def test_sealed_columns_open_in_their_place_only(database: Database) -> None:
    with database.transaction("seal") as tx:
        sealed = tx.seal(b"a secret of this site", "table/1")
        assert b"a secret" not in sealed
        assert tx.open(sealed, "table/1") == b"a secret of this site"
        with pytest.raises(PeerFault, match=r"^at_rest_damaged:"):
            tx.open(sealed, "table/2")
    other = Database(database.path, Secret(b"x" * 32))
    with other.reading("look") as tx, pytest.raises(PeerFault, match=r"^at_rest_damaged:"):
        tx.open(sealed, "table/1")


def test_a_watch_sees_commits_of_others(database: Database) -> None:
    watch = ChangeWatch(database.path)
    assert not watch.changed()
    with database.transaction("write") as tx:
        set_fact(tx, "a", "1")
    assert watch.changed()
    assert not watch.changed()
    watch.close()


def test_notices_are_counted(database: Database) -> None:
    for number in range(3):
        with database.transaction("notice") as tx:
            add_notice(tx, "clock_skew", "clock", f"{number} s", f"2026-11-21T09:00:0{number}.000Z")
    with database.reading("look") as tx:
        (notice,) = read_notices(tx)
    assert (notice.code, notice.count, notice.detail) == ("clock_skew", 3, "2 s")


def test_one_chain_has_no_forks(database: Database) -> None:
    from site_agent.storage.signed_messages import add_message, read_end

    with database.transaction("sign") as tx:
        assert read_end(tx) == (0, "0" * 64)
        add_message(tx, 1, kind="approval", subject="a", digest="1" * 64, prev="0" * 64, signed_at="x")
    for seq, prev in ((1, "1" * 64), (2, "0" * 64)):
        with pytest.raises(IntegrityError), database.transaction("fork") as tx:
            add_message(tx, seq, kind="approval", subject="b", digest="2" * 64, prev=prev, signed_at="x")
