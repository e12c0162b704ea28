"""The one place that opens transactions: SQLite in WAL mode, every commit on disk before it is answered (ADR 0003)."""

import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, TextClause, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import Unavailable

_FULL = ("database or disk is full", "disk I/O error")


class Transaction:
    """An open transaction. Statements take named values; nothing is committed before the `with` block ends."""

    def __init__(self, connection: Connection, name: str) -> None:
        """Wrap a connection on which BEGIN was already issued."""
        self.name = name
        self._connection = connection
        self.after_commit: list[Callable[[], None]] = []
        self.touched: set[str] = set()

    def touch(self, *names: str) -> None:
        """Say what this transaction moves: ``agents`` and ``operators`` wake their polls, ``study/<id>`` its rounds."""
        self.touched.update(names)

    def rows(self, sql: str, **values: Any) -> list[Row[Any]]:
        """Run a query and return all its rows."""
        return list(self._connection.execute(_statement(sql), values).all())

    def row(self, sql: str, **values: Any) -> Row[Any] | None:
        """Run a query and return its first row, if any."""
        return self._connection.execute(_statement(sql), values).first()

    def value(self, sql: str, **values: Any) -> Any:
        """Run a query and return the first column of its first row, or None."""
        found = self._connection.execute(_statement(sql), values).first()
        return None if found is None else found[0]

    def run(self, sql: str, **values: Any) -> int:
        """Run a statement and return how many rows it touched."""
        return self._connection.execute(_statement(sql), values).rowcount

    def add(self, table: str, **values: Any) -> None:
        """Insert one row; `table` and the column names are constants of the caller."""
        self._connection.execute(_insert(table, tuple(values)), values)


class Database:
    """The coordinator's database file."""

    def __init__(self, path: Path) -> None:
        """Open (or create) the file; the schema is the business of `migrations.py`."""
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
        with self._writer, self.engine.connect() as connection:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                tx = Transaction(connection, name)
                try:
                    yield tx
                    connection.exec_driver_sql("COMMIT")
                except BaseException:
                    _roll_back(connection)
                    raise
            except OperationalError as error:
                if any(reason in str(error.orig) for reason in _FULL):
                    raise Unavailable("storage_full", f"the database cannot grow ({name})") from error
                raise
        for hook in tx.after_commit:
            hook()
        if tx.touched and self.listener is not None:
            self.listener(tx.touched)

    @contextmanager
    def reading(self, name: str) -> Iterator[Transaction]:
        """Open a named read transaction: one consistent snapshot, never blocked by the writer."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield Transaction(connection, name)
            finally:
                _roll_back(connection)

    def close(self) -> None:
        """Close every connection; the write-ahead log is folded into the file."""
        self.engine.dispose()


def _configure(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # BEGIN and COMMIT are ours alone
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _roll_back(connection: Connection) -> None:
    # A failed COMMIT or a full disk may have ended the transaction already.
    raw = connection.connection.driver_connection
    if isinstance(raw, sqlite3.Connection) and raw.in_transaction:
        connection.exec_driver_sql("ROLLBACK")


@functools.lru_cache(maxsize=1024)
def _statement(sql: str) -> TextClause:
    return text(sql)


@functools.lru_cache(maxsize=256)
def _insert(table: str, columns: tuple[str, ...]) -> TextClause:
    names, values = ", ".join(columns), ", ".join(f":{column}" for column in columns)
    return text(f"INSERT INTO {table} ({names}) VALUES ({values})")  # noqa: S608 (identifiers are constants of our code)
