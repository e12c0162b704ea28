"""How people get and renew an account: a one-time link, a password, a second factor confirmed by its first code."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from coordinator import second_factor
from coordinator.audit import AuditLog, Fact
from coordinator.operators import Principal, actor_of, read
from coordinator.passwords import check_password, hash_password
from coordinator.permissions import Permission
from coordinator.storage import accounts as stored
from coordinator.storage import identities
from coordinator.storage import tokens as stored_tokens
from coordinator.storage.database import Database, Transaction
from coordinator.tokens import new_secret, secret_hash
from shared.audit.entries import Actor
from shared.clock import parse_timestamp, timestamp
from shared.crypto.at_rest import open_at_rest, seal_at_rest
from shared.crypto.secret import Secret
from shared.errors import InputError, Refusal

LINK_PREFIX = "ML1-"
LINK_HOURS = 72


@dataclass(frozen=True, slots=True)
class Link:
    """A new one-time link; the secret is shown this once."""

    operator: str
    secret: Secret
    expires_at: str


def check_invite(tx: Transaction, by: Principal, operator: str) -> None:
    """Return if `by` may make a link for an operator: who holds the link becomes that operator, role and all.

    Raises:
        InputError: ``operator_unknown``.
        Refusal: ``grant_denied``, also for oneself: a token alone must not change its operator's password.
    """
    by.check_grant(Permission("operators.grant", read(tx, operator).role))
    is_set_up = stored.read_account(tx, operator) is not None or identities.has_identity(tx, operator)
    if by.operator == operator and is_set_up:
        raise Refusal("grant_denied", f"{operator} renews the own account with password and code")


def invite(tx: Transaction, log: AuditLog, by: Principal | None, operator: str, now: datetime) -> Link:
    """Make a one-time link with which an operator sets password and second factor; an earlier link ends.

    Raises:
        InputError: ``operator_unknown``.
    """
    read(tx, operator)
    secret, until = new_secret(LINK_PREFIX), timestamp(now + timedelta(hours=LINK_HOURS))
    stored.drop_links(tx, operator)
    stored.add_link(tx, secret_hash(secret.reveal().decode()), operator, until)
    fact = Fact("account.invited", actor_of(by), {"expires_at": until}, subject=("operator", operator))
    log.append(tx, fact, now)
    return Link(operator, secret, until)


def set_up(database: Database, kek: Secret, link: str, password: str, now: datetime) -> tuple[str, Secret]:
    """Keep a password and a new second factor with the link until its first code is shown; return operator and secret.

    Raises:
        Refusal: ``link_invalid``.
        InputError: ``password_weak``.
    """
    with database.reading("look at a link") as tx:
        operator = _open_link(tx, link, now).operator
    check_password(password, operator)
    hashed, secret = hash_password(Secret(password.encode())), second_factor.new_secret()
    sealed = seal_at_rest(kek, secret.reveal(), _context(operator))
    with database.transaction("set up an account") as tx:
        _open_link(tx, link, now)
        stored.set_link(tx, secret_hash(link), password_hash=hashed, totp=sealed)
    return operator, secret


def confirm(tx: Transaction, log: AuditLog, kek: Secret, link: str, code: str, now: datetime) -> tuple[str, list[str]]:
    """Put the account in force: the link is used up, earlier sessions end; return operator and recovery codes.

    Raises:
        Refusal: ``link_invalid``, ``code_wrong``.
    """
    found = _open_link(tx, link, now)
    if found.password_hash is None or found.totp is None:
        raise Refusal("link_invalid", "set a password with the link first")
    secret = Secret(open_at_rest(kek, found.totp, _context(found.operator)))
    step = second_factor.matching_step(secret, code, 0, now)
    if step is None:
        raise Refusal("code_wrong", "the code is not the authenticator's present one; look at both clocks")
    codes = second_factor.new_recovery_codes()
    stored.drop_links(tx, found.operator)
    stored.set_account(tx, found.operator, found.password_hash, found.totp, step, timestamp(now))
    stored.set_recovery_codes(tx, found.operator, [second_factor.recovery_hash(found.operator, one) for one in codes])
    stored.drop_failures(tx, found.operator)
    stored_tokens.end_sessions(tx, found.operator, timestamp(now))
    actor = Actor("user", found.operator, "link")
    log.append(tx, Fact("account.set_up", actor, {}, subject=("operator", found.operator)), now)
    return found.operator, codes


def second_factor_of(kek: Secret, account: stored.Account) -> Secret:
    """Return the shared secret of an account."""
    return Secret(open_at_rest(kek, account.totp, _context(account.operator)))


def _open_link(tx: Transaction, link: str, now: datetime) -> stored.StoredLink:
    found = stored.read_link(tx, secret_hash(link))
    if found is None or parse_timestamp(found.expires_at) <= now:
        raise Refusal("link_invalid", "the link is unknown, has expired or was used")
    try:
        read(tx, found.operator)
    except InputError as error:
        raise Refusal("link_invalid", "the link is of an operator who was removed") from error
    return found


def _context(operator: str) -> str:
    return f"account/{operator}/totp"
