"""The tables of operators: tokens and sessions, accounts of people. See `tables.py`."""

from typing import ClassVar

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel


class OperatorRow(SQLModel, table=True):
    """A person or program at the coordinator."""

    __tablename__: ClassVar[str] = "operator"
    operator: str = Field(primary_key=True)
    role: str
    created_at: str
    removed_at: str | None = None


class ApiTokenRow(SQLModel, table=True):
    """An operator's API token or session, kept as its hash."""

    __tablename__: ClassVar[str] = "api_token"
    token_id: str = Field(primary_key=True)
    operator: str = Field(index=True)
    token_hash: str = Field(unique=True)
    name: str
    limits: str | None = None  # permissions separated by blanks; none: everything the role holds
    created_at: str
    expires_at: str
    revoked_at: str | None = None
    authn: str = "token"
    seen_at: str | None = None


class AccountRow(SQLModel, table=True):
    """How a person shows who they are: an Argon2id hash, and a TOTP secret sealed under the KEK."""

    __tablename__: ClassVar[str] = "account"
    operator: str = Field(primary_key=True)
    password_hash: str
    totp: bytes
    totp_step: int
    changed_at: str


class RecoveryCodeRow(SQLModel, table=True):
    """A recovery code that was not used yet, as its hash."""

    __tablename__: ClassVar[str] = "recovery_code"
    operator: str = Field(primary_key=True)
    code_hash: str = Field(primary_key=True)


class AccountLinkRow(SQLModel, table=True):
    """A one-time link that was not used yet, as its hash, and what was set up with it so far."""

    __tablename__: ClassVar[str] = "account_link"
    link_hash: str = Field(primary_key=True)
    operator: str = Field(index=True)
    expires_at: str
    password_hash: str | None = None
    totp: bytes | None = None


class OidcIdentityRow(SQLModel, table=True):
    """Who an operator is at the identity provider."""

    __tablename__: ClassVar[str] = "oidc_identity"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)
    operator: str = Field(primary_key=True)
    issuer: str
    subject: str
    bound_at: str


class LoginFailureRow(SQLModel, table=True):
    """Failed logins under a name, existing or not."""

    __tablename__: ClassVar[str] = "login_failure"
    operator: str = Field(primary_key=True)
    count: int
    last_at: str
    locked_until: str | None = None
