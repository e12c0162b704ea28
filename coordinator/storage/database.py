"""The one place that opens transactions: SQLite in WAL mode, every commit on disk before it is answered (ADR 0003).

Statements go straight to the driver: on the path of a round a mapping layer would cost more than the queries.
"""

import functools
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import Unavailable

_FULL = ("database or disk is full", "disk I/O error")
Value = str | int | bytes | bool | None


class Transaction:
    """An open transaction. Statements take named values; nothing is committed before the `with` block ends."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        """Wrap a connection on which BEGIN was already issued."""
        self.name = name
        self._connection = connection
        self.after_commit: list[Callable[[], object]] = []
        self.touched: set[str] = set()

    def touch(self, *names: str) -> None:
        """Say what this transaction moves: ``agents`` and ``operators`` wake their polls, ``study/<id>`` its rounds."""
        self.touched.update(names)

    def rows(self, sql: str, **values: Value) -> list[Any]:
        """Run a query and return all its rows; columns are attributes, in order."""
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, **values: Value) -> Any:  # noqa: ANN401 (a row has the columns of its query)
        """Run a query and return its first row, or None."""
        return self._connection.execute(sql, values).fetchone()

    def value(self, sql: str, **values: Value) -> Any:  # noqa: ANN401 (a column has the type of its table)
        """Run a query and return the first column of its first row, or None."""
        found = self._connection.execute(sql, values).fetchone()
        return None if found is None else found[0]

    def run(self, sql: str, **values: Value) -> int:
        """Run a statement and return how many rows it touched."""
        return self._connection.execute(sql, values).rowcount

    def add(self, table: str, **values: Value) -> None:
        """Insert one row; `table` and the column names are constants of the caller."""
        self._connection.execute(_insert(table, tuple(values)), values)

    def change(self, table: str, key: str, key_value: Value, **values: Value) -> None:
        """Change columns of the row with this key; table, key and column names are constants of the caller."""
        self._connection.execute(_update(table, key, tuple(values)), {**values, "key_value": key_value})


class Database:
    """The coordinator's database file."""

    def __init__(self, path: Path) -> None:
        """Open (or create) the file; the schema is the business of `schema.py`."""
        self.path = path
        self.engine: Engine = create_engine(
            f"sqlite:///{path}",
            hide_parameters=True,
            connect_args={"check_same_thread": False, "timeout": 30},
            pool_size=8,
            max_overflow=40,
        )
        event.listen(self.engine, "connect", _configure)
        # SQLite's own waiting for a writer is a sleep; inside one process a lock wakes the next writer at once.
        self._writer = threading.RLock()
        self.listener: Callable[[set[str]], None] | None = None  # told what a committed transaction touched

    @contextmanager
    def transaction(self, name: str) -> Iterator[Transaction]:
        """Open a named write transaction: commit at the end of the block, roll back on any exception.

        Raises:
            Unavailable: ``storage_full`` when the disk is full; nothing was changed.
        """
        with self._writer, self._connection() as connection:
            tx = Transaction(connection, name)
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield tx
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                _roll_back(connection)
                if any(reason in str(error) for reason in _FULL):
                    raise Unavailable("storage_full", f"the database cannot grow ({name})") from error
                raise
            except BaseException:
                _roll_back(connection)
                raise
        for hook in tx.after_commit:
            hook()
        if tx.touched and self.listener is not None:
            self.listener(tx.touched)

    @contextmanager
    def reading(self, name: str) -> Iterator[Transaction]:
        """Open a named read transaction: one consistent snapshot, never blocked by the writer."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield Transaction(connection, name)
            finally:
                _roll_back(connection)

    def fold(self) -> None:
        """Fold the write-ahead log into the file, so that nothing that was erased stays readable in it."""
        with self._writer, self._connection() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close every connection; the write-ahead log is folded into the file."""
        self.engine.dispose()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        pooled = self.engine.raw_connection()
        try:
            connection = pooled.driver_connection
            assert isinstance(connection, sqlite3.Connection)  # noqa: S101 (tells the type checker what the pool holds)
            yield connection
        finally:
            pooled.close()


def _configure(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # BEGIN and COMMIT are ours alone
    connection.row_factory = _named_row
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _named_row(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Any:  # noqa: ANN401 (a row has the columns of its query)
    return _row_type(tuple(column[0] for column in cursor.description))._make(row)


def _roll_back(connection: sqlite3.Connection) -> None:
    # A failed COMMIT or a full disk may have ended the transaction already.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@functools.lru_cache(maxsize=256)
def _row_type(columns: tuple[str, ...]) -> Any:  # noqa: ANN401 (made at run time)
    return namedtuple("Row", columns, rename=True)  # noqa: PYI024 (the columns are known at run time only)


@functools.lru_cache(maxsize=256)
def _insert(table: str, columns: tuple[str, ...]) -> str:
    names, values = ", ".join(columns), ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({values})"  # noqa: S608 (identifiers are constants of our code)


@functools.lru_cache(maxsize=256)
def _update(table: str, key: str, columns: tuple[str, ...]) -> str:
    changes = ", ".join(f"{column} = :{column}" for column in columns)
    return f"UPDATE {table} SET {changes} WHERE {key} = :key_value"  # noqa: S608 (the same)
