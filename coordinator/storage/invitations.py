"""Invitations and the enrolment requests that used them up."""

from dataclasses import dataclass

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class StoredInvitation:
    """A one-time token's fate."""

    token_hash: str
    site: str
    name: str
    expires_at: str
    request_id: str | None
    request_digest: str | None
    request: str | None
    state: str


def read_by_token(tx: Transaction, token_hash: str) -> StoredInvitation | None:
    """Return the invitation a token belongs to."""
    row = tx.row("SELECT * FROM invitation WHERE token_hash = :token_hash", token_hash=token_hash)
    return None if row is None else StoredInvitation(*row)


def read_by_request(tx: Transaction, request_id: str) -> StoredInvitation | None:
    """Return the invitation an enrolment request used."""
    row = tx.row("SELECT * FROM invitation WHERE request_id = :request_id", request_id=request_id)
    return None if row is None else StoredInvitation(*row)


def read_pending(tx: Transaction, site: str) -> StoredInvitation | None:
    """Return the enrolment of a site that waits for an administrator."""
    row = tx.row("SELECT * FROM invitation WHERE site = :site AND state = 'pending'", site=site)
    return None if row is None else StoredInvitation(*row)


def add_invitation(tx: Transaction, token_hash: str, site: str, name: str, expires_at: str) -> None:
    """Add an invitation; earlier ones of the same site lose their force."""
    tx.run("UPDATE invitation SET state = 'replaced' WHERE site = :site AND state IN ('open', 'pending')", site=site)
    tx.add("invitation", token_hash=token_hash, site=site, name=name, expires_at=expires_at, state="open")


def set_used(tx: Transaction, token_hash: str, request_id: str, request_digest: str, request: str) -> None:
    """Consume a token."""
    tx.run(
        "UPDATE invitation SET state = 'pending', request_id = :request_id, request_digest = :request_digest,"
        " request = :request WHERE token_hash = :token_hash",
        token_hash=token_hash, request_id=request_id, request_digest=request_digest, request=request,
    )  # fmt: skip


def set_decided(tx: Transaction, token_hash: str, state: str) -> None:
    """Record the administrator's decision: ``approved`` or ``rejected``."""
    tx.run("UPDATE invitation SET state = :state WHERE token_hash = :token_hash", token_hash=token_hash, state=state)
