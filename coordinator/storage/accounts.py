"""Accounts of people: password hashes, sealed second factors, recovery codes, one-time links, failed logins."""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.storage.database import Transaction, Value


@dataclass(frozen=True, slots=True)
class Account:
    """How a person shows who they are."""

    operator: str
    password_hash: str
    totp: bytes  # sealed
    totp_step: int  # of the last code that was used
    changed_at: str


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A one-time link and what was set up with it so far."""

    operator: str
    expires_at: str
    password_hash: str | None
    totp: bytes | None


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed logins under one name, existing or not."""

    count: int
    locked_until: str | None


def read_account(tx: Transaction, operator: str) -> Account | None:
    """Return an operator's account."""
    row = tx.row(
        "SELECT operator, password_hash, totp, totp_step, changed_at FROM account WHERE operator = :operator",
        operator=operator,
    )
    return None if row is None else Account(*row)


def set_account(tx: Transaction, operator: str, password_hash: str, totp: bytes, step: int, at: str) -> None:
    """Put an account in force, in place of an earlier one."""
    tx.run("DELETE FROM account WHERE operator = :operator", operator=operator)
    tx.add("account", operator=operator, password_hash=password_hash, totp=totp, totp_step=step, changed_at=at)


def set_totp_step(tx: Transaction, operator: str, step: int) -> None:
    """Remember the newest code that was used."""
    tx.change("account", "operator", operator, totp_step=step)


def set_recovery_codes(tx: Transaction, operator: str, hashes: Sequence[str]) -> None:
    """Replace an operator's recovery codes."""
    tx.run("DELETE FROM recovery_code WHERE operator = :operator", operator=operator)
    for one in hashes:
        tx.add("recovery_code", operator=operator, code_hash=one)


def drop_recovery_code(tx: Transaction, operator: str, code_hash: str) -> bool:
    """Use a recovery code up; return whether there was one."""
    sql = "DELETE FROM recovery_code WHERE operator = :operator AND code_hash = :code_hash"
    return tx.run(sql, operator=operator, code_hash=code_hash) == 1


def read_link(tx: Transaction, link_hash: str) -> StoredLink | None:
    """Return a link that was not used."""
    row = tx.row(
        "SELECT operator, expires_at, password_hash, totp FROM account_link WHERE link_hash = :link_hash",
        link_hash=link_hash,
    )
    return None if row is None else StoredLink(*row)


def add_link(tx: Transaction, link_hash: str, operator: str, expires_at: str) -> None:
    """Add a link."""
    tx.add("account_link", link_hash=link_hash, operator=operator, expires_at=expires_at)


def set_link(tx: Transaction, link_hash: str, **values: Value) -> None:
    """Keep what was set up with a link."""
    tx.change("account_link", "link_hash", link_hash, **values)


def drop_links(tx: Transaction, operator: str) -> None:
    """End every link of an operator."""
    tx.run("DELETE FROM account_link WHERE operator = :operator", operator=operator)


def read_failures(tx: Transaction, operator: str) -> Failures | None:
    """Return the failed logins under a name."""
    row = tx.row("SELECT count, locked_until FROM login_failure WHERE operator = :operator", operator=operator)
    return None if row is None else Failures(*row)


def set_failures(tx: Transaction, operator: str, count: int, at: str, locked_until: str | None) -> None:
    """Count a failed login."""
    drop_failures(tx, operator)
    tx.add("login_failure", operator=operator, count=count, last_at=at, locked_until=locked_until)


def drop_failures(tx: Transaction, operator: str) -> None:
    """Forget the failures under a name."""
    tx.run("DELETE FROM login_failure WHERE operator = :operator", operator=operator)


def forget_failures(tx: Transaction, before: str) -> None:
    """Forget failures that lie back so far."""
    tx.run("DELETE FROM login_failure WHERE last_at < :before", before=before)
