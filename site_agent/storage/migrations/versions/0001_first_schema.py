"""The first schema: identity, signed messages, outbox, rosters, studies, pairings, rounds, outcomes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("manifest", sa.String(), nullable=False),
        sa.Column("registered_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "enrolment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("federation", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("pin", sa.String(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("idk", sa.LargeBinary(), nullable=False),
        sa.Column("idk_seed", sa.LargeBinary(), nullable=False),
        sa.Column("log_key", sa.LargeBinary(), nullable=False),
        sa.Column("log_seed", sa.LargeBinary(), nullable=False),
        sa.Column("kem_mlkem768", sa.LargeBinary(), nullable=False),
        sa.Column("kem_x25519", sa.LargeBinary(), nullable=False),
        sa.Column("kem_seeds", sa.LargeBinary(), nullable=False),
        sa.Column("kem_seq", sa.Integer(), nullable=False),
        sa.Column("tls_key", sa.LargeBinary(), nullable=False),
        sa.Column("tls_password", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=True),
        sa.Column("coordinator_idk", sa.LargeBinary(), nullable=True),
        sa.Column("coordinator_log_vkey", sa.String(), nullable=True),
        sa.CheckConstraint("id = 1", name="one_enrolment"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "fact",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "instance",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("instance"),
    )
    op.create_table(
        "model_version",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study", "model"),
    )
    op.create_table(
        "notice",
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("first_at", sa.String(), nullable=False),
        sa.Column("last_at", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("code", "subject"),
    )
    op.create_table(
        "outcome",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("outcome_hash", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("study", "index"),
        sa.UniqueConstraint("ctx_hash"),
    )
    op.create_table(
        "own_metric",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("metrics", sa.String(), nullable=False),
        sa.Column("computed_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("ctx_hash"),
    )
    op.create_table(
        "pairing",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("pairing_hash", sa.String(), nullable=False),
        sa.Column("roster_hash", sa.String(), nullable=False),
        sa.Column("members", sa.String(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=True),
        sa.Column("made_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study", "serial"),
        sa.UniqueConstraint("pairing_hash"),
    )
    op.create_table(
        "peer_pairing",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("pairing_hash", sa.String(), nullable=False),
        sa.Column("roster_hash", sa.String(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("code", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("study", "site", "serial"),
        sa.UniqueConstraint("study", "pairing_hash"),
    )
    op.create_table(
        "refusal",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("refused_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("ctx_hash"),
    )
    op.create_table(
        "released_item",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study", "model", "item"),
    )
    op.create_table(
        "roster",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("roster_hash", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("approvals", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
        sa.UniqueConstraint("roster_hash"),
    )
    op.create_table(
        "round",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("ctx", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("expires", sa.String(), nullable=False),
        sa.Column("upload_until", sa.String(), nullable=True),
        sa.Column("bound_at", sa.String(), nullable=False),
        sa.Column("wiped_because", sa.String(), nullable=True),
        sa.CheckConstraint(
            "state IN ('BOUND', 'TRAINED', 'SEALED', 'SENT', 'DECIDED', 'RELEASED', 'WIPED')", name="round_state"
        ),
        sa.PrimaryKeyConstraint("ctx_hash"),
        sa.UniqueConstraint("study", "round", "kind"),
    )
    op.create_index(op.f("ix_round_state"), "round", ["state"], unique=False)
    op.create_table(
        "signed_message",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("prev", sa.String(), nullable=False),
        sa.Column("signed_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("prev"),
    )
    op.create_table(
        "statistics",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("statistics", sa.String(), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("study"),
    )
    op.create_table(
        "study",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("study"),
    )
    op.create_table(
        "attestation",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["seq"],
            ["signed_message.seq"],
        ),
        sa.PrimaryKeyConstraint("study", "round"),
    )
    op.create_table(
        "decision",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("statement_hash", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ctx_hash"],
            ["round.ctx_hash"],
        ),
        sa.ForeignKeyConstraint(
            ["seq"],
            ["signed_message.seq"],
        ),
        sa.PrimaryKeyConstraint("ctx_hash"),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("ctx_hash", sa.String(), nullable=True),
        sa.Column("study", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("log_index", sa.Integer(), nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["seq"],
            ["signed_message.seq"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index(op.f("ix_outbox_ctx_hash"), "outbox", ["ctx_hash"], unique=False)
    op.create_index(op.f("ix_outbox_state"), "outbox", ["state"], unique=False)
    op.create_table(
        "release",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("statement_hash", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ctx_hash"],
            ["round.ctx_hash"],
        ),
        sa.ForeignKeyConstraint(
            ["seq"],
            ["signed_message.seq"],
        ),
        sa.PrimaryKeyConstraint("ctx_hash"),
    )
    op.create_table(
        "study_approval",
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("decided_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"],
            ["dataset.name"],
        ),
        sa.PrimaryKeyConstraint("study"),
    )
    op.create_table(
        "upload",
        sa.Column("ctx_hash", sa.String(), nullable=False),
        sa.Column("manifest_hash", sa.String(), nullable=False),
        sa.Column("own_shares", sa.LargeBinary(), nullable=True),
        sa.Column("chunk_sha256", sa.String(), nullable=False),
        sa.Column("upload_bytes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ctx_hash"],
            ["round.ctx_hash"],
        ),
        sa.PrimaryKeyConstraint("ctx_hash"),
        sa.UniqueConstraint("manifest_hash"),
    )


def downgrade() -> None:
    raise RuntimeError("what a site signed must not be forgotten: there is no way back from the first schema")
