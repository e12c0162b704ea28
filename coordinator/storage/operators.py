"""Operators: people and programs, by name and role; how they show who they are stands in tables of its own."""

from dataclasses import dataclass

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may call the operator plane."""

    operator: str
    role: str
    created_at: str
    removed_at: str | None


_COLUMNS = "operator, role, created_at, removed_at"


def read_operator(tx: Transaction, operator: str) -> Operator | None:
    """Return one operator, removed or not."""
    row = tx.row(f"SELECT {_COLUMNS} FROM operator WHERE operator = :operator", operator=operator)  # noqa: S608
    return None if row is None else Operator(*row)


def read_operators(tx: Transaction) -> list[Operator]:
    """Return all operators by id."""
    return [Operator(*row) for row in tx.rows(f"SELECT {_COLUMNS} FROM operator ORDER BY operator")]  # noqa: S608


def add_operator(tx: Transaction, operator: str, role: str, at: str) -> None:
    """Add an operator."""
    tx.add("operator", operator=operator, role=role, created_at=at)


def set_role(tx: Transaction, operator: str, role: str) -> None:
    """Give an operator another role."""
    tx.change("operator", "operator", operator, role=role)


def set_removed(tx: Transaction, operator: str, at: str) -> None:
    """Take an operator's access away; the name stays taken, because the log speaks of it."""
    tx.change("operator", "operator", operator, removed_at=at)
