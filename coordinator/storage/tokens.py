"""Tokens and sessions, kept as the hashes of their secrets."""

from dataclasses import dataclass

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; the token itself nobody has but its holder."""

    token_id: str
    operator: str
    name: str
    limits: str | None  # permissions as texts, separated by blanks; None: everything its operator's role holds
    created_at: str
    expires_at: str
    revoked_at: str | None
    authn: str = "token"  # for a session how it was opened: local or oidc
    seen_at: str | None = None  # when it was used last, to the minute

    @property
    def is_session(self) -> bool:
        """Return whether it ends when it is not used."""
        return self.authn != "token"


_COLUMNS = "token_id, operator, name, limits, created_at, expires_at, revoked_at, authn, seen_at"


def read_by_hash(tx: Transaction, token_hash: str) -> Token | None:
    """Return the token with this hash, valid or not."""
    row = tx.row(f"SELECT {_COLUMNS} FROM api_token WHERE token_hash = :token_hash", token_hash=token_hash)  # noqa: S608
    return None if row is None else Token(*row)


def read_token(tx: Transaction, token_id: str) -> Token | None:
    """Return one token, valid or not."""
    row = tx.row(f"SELECT {_COLUMNS} FROM api_token WHERE token_id = :token_id", token_id=token_id)  # noqa: S608
    return None if row is None else Token(*row)


def read_tokens(tx: Transaction) -> list[Token]:
    """Return all tokens, newest last."""
    return [Token(*row) for row in tx.rows(f"SELECT {_COLUMNS} FROM api_token ORDER BY created_at, token_id")]  # noqa: S608


def add_token(tx: Transaction, token: Token, token_hash: str) -> None:
    """Add a token."""
    tx.add(
        "api_token", token_id=token.token_id, operator=token.operator, token_hash=token_hash, name=token.name,
        limits=token.limits, created_at=token.created_at, expires_at=token.expires_at, authn=token.authn,
        seen_at=token.seen_at,
    )  # fmt: skip


def set_revoked(tx: Transaction, token_id: str, at: str) -> None:
    """Take a token away."""
    tx.change("api_token", "token_id", token_id, revoked_at=at)


def read_sessions(tx: Transaction, operator: str) -> list[Token]:
    """Return the sessions of an operator that nobody ended, oldest first."""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM api_token WHERE operator = :operator AND authn != 'token' AND revoked_at IS NULL "  # noqa: S608
        "ORDER BY created_at, token_id",
        operator=operator,
    )
    return [Token(*row) for row in rows]


def end_sessions(tx: Transaction, operator: str, at: str) -> None:
    """End every session of an operator."""
    for session in read_sessions(tx, operator):
        set_revoked(tx, session.token_id, at)


def end_unlimited(tx: Transaction, operator: str, at: str) -> None:
    """End every session of an operator, and every token that reaches as far as the role does."""
    tx.run(
        "UPDATE api_token SET revoked_at = :at WHERE operator = :operator AND revoked_at IS NULL AND limits IS NULL",
        at=at,
        operator=operator,
    )


def set_seen(tx: Transaction, token_id: str, at: str) -> None:
    """Remember when a token or session was used last."""
    tx.change("api_token", "token_id", token_id, seen_at=at)
