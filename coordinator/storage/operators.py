"""Operators: people and programs with an API token, kept as its hash."""

from dataclasses import dataclass

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may call the operator plane."""

    operator: str
    role: str
    created_at: str
    expires_at: str | None
    removed_at: str | None


_COLUMNS = "operator, role, created_at, expires_at, removed_at"


def read_by_token(tx: Transaction, token_hash: str) -> Operator | None:
    """Return the operator a token belongs to, removed or not."""
    row = tx.row(f"SELECT {_COLUMNS} FROM operator WHERE token_hash = :token_hash", token_hash=token_hash)  # noqa: S608
    return None if row is None else Operator(*row)


def read_operator(tx: Transaction, operator: str) -> Operator | None:
    """Return one operator."""
    row = tx.row(f"SELECT {_COLUMNS} FROM operator WHERE operator = :operator", operator=operator)  # noqa: S608
    return None if row is None else Operator(*row)


def read_operators(tx: Transaction) -> list[Operator]:
    """Return all operators by id."""
    return [Operator(*row) for row in tx.rows(f"SELECT {_COLUMNS} FROM operator ORDER BY operator")]  # noqa: S608


def add_operator(tx: Transaction, operator: str, role: str, token_hash: str, at: str, expires_at: str | None) -> None:
    """Add an operator."""
    tx.add("operator", operator=operator, role=role, token_hash=token_hash, created_at=at, expires_at=expires_at)


def set_removed(tx: Transaction, operator: str, at: str) -> None:
    """Take an operator's access away; the name stays taken, because the log speaks of it."""
    tx.run("UPDATE operator SET removed_at = :at WHERE operator = :operator", operator=operator, at=at)
