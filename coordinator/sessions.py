"""Sessions: what a login gives; a token with an idle and an absolute end that is listed and ended like any other."""

import os
from datetime import datetime, timedelta

from coordinator.audit import AuditLog, Fact
from coordinator.config import Settings
from coordinator.operators import Principal, actor_of, read
from coordinator.storage import tokens as stored
from coordinator.storage.database import Transaction
from coordinator.tokens import Issued, new_secret, secret_hash
from shared.clock import timestamp
from shared.errors import InputError

SESSION_PREFIX = "MS1-"
_MOST_SESSIONS = 10


def open_session(
    tx: Transaction, log: AuditLog, settings: Settings, operator: str, authn: str, now: datetime
) -> Issued:
    """Open a session for an operator who has shown who he is; of too many the oldest ends.

    `authn` is how, as the log says it: ``local`` or ``oidc``.

    Raises:
        InputError: ``operator_unknown``.
    """
    read(tx, operator)
    session, secret = f"session-{os.urandom(6).hex()}", new_secret(SESSION_PREFIX)
    until = timestamp(now + timedelta(hours=settings.session_hours))
    for old in stored.read_sessions(tx, operator)[: 1 - _MOST_SESSIONS]:
        stored.set_revoked(tx, old.token_id, timestamp(now))
    row = stored.Token(session, operator, "", None, timestamp(now), until, None, authn, timestamp(now))
    stored.add_token(tx, row, secret_hash(secret.reveal().decode()))
    actor = actor_of(Principal(operator, "", None, authn, session))
    log.append(tx, Fact("login", actor, {"session": session}, subject=("operator", operator)), now)
    return Issued(session, secret, until)


def end_session(tx: Transaction, log: AuditLog, by: Principal, now: datetime) -> None:
    """End the session one asks with.

    Raises:
        InputError: ``session_missing`` for somebody who came with a token.
    """
    if by.authn == "token":
        raise InputError("session_missing", f"{by.credential} is a token, not a session; revoke it instead")
    stored.set_revoked(tx, by.credential, timestamp(now))
    log.append(tx, Fact("logout", actor_of(by), {"session": by.credential}), now)
