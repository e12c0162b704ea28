"""The tables, for storage only: values are validated in wire types before they come here (ARCHITECTURE section 9).

Times are RFC 3339 texts (they sort), hashes lowercase hex, JSON is canonical text, sealed columns are marked. They
have a registry of their own, because a rehearsal loads both sides in one process. `migrations/` builds the same schema;
a test compares the two.
"""

from typing import ClassVar

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class SiteTable(SQLModel, registry=registry()):
    """What every table of the site agent derives from."""


class EnrolmentRow(SiteTable, table=True):
    """Who this site is: one row."""

    __tablename__: ClassVar[str] = "enrolment"
    __table_args__ = (CheckConstraint("id = 1", name="one_enrolment"),)
    id: int = Field(default=1, primary_key=True)
    state: str  # requested, pending, approved, revoked
    site: str
    name: str
    federation: str
    url: str
    pin: str
    root: bytes  # DER
    request: bytes  # sealed: the body holds the one-time token, and is sent again as it was
    request_id: str | None = None
    fingerprint: str
    idk: bytes
    idk_seed: bytes  # sealed
    log_key: bytes
    log_seed: bytes  # sealed
    kem_mlkem768: bytes
    kem_x25519: bytes
    kem_seeds: bytes  # sealed
    kem_seq: int
    tls_key: bytes  # encrypted PKCS#8
    tls_password: bytes  # sealed
    chain: bytes | None = None  # PEM, leaf first
    coordinator_idk: bytes | None = None
    coordinator_log_vkey: str | None = None


class RenewalRow(SiteTable, table=True):
    """A renewal that was begun: its key is stored before anything is sent."""

    __tablename__: ClassVar[str] = "renewal"
    __table_args__ = (CheckConstraint("id = 1", name="one_renewal"),)
    id: int = Field(default=1, primary_key=True)
    csr: bytes
    tls_key: bytes  # encrypted PKCS#8
    tls_password: bytes  # sealed
    begun_at: str


class OwnCertificateRow(SiteTable, table=True):
    """A TLS certificate that this site was given."""

    __tablename__: ClassVar[str] = "own_certificate"
    sha256: str = Field(primary_key=True)
    serial: str
    not_after: str


class InstanceRow(SiteTable, table=True):
    """One row per process start (ADR 0006); `confirmed` once the coordinator answered it."""

    __tablename__: ClassVar[str] = "instance"
    number: int | None = Field(default=None, primary_key=True)
    instance: str = Field(unique=True)
    started_at: str
    confirmed: bool = False


class SignedMessageRow(SiteTable, table=True):
    """This site's chain of signed messages (PROTOCOLS section 1, clause 6)."""

    __tablename__: ClassVar[str] = "signed_message"
    seq: int = Field(primary_key=True)
    kind: str
    subject: str
    digest: str = Field(unique=True)
    prev: str = Field(unique=True)
    signed_at: str


class OutboxRow(SiteTable, table=True):
    """A signed message on its way; `body` is what is PUT, always the same bytes."""

    __tablename__: ClassVar[str] = "outbox"
    seq: int = Field(primary_key=True, foreign_key="signed_message.seq")
    kind: str
    path: str
    body: bytes | None = None
    ctx_hash: str | None = Field(default=None, index=True)
    study: str | None = None
    state: str = Field(default="pending", index=True)  # pending, delivered, rejected, dropped
    code: str | None = None
    log_index: int | None = None
    receipt: bytes | None = None


class RosterRow(SiteTable, table=True):
    """A roster version this site has seen."""

    __tablename__: ClassVar[str] = "roster"
    version: int = Field(primary_key=True)
    roster_hash: str = Field(unique=True)
    body: bytes
    approvals: str  # JSON: site -> base64url envelope
    state: str  # known, active, superseded
    approved: bool = False  # by this site's administrator


class StudyRow(SiteTable, table=True):
    """A study that names this site, and its plan once it was fetched and checked."""

    __tablename__: ClassVar[str] = "study"
    study: str = Field(primary_key=True)
    plan_hash: str
    plan: bytes | None = None
    state: str


class StudyApprovalRow(SiteTable, table=True):
    """The steward's word: this study, exactly this plan, this data set; its terms are in the site's own log."""

    __tablename__: ClassVar[str] = "study_approval"
    study: str = Field(primary_key=True)
    plan_hash: str
    dataset: str = Field(foreign_key="dataset.name")
    decision: str  # approve, withdraw
    decided_at: str
    entry: int | None = Field(default=None, foreign_key="journal.number")  # None: from before there were terms


class DatasetRow(SiteTable, table=True):
    """A registered data set: its manifest, never its rows."""

    __tablename__: ClassVar[str] = "dataset"
    name: str = Field(primary_key=True)
    digest: str
    manifest: str
    registered_at: str


class PairingRow(SiteTable, table=True):
    """This site's own bundles (PROTOCOLS A6)."""

    __tablename__: ClassVar[str] = "pairing"
    study: str = Field(primary_key=True)
    serial: int = Field(primary_key=True)
    pairing_hash: str = Field(unique=True)
    roster_hash: str
    members: str  # JSON list
    secrets: bytes | None = None  # sealed; None once erased
    made_at: str


class PeerPairingRow(SiteTable, table=True):
    """A peer's bundle that was verified, with what it sealed to this site."""

    __tablename__: ClassVar[str] = "peer_pairing"
    __table_args__ = (UniqueConstraint("study", "pairing_hash"),)
    study: str = Field(primary_key=True)
    site: str = Field(primary_key=True)
    serial: int = Field(primary_key=True)
    pairing_hash: str
    roster_hash: str
    secret: bytes | None = None  # sealed; None when it did not open or was erased
    code: str | None = None  # why there is no secret


class RoundRow(SiteTable, table=True):
    """A bound context (W1, W5). The row stays as a tombstone after its secrets are wiped."""

    __tablename__: ClassVar[str] = "round"
    __table_args__ = (
        UniqueConstraint("study", "round", "kind"),
        CheckConstraint(
            "state IN ('BOUND', 'TRAINED', 'SEALED', 'SENT', 'DECIDED', 'RELEASED', 'WIPED')", name="round_state"
        ),
    )
    ctx_hash: str = Field(primary_key=True)
    study: str
    round: int
    kind: str
    model: str
    ctx: str  # JSON
    state: str = Field(index=True)
    expires: str
    upload_until: str | None = None  # None: bound only to help with closing
    bound_at: str
    wiped_because: str | None = None


class ReleasedItemRow(SiteTable, table=True):
    """Deterministic content is sealed once (W5, ADR 0004); for statistics `model` is empty."""

    __tablename__: ClassVar[str] = "released_item"
    study: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    item: str = Field(primary_key=True)
    ctx_hash: str


class RefusalRow(SiteTable, table=True):
    """A context this site said no to, once."""

    __tablename__: ClassVar[str] = "refusal"
    ctx_hash: str = Field(primary_key=True)
    study: str
    round: int
    kind: str
    code: str
    detail: str
    refused_at: str


class UploadRow(SiteTable, table=True):
    """What was sealed for a context (W2). Chunks and share blobs are files; own shares stay here, sealed."""

    __tablename__: ClassVar[str] = "upload"
    ctx_hash: str = Field(primary_key=True, foreign_key="round.ctx_hash")
    manifest_hash: str = Field(unique=True)
    own_shares: bytes | None = None  # sealed; None once released or wiped
    chunk_sha256: str  # JSON list
    upload_bytes: int


class DecisionRow(SiteTable, table=True):
    """W3: one decision per context, whatever happens."""

    __tablename__: ClassVar[str] = "decision"
    ctx_hash: str = Field(primary_key=True, foreign_key="round.ctx_hash")
    statement_hash: str
    seq: int = Field(foreign_key="signed_message.seq")
    survivors: str = Field(sa_column_kwargs={"server_default": "[]"})  # JSON list


class ReleaseRow(SiteTable, table=True):
    """W4: one unmask response per context, made from one statement."""

    __tablename__: ClassVar[str] = "release"
    ctx_hash: str = Field(primary_key=True, foreign_key="round.ctx_hash")
    statement_hash: str
    seq: int = Field(foreign_key="signed_message.seq")


class OutcomeRow(SiteTable, table=True):
    """A verified outcome of a study's chain (R5)."""

    __tablename__: ClassVar[str] = "outcome"
    study: str = Field(primary_key=True)
    index: int = Field(primary_key=True)
    ctx_hash: str = Field(unique=True)
    kind: str
    round: int
    outcome_hash: str
    model: str  # newest model version after this outcome
    log_index: int
    survivors: str = Field(sa_column_kwargs={"server_default": "[]"})  # JSON list; empty: from before it was kept


class ModelVersionRow(SiteTable, table=True):
    """A model version this site accepted, and why."""

    __tablename__: ClassVar[str] = "model_version"
    study: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    outcome: int  # the outcome's index; 0 for the plan's initial model
    origin: str  # initial, recomputed, attested


class StatisticsRow(SiteTable, table=True):
    """Federated statistics of a study, recomputed from the published sum."""

    __tablename__: ClassVar[str] = "statistics"
    study: str = Field(primary_key=True)
    statistics: str  # JSON
    outcome: int


class AttestationRow(SiteTable, table=True):
    """One attestation per (study, round)."""

    __tablename__: ClassVar[str] = "attestation"
    study: str = Field(primary_key=True)
    round: int = Field(primary_key=True)
    model: str
    seq: int = Field(foreign_key="signed_message.seq")


class OwnMetricRow(SiteTable, table=True):
    """This site's own figures; they stay here."""

    __tablename__: ClassVar[str] = "own_metric"
    ctx_hash: str = Field(primary_key=True)
    study: str
    round: int
    kind: str
    model: str
    metrics: str  # JSON
    computed_at: str


class NoticeRow(SiteTable, table=True):
    """What a person should see: one row per code and subject, counted."""

    __tablename__: ClassVar[str] = "notice"
    code: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    detail: str
    first_at: str
    last_at: str
    count: int


class JournalRow(SiteTable, table=True):
    """The site's own log: signed, chained, append-only."""

    __tablename__: ClassVar[str] = "journal"
    number: int = Field(primary_key=True)
    at: str = Field(index=True)
    event: str = Field(index=True)
    digest: str = Field(unique=True)
    envelope: bytes


class FactRow(SiteTable, table=True):
    """Single facts about the running agent, for `status`."""

    __tablename__: ClassVar[str] = "fact"
    name: str = Field(primary_key=True)
    value: str


class LogEntryRow(SiteTable, table=True):
    """An entry of the federation's log, as this site holds it."""

    __tablename__: ClassVar[str] = "log_entry"
    idx: int = Field(primary_key=True)
    leaf: bytes


class LogNodeRow(SiteTable, table=True):
    """The hash of a complete subtree of the copy; level 0 has the entries'."""

    __tablename__: ClassVar[str] = "log_node"
    level: int = Field(primary_key=True)
    idx: int = Field(primary_key=True)
    hash: bytes


class LogHeadRow(SiteTable, table=True):
    """The head this site cosigned last; it is here before anybody gets the cosignature."""

    __tablename__: ClassVar[str] = "log_head"
    __table_args__ = (CheckConstraint("id = 1", name="one_head"),)
    id: int = Field(default=1, primary_key=True)
    size: int
    root: bytes
    note: str
    cosigned_at: str


class LogPeerRow(SiteTable, table=True):
    """The newest head of another site that agrees with the copy."""

    __tablename__: ClassVar[str] = "log_peer"
    site: str = Field(primary_key=True)
    size: int
    note: str


class LogReceiptRow(SiteTable, table=True):
    """A receipt whose entry has not turned up in the copy."""

    __tablename__: ClassVar[str] = "log_receipt"
    seq: int = Field(primary_key=True)
    log_index: int
    leaf_hash: str
    waited: int = 0
    alarmed: bool = False


class LogCertificateRow(SiteTable, table=True):
    """A certificate that was issued in this site's name, as the log says."""

    __tablename__: ClassVar[str] = "log_certificate"
    sha256: str = Field(primary_key=True)
    serial: str
    log_index: int
    seen_at: str
    state: str  # new, own, rogue


class LogConflictRow(SiteTable, table=True):
    """Two histories of the log; `file` has the evidence."""

    __tablename__: ClassVar[str] = "log_conflict"
    number: int | None = Field(default=None, primary_key=True)
    code: str
    detail: str
    file: str
    found_at: str
