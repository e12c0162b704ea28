"""Sites, operators, rosters, studies, pairings, rounds."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asked",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study", "model", "item"),
    )
    op.create_table(
        "attestation",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study", "ctx_hash", "site"),
    )
    op.create_table(
        "complaint",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.Column("ctx_hash", sa.String(), nullable=True),
        sa.Column("pairing_hash", sa.String(), nullable=True),
        sa.Column("code", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index(op.f("ix_complaint_ctx_hash"), "complaint", ["ctx_hash"], unique=False)
    op.create_table(
        "decision",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ctx_hash", "site"),
    )
    op.create_table(
        "invitation",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("request_digest", sa.String(), nullable=True),
        sa.Column("request", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash"),
        sa.UniqueConstraint("request_id"),
    )
    op.create_index(op.f("ix_invitation_site"), "invitation", ["site"], unique=False)
    op.create_table(
        "model_version",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.String(), nullable=False),
        sa.Column("metrics", sa.String(), nullable=True),
        sa.Column("test_metrics", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("study", "sha256"),
    )
    op.create_table(
        "operator",
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=True),
        sa.Column("removed_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("operator"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_table(
        "pairing",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("pairing_hash", sa.String(), nullable=False),
        sa.Column("roster_hash", sa.String(), nullable=False),
        sa.Column("members", sa.String(), nullable=False),
        sa.Column("blob", sa.String(), nullable=False),
        sa.Column("received_at", sa.String(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("renew", sa.Boolean(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("study", "site", "serial"),
        sa.UniqueConstraint("pairing_hash"),
    )
    op.create_table(
        "refusal",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("ctx_hash", "site"),
    )
    op.create_table(
        "response",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("payload_hash", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("ctx_hash", "site"),
    )
    op.create_table(
        "roster",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("roster_hash", sa.String(), nullable=False),
        sa.Column("roster", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.String(), nullable=False),
        sa.Column("activated_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("version"),
        sa.UniqueConstraint("roster_hash"),
    )
    op.create_table(
        "roster_approval",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("version", "site"),
    )
    op.create_table(
        "round",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("planned_at", sa.String(), nullable=False),
        sa.Column("ctx_hash", sa.String(), nullable=True),
        sa.Column("ctx", sa.String(), nullable=True),
        sa.Column("opened_at", sa.String(), nullable=True),
        sa.Column("upload_until", sa.String(), nullable=True),
        sa.Column("extended", sa.Boolean(), nullable=False),
        sa.Column("grace_until", sa.String(), nullable=True),
        sa.Column("expires_at", sa.String(), nullable=True),
        sa.Column("closed_at", sa.String(), nullable=True),
        sa.Column("stmt", sa.String(), nullable=True),
        sa.Column("stmt_hash", sa.String(), nullable=True),
        sa.Column("aggregate_sha256", sa.String(), nullable=True),
        sa.Column("tail", sa.String(), nullable=True),
        sa.Column("result_model", sa.String(), nullable=True),
        sa.Column("metrics", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("outcome_index", sa.Integer(), nullable=True),
        sa.Column("log_index", sa.Integer(), nullable=True),
        sa.Column("ended_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("ctx_hash"),
        sa.UniqueConstraint("study", "kind", "number"),
    )
    op.create_index(op.f("ix_round_state"), "round", ["state"], unique=False)
    op.create_index("round_study_position", "round", ["study", "position"], unique=False)
    op.create_table(
        "site",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("legal", sa.String(), nullable=False),
        sa.Column("idk", sa.LargeBinary(), nullable=True),
        sa.Column("log_key", sa.LargeBinary(), nullable=True),
        sa.Column("kem_mlkem768", sa.LargeBinary(), nullable=True),
        sa.Column("kem_x25519", sa.LargeBinary(), nullable=True),
        sa.Column("kem_seq", sa.Integer(), nullable=False),
        sa.Column("kem_attest", sa.LargeBinary(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=True),
        sa.Column("certificate", sa.LargeBinary(), nullable=True),
        sa.Column("certificate_serial", sa.String(), nullable=True),
        sa.Column("certificate_not_after", sa.String(), nullable=True),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("superseded", sa.String(), nullable=False),
        sa.Column("barred", sa.String(), nullable=True),
        sa.Column("last_seen_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("site"),
    )
    op.create_table(
        "statement",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("leaf_hash", sa.String(), nullable=False),
        sa.Column("accepted_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("site", "seq"),
    )
    op.create_table(
        "study",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("submitted_at", sa.String(), nullable=False),
        sa.Column("started_at", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("model_round", sa.Integer(), nullable=False),
        sa.Column("failed_on_model", sa.Integer(), nullable=False),
        sa.Column("best_model", sa.String(), nullable=True),
        sa.Column("best_round", sa.Integer(), nullable=True),
        sa.Column("best_metrics", sa.String(), nullable=True),
        sa.Column("test_metrics", sa.String(), nullable=True),
        sa.Column("statistics", sa.String(), nullable=True),
        sa.Column("prev", sa.String(), nullable=True),
        sa.Column("outcome_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("study"),
    )
    op.create_table(
        "study_approval",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study", "site"),
    )
    op.create_table(
        "study_blob",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study", "sha256"),
    )
    op.create_index(op.f("ix_study_blob_sha256"), "study_blob", ["sha256"], unique=False)
    op.create_table(
        "upload",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("manifest_hash", sa.String(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("byte_count", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("ctx_hash", "site"),
    )


def downgrade() -> None:
    raise RuntimeError("what hospitals signed is not taken back")
