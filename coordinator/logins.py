"""Signing in with password and second factor: one answer for every mistake, a lock after several, each in the log."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from coordinator import second_factor
from coordinator.accounts import second_factor_of
from coordinator.audit import SYSTEM_ACTOR, AuditLog, Fact
from coordinator.passwords import is_password
from coordinator.storage import accounts as stored
from coordinator.storage import operators as stored_operators
from coordinator.storage.database import Database, Transaction
from shared.clock import parse_timestamp, timestamp
from shared.crypto.secret import Secret
from shared.errors import Refusal, Unavailable

FAILURES_ALLOWED = 5
_FIRST_LOCK = timedelta(minutes=1)  # doubled by every further failure
_LONGEST_LOCK = timedelta(hours=1)
_FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody at the door says."""

    operator: str
    password: Secret
    code: str


def check_login(database: Database, log: AuditLog, kek: Secret, attempt: Attempt, now: datetime) -> stored.Account:
    """Return the account if password and code are right; the code is used up.

    Names that nobody has are answered, and locked, like others.

    Raises:
        Refusal: ``login_refused``, whatever was wrong.
        Unavailable: ``login_locked`` after too many failures.
    """
    with database.reading("look at an account") as tx:
        _check_lock(tx, attempt.operator, now)
        before = stored.read_account(tx, attempt.operator)
    is_right = is_password(None if before is None else before.password_hash, attempt.password)
    with database.transaction("check a login") as tx:
        _check_lock(tx, attempt.operator, now)  # of many at the same time only the first few are looked at
        account = stored.read_account(tx, attempt.operator)
        if is_right and account is not None and account == before and _use_code(tx, kek, account, attempt.code, now):
            stored.drop_failures(tx, attempt.operator)
            return account
        _note_failure(tx, log, attempt.operator, now)
    raise Refusal("login_refused", "name, password or code are wrong")


def _use_code(tx: Transaction, kek: Secret, account: stored.Account, code: str, now: datetime) -> bool:
    operator = stored_operators.read_operator(tx, account.operator)
    if operator is None or operator.removed_at is not None:
        return False
    if not second_factor.is_totp(code):
        return stored.drop_recovery_code(tx, account.operator, second_factor.recovery_hash(account.operator, code))
    step = second_factor.matching_step(second_factor_of(kek, account), code, account.totp_step, now)
    if step is not None:
        stored.set_totp_step(tx, account.operator, step)
    return step is not None


def _check_lock(tx: Transaction, operator: str, now: datetime) -> None:
    found = stored.read_failures(tx, operator)
    if found is not None and found.locked_until is not None and now < parse_timestamp(found.locked_until):
        raise Unavailable("login_locked", f"too many failures; try again after {found.locked_until}")


def _note_failure(tx: Transaction, log: AuditLog, operator: str, now: datetime) -> None:
    stored.forget_failures(tx, timestamp(now - _FORGOTTEN_AFTER))
    found = stored.read_failures(tx, operator)
    count = 1 if found is None else found.count + 1
    until = None
    if count >= FAILURES_ALLOWED:
        until = timestamp(now + min(_LONGEST_LOCK, _FIRST_LOCK * 2 ** min(count - FAILURES_ALLOWED, 10)))
    stored.set_failures(tx, operator, count, timestamp(now), until)
    # What was typed as a name may be anything, a password too: the log names operators that exist and nothing else.
    known = stored_operators.read_operator(tx, operator) is not None
    subject = ("operator", operator) if known else None
    facts = [Fact("authn.fail", SYSTEM_ACTOR, {"reason": "login_refused"}, subject=subject, outcome="minor")]
    if until is not None:
        data = {"detail": "too many failed logins", "failures": count, "until": until}
        facts.append(Fact("alert.login_locked", SYSTEM_ACTOR, data, subject=subject, outcome="serious"))
    log.append_many(tx, facts, now)
