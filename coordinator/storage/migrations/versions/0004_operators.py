"""Several tokens per operator, each with an end; sessions; accounts of people."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_token",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("limits", sa.String(), nullable=True),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.String(), nullable=True),
        sa.Column("authn", sa.String(), nullable=False),
        sa.Column("seen_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("token_id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index(op.f("ix_api_token_operator"), "api_token", ["operator"], unique=False)
    # A token that had no end gets ninety days from now, so that nobody is shut out by the migration itself.
    op.execute(
        "INSERT INTO api_token (token_id, operator, token_hash, name, limits, created_at, expires_at, "
        "revoked_at, authn) "
        "SELECT 'token-' || lower(hex(randomblob(6))), operator, token_hash, 'first', NULL, created_at, "
        "COALESCE(expires_at, strftime('%Y-%m-%dT%H:%M:%S.000Z', 'now', '+90 days')), removed_at, 'token' FROM operator"
    )
    op.execute("ALTER TABLE operator RENAME TO operator_before")
    op.create_table(
        "operator",
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("removed_at", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("operator"),
    )
    op.execute(
        "INSERT INTO operator (operator, role, created_at, removed_at) "
        "SELECT operator, role, created_at, removed_at FROM operator_before"
    )
    op.execute("DROP TABLE operator_before")
    op.create_table(
        "account",
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("totp", sa.LargeBinary(), nullable=False),
        sa.Column("totp_step", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("operator"),
    )
    op.create_table(
        "recovery_code",
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("operator", "code_hash"),
    )
    op.create_table(
        "account_link",
        sa.Column("link_hash", sa.String(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("totp", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("link_hash"),
    )
    op.create_index(op.f("ix_account_link_operator"), "account_link", ["operator"], unique=False)
    op.create_table(
        "oidc_identity",
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("bound_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("operator"),
        sa.UniqueConstraint("issuer", "subject"),
    )
    op.create_table(
        "login_failure",
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.String(), nullable=False),
        sa.Column("locked_until", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("operator"),
    )


def downgrade() -> None:
    raise RuntimeError("a token's end is not taken back")
