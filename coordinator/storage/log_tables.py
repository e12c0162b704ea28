"""The log's tables (PROTOCOLS B4). Triggers of the migration refuse to change or delete what they hold."""

from typing import ClassVar

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel


class LogHeadRow(SQLModel, table=True):
    """The one row that orders the log (PROTOCOLS B4)."""

    __tablename__: ClassVar[str] = "log_head"
    __table_args__ = (CheckConstraint("id = 1", name="one_head"),)
    id: int = Field(primary_key=True)
    size: int
    last_ts: str


class LogLeafRow(SQLModel, table=True):
    """An entry."""

    __tablename__: ClassVar[str] = "log_leaf"
    __table_args__ = (Index("ix_log_leaf_study", "study", "idx"),)
    idx: int = Field(primary_key=True)
    leaf: bytes
    leaf_hash: bytes = Field(unique=True)
    type: str
    study: str | None = None
    ts: str


class LogNodeRow(SQLModel, table=True):
    """A complete subtree's hash."""

    __tablename__: ClassVar[str] = "log_node"
    level: int = Field(primary_key=True)
    idx: int = Field(primary_key=True)
    hash: bytes


class LogCheckpointRow(SQLModel, table=True):
    """A log-signed note."""

    __tablename__: ClassVar[str] = "log_checkpoint"
    size: int = Field(primary_key=True)
    note: str


class LogCosignatureRow(SQLModel, table=True):
    """A witness's line under a checkpoint."""

    __tablename__: ClassVar[str] = "log_cosig"
    __table_args__ = (Index("log_cosig_by_site", "site", "size"),)
    size: int = Field(primary_key=True)
    site: str = Field(primary_key=True)
    line: str


class DisclosureRow(SQLModel, table=True):
    """A committed field's value and salt; erasable, unlike the leaf."""

    __tablename__: ClassVar[str] = "audit_disclosure"
    leaf_idx: int = Field(primary_key=True)
    pos: int = Field(primary_key=True)
    name: str
    value: str
    salt: bytes


class DsseBlobRow(SQLModel, table=True):
    """A signed statement as received, under the digest its leaf names."""

    __tablename__: ClassVar[str] = "dsse_blob"
    sha256: str = Field(primary_key=True)
    body: bytes
