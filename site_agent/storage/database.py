"""The one place that opens transactions: SQLite in WAL mode, every commit on disk before it is sent (ADR 0003)."""

import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, TextClause, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from shared.crypto.at_rest import open_at_rest, seal_at_rest
from shared.crypto.secret import Secret
from shared.errors import Unavailable

_FULL = ("database or disk is full", "disk I/O error")

Probe = Callable[[str], None]
"""Told ``before <name>`` and ``after <name>`` around every commit: where fault tests kill the agent."""


class Transaction:
    """An open transaction. Statements take named values; nothing is committed before the `with` block ends."""

    def __init__(self, connection: Connection, name: str, kek: Secret) -> None:
        """Wrap a connection on which BEGIN was already issued."""
        self.name = name
        self._connection = connection
        self._kek = kek
        self.after_commit: list[Callable[[], None]] = []

    def rows(self, sql: str, **values: object) -> list[Any]:
        """Run a query and return all its rows, named tuples of what the columns hold."""
        return list(self._connection.execute(_statement(sql), values).all())

    def row(self, sql: str, **values: object) -> Any:  # noqa: ANN401 (a named tuple of what the columns hold)
        """Run a query and return its first row, if any."""
        return self._connection.execute(_statement(sql), values).first()

    def value(self, sql: str, **values: object) -> Any:  # noqa: ANN401 (what a column holds, the caller knows)
        """Run a query and return the first column of its first row, or None."""
        found = self._connection.execute(_statement(sql), values).first()
        return None if found is None else found[0]

    def run(self, sql: str, **values: object) -> int:
        """Run a statement and return how many rows it touched."""
        return self._connection.execute(_statement(sql), values).rowcount

    def add(self, table: str, **values: object) -> None:
        """Insert one row; `table` and the column names are constants of the caller."""
        self._connection.execute(_insert(table, tuple(values)), values)

    def seal(self, plaintext: bytes, context: str) -> bytes:
        """Return `plaintext` sealed for the column or row that `context` names (PROTOCOLS C5)."""
        return seal_at_rest(self._kek, plaintext, context)

    def open(self, sealed: bytes, context: str) -> bytes:
        """Return what was sealed for `context`.

        Raises:
            PeerFault: ``at_rest_damaged``.
        """
        return open_at_rest(self._kek, sealed, context)


class Database:
    """The agent's database file; the command line opens the same file beside the running agent."""

    def __init__(self, path: Path, kek: Secret, probe: Probe | None = None) -> None:
        """Open (or create) the file; `schema.migrate` brings it to this release's schema."""
        self.path = path
        self._kek = kek
        self._probe = probe or (lambda _point: None)
        self.engine: Engine = create_engine(
            f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 30}, pool_size=8, max_overflow=40
        )
        event.listen(self.engine, "connect", _configure)
        # SQLite's own waiting for a writer is a sleep; inside one process a lock wakes the next writer at once.
        self._writer = threading.RLock()

    @contextmanager
    def transaction(self, name: str) -> Iterator[Transaction]:
        """Open a named write transaction: commit at the end of the block, roll back on any exception.

        Raises:
            Unavailable: ``disk_full``; nothing was changed.
        """
        with self._writer, self.engine.connect() as connection:
            tx = Transaction(connection, name, self._kek)
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield tx
                    self._probe(f"before {name}")
                    connection.exec_driver_sql("COMMIT")
                except BaseException:
                    _roll_back(connection)
                    raise
            except OperationalError as error:
                if any(reason in str(error.orig) for reason in _FULL):
                    raise Unavailable("disk_full", f"the database cannot grow ({name})") from error
                raise
        self._probe(f"after {name}")
        for hook in tx.after_commit:
            hook()

    @contextmanager
    def reading(self, name: str) -> Iterator[Transaction]:
        """Open a named read transaction: one consistent snapshot, never blocked by a writer."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield Transaction(connection, name, self._kek)
            finally:
                _roll_back(connection)

    def close(self) -> None:
        """Close every connection; the write-ahead log is folded into the file."""
        self.engine.dispose()


class ChangeWatch:
    """Notices commits by anybody, the command line included, without reading a table (``PRAGMA data_version``)."""

    def __init__(self, path: Path) -> None:
        """Open a connection of its own: the number only counts other connections' commits."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._seen = self._version()

    def changed(self) -> bool:
        """Return whether somebody committed since the last call."""
        before, self._seen = self._seen, self._version()
        return before != self._seen

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


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
