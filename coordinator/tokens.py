"""API tokens: narrower than their operator's role if so asked, never for ever, kept as hashes only."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from coordinator.audit import AuditLog, Fact
from coordinator.operators import Principal, actor_of, read
from coordinator.permissions import Permission, parse_permission
from coordinator.storage import operators as stored_operators
from coordinator.storage import tokens as stored
from coordinator.storage.database import Database, Transaction
from shared.canonical import tagged_hash
from shared.clock import parse_timestamp, timestamp
from shared.crypto.secret import Secret
from shared.errors import InputError, Refusal

TOKEN_PREFIX = "MT1-"  # noqa: S105 (a public prefix, not a secret)
DEFAULT_DAYS = 90
MOST_DAYS = 366
_MOST_PERMISSIONS = 32
_LONGEST_NAME = 64
_SECRET_BYTES = 20
_SEEN_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token; the secret is shown this once."""

    token_id: str
    secret: Secret
    expires_at: str


def new_secret(prefix: str) -> Secret:
    """Return a new bearer secret of 160 random bits."""
    return Secret((prefix + base64.b32encode(os.urandom(_SECRET_BYTES)).decode("ascii")).encode())


def secret_hash(secret: str) -> str:
    """Return what is stored of a bearer secret; 160 random bits need no slow hash."""
    return tagged_hash("FED operator token", secret.encode("utf-8", "replace")).hex()


def issue(
    tx: Transaction, log: AuditLog, by: Principal | None, operator: str, *, name: str, permissions: Sequence[str],
    days: int | None, now: datetime,
) -> Issued:  # fmt: skip
    """Give an operator a token. One made with a token reaches no further and lasts no longer than that one.

    `by` is somebody else only for the first token of an operator whom he has just added; `None` is the coordinator.

    Raises:
        InputError: ``operator_unknown``, ``field_invalid``, ``permission_malformed``.
        Refusal: ``grant_denied``.
    """
    found = read(tx, operator)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise InputError("field_invalid", f"name: up to {_LONGEST_NAME} printable characters")
    until = _until(by, days, now)
    limits = _limits(by, found, permissions)
    token_id, secret = f"token-{os.urandom(6).hex()}", new_secret(TOKEN_PREFIX)
    shown = None if limits is None else " ".join(one.text for one in sorted(limits))
    stored.add_token(
        tx, stored.Token(token_id, operator, name, shown, timestamp(now), until, None),
        secret_hash(secret.reveal().decode()),
    )  # fmt: skip
    data = {"scope": shown or "role", "operator": operator, "expires_at": until}
    fact = Fact("token.issued", actor_of(by), data, subject=("token", token_id), private={"name": name})
    log.append(tx, fact, now)
    return Issued(token_id, secret, until)


def revoke(tx: Transaction, log: AuditLog, by: Principal, token_id: str, now: datetime) -> None:
    """Take a token away at once.

    Raises:
        InputError: ``token_unknown``, also for a token that was taken away.
        Refusal: ``permission_denied`` for somebody else's.
    """
    found = stored.read_token(tx, token_id)
    if found is None or found.revoked_at is not None:
        raise InputError("token_unknown", f"there is no token {token_id[:64]!r}")
    by.check_on("tokens.write", token_id, found.operator)
    stored.set_revoked(tx, token_id, timestamp(now))
    fact = Fact("token.revoked", actor_of(by), {"operator": found.operator}, subject=("token", token_id))
    log.append(tx, fact, now)


def authenticate(database: Database, secret: str, idle_minutes: int, now: datetime) -> Principal:
    """Return whose token or session this is, and remember to the minute that it was used.

    Raises:
        Refusal: ``token_invalid`` for one that is unknown, expired or taken away, or a session that rested too long.
    """
    with database.reading("authenticate an operator") as tx:
        found = stored.read_by_hash(tx, secret_hash(secret))
        operator = None if found is None else stored_operators.read_operator(tx, found.operator)
    if found is None or operator is None or operator.removed_at is not None or not is_valid(found, idle_minutes, now):
        raise Refusal("token_invalid", "the token is unknown, has expired or was taken away")
    if found.seen_at is None or now - parse_timestamp(found.seen_at) >= _SEEN_WITHIN:
        with database.transaction("remember that a token was used") as tx:
            stored.set_seen(tx, found.token_id, timestamp(now))
    limits = None if found.limits is None else frozenset(parse_permission(text) for text in found.limits.split())
    return Principal(operator.operator, operator.role, limits, found.authn, found.token_id, found.expires_at)


def is_valid(token: stored.Token, idle_minutes: int, now: datetime) -> bool:
    """Return whether a token or session may still be used."""
    if token.revoked_at is not None or parse_timestamp(token.expires_at) <= now:
        return False
    seen_at = parse_timestamp(token.seen_at or token.created_at)
    return not token.is_session or now - seen_at < timedelta(minutes=idle_minutes)


def _until(by: Principal | None, days: int | None, now: datetime) -> str:
    wanted = DEFAULT_DAYS if days is None else days
    if not 1 <= wanted <= MOST_DAYS:
        raise InputError("field_invalid", f"days: 1 to {MOST_DAYS}")
    until = timestamp(now + timedelta(days=wanted))
    if by is None or by.authn != "token" or by.expires_at is None:
        return until
    return min(until, by.expires_at)  # a token that could prolong itself, also by way of others, would never expire


def _limits(
    by: Principal | None, operator: stored_operators.Operator, texts: Sequence[str]
) -> frozenset[Permission] | None:
    if len(texts) > _MOST_PERMISSIONS:
        raise InputError("field_invalid", f"permissions: at most {_MOST_PERMISSIONS}")
    wanted = frozenset(parse_permission(text) for text in texts)
    holder = by if by is not None and by.operator == operator.operator else Principal(operator.operator, operator.role)
    if not wanted and holder.limits is None:
        return None
    for permission in wanted or sorted(holder.limits or ()):
        holder.check_grant(permission)
    return wanted or holder.limits
