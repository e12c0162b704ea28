"""The tables, for storage only: values are validated in wire types before they come here (ARCHITECTURE section 9).

Times are RFC 3339 texts (they sort), hashes lowercase hex, JSON is canonical text. `migrations/` builds the same
schema; a test compares the two.
"""

from typing import ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel


class SiteRow(SQLModel, table=True):
    """A hospital: its keys, its certificate, its lease."""

    __tablename__: ClassVar[str] = "site"
    site: str = Field(primary_key=True)
    state: str  # invited, pending, approved, rejected, revoked
    name: str = ""
    legal: str = ""
    idk: bytes | None = None
    log_key: bytes | None = None
    kem_mlkem768: bytes | None = None
    kem_x25519: bytes | None = None
    kem_seq: int = 0
    kem_attest: bytes | None = None
    fingerprint: str | None = None
    certificate: bytes | None = None
    certificate_serial: str | None = None
    certificate_not_after: str | None = None
    instance: str = ""
    superseded: str = ""  # JSON list of instances that lost the lease
    barred: str | None = None  # why it is kept out of cohorts, see PROTOCOLS A7 R4
    last_seen_at: str | None = None
    previous_serial: str | None = None  # still good for a moment after a renewal
    renewed_at: str | None = None


class InvitationRow(SQLModel, table=True):
    """A one-time token, kept as its hash, and what it was used for."""

    __tablename__: ClassVar[str] = "invitation"
    token_hash: str = Field(primary_key=True)
    site: str = Field(index=True)
    name: str = ""
    expires_at: str
    request_id: str | None = Field(default=None, unique=True)
    request_digest: str | None = None
    request: str | None = None  # the EnrolmentRequest, without its token
    state: str = "open"  # open, pending, approved, rejected, replaced


class RosterRow(SQLModel, table=True):
    """A roster version."""

    __tablename__: ClassVar[str] = "roster"
    version: int = Field(primary_key=True)
    roster_hash: str = Field(unique=True)
    roster: str
    state: str  # proposed, active, superseded
    proposed_at: str
    activated_at: str | None = None


class RosterApprovalRow(SQLModel, table=True):
    """A site's signed acceptance of a roster version."""

    __tablename__: ClassVar[str] = "roster_approval"
    version: int = Field(primary_key=True)
    site: str = Field(primary_key=True)
    envelope: bytes


class StudyRow(SQLModel, table=True):
    """A study and where it stands."""

    __tablename__: ClassVar[str] = "study"
    study: str = Field(primary_key=True)
    plan_hash: str
    plan: str
    owner: str
    state: str
    reason: str | None = None
    submitted_at: str
    started_at: str | None = None
    model: str
    model_round: int = 0
    failed_on_model: int = 0
    best_model: str | None = None
    best_round: int | None = None
    best_metrics: str | None = None
    test_metrics: str | None = None
    statistics: str | None = None
    prev: str | None = None  # hash of the newest outcome
    outcome_count: int = 0


class StudyApprovalRow(SQLModel, table=True):
    """A steward's newest decision about a plan."""

    __tablename__: ClassVar[str] = "study_approval"
    study: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    plan_hash: str
    decision: str
    seq: int
    decided_at: str


class StudyBlobRow(SQLModel, table=True):
    """Which blobs belong to a study, so that only its sites and its owner may read them."""

    __tablename__: ClassVar[str] = "study_blob"
    study: str = Field(primary_key=True)
    sha256: str = Field(primary_key=True, index=True)
    kind: str


class PairingRow(SQLModel, table=True):
    """A pairing bundle; the envelope itself is a blob."""

    __tablename__: ClassVar[str] = "pairing"
    study: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    serial: int = Field(primary_key=True)
    pairing_hash: str = Field(unique=True)
    roster_hash: str
    members: str  # JSON list of the sites it holds envelopes for
    blob: str
    received_at: str
    current: bool = True
    renew: bool = False  # a new bundle is wanted, this one is not used any more
    uses: int = 0  # contexts that named it


class RoundRow(SQLModel, table=True):
    """One context from PLANNED to its end."""

    __tablename__: ClassVar[str] = "round"
    __table_args__ = (UniqueConstraint("study", "kind", "number"), Index("round_study_position", "study", "position"))
    id: int | None = Field(default=None, primary_key=True)
    study: str
    kind: str
    purpose: str  # update, statistics, validation, test
    number: int
    position: int | None = None  # order of opening within the study
    state: str = Field(index=True)
    reason: str | None = None
    model: str
    planned_at: str
    ctx_hash: str | None = Field(default=None, unique=True)
    ctx: str | None = None
    opened_at: str | None = None
    upload_until: str | None = None
    extended: bool = False
    grace_until: str | None = None
    expires_at: str | None = None
    closed_at: str | None = None
    stmt: str | None = None
    stmt_hash: str | None = None
    aggregate_sha256: str | None = None
    tail: str | None = None
    result_model: str | None = None
    metrics: str | None = None
    outcome: str | None = None
    outcome_index: int | None = None
    log_index: int | None = None
    ended_at: str | None = None


class UploadRow(SQLModel, table=True):
    """A masked update whose manifest was accepted; the masked bytes are files until the round ends."""

    __tablename__: ClassVar[str] = "upload"
    ctx_hash: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    manifest_hash: str
    envelope: bytes
    byte_count: int
    received_at: str


class RefusalRow(SQLModel, table=True):
    """A hospital's reasoned no to a context."""

    __tablename__: ClassVar[str] = "refusal"
    ctx_hash: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    code: str
    detail: str


class DecisionRow(SQLModel, table=True):
    """A signed decision; t of them are the certificate."""

    __tablename__: ClassVar[str] = "decision"
    ctx_hash: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    envelope: bytes


class ResponseRow(SQLModel, table=True):
    """That a site answered the unmask request; its shares stay sealed to the coordinator, until the round ends."""

    __tablename__: ClassVar[str] = "response"
    ctx_hash: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    payload_hash: str
    sealed: bytes | None = None


class AttestationRow(SQLModel, table=True):
    """A site computed the same model version itself."""

    __tablename__: ClassVar[str] = "attestation"
    study: str = Field(primary_key=True)
    ctx_hash: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    model: str
    envelope: bytes


class ComplaintRow(SQLModel, table=True):
    """Evidence that a share blob or an envelope did not open."""

    __tablename__: ClassVar[str] = "complaint"
    digest: str = Field(primary_key=True)
    site: str
    about: str
    ctx_hash: str | None = Field(default=None, index=True)
    pairing_hash: str | None = None
    code: str


class StatementRow(SQLModel, table=True):
    """Every accepted site statement: what makes a repeated PUT get the same receipt, and a reused seq a conflict."""

    __tablename__: ClassVar[str] = "statement"
    __table_args__ = (UniqueConstraint("site", "seq"),)
    digest: str = Field(primary_key=True)
    site: str
    seq: int
    kind: str
    log_index: int
    leaf_hash: str
    accepted_at: str


class ModelVersionRow(SQLModel, table=True):
    """A published model version (round 0: the initial model)."""

    __tablename__: ClassVar[str] = "model_version"
    study: str = Field(primary_key=True)
    sha256: str = Field(primary_key=True)
    round: int
    published_at: str
    metrics: str | None = None
    test_metrics: str | None = None


class AskedRow(SQLModel, table=True):
    """Deterministic tail items asked so far: once per study, model version and item (PROTOCOLS R0, ADR 0004)."""

    __tablename__: ClassVar[str] = "asked"
    study: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    ctx_hash: str
