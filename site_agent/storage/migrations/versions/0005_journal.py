"""The site's own log, and approvals with their limits."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "journal",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_journal_at", "journal", ["at"])
    op.create_index("ix_journal_event", "journal", ["event"])
    with op.batch_alter_table("study_approval") as batch:
        batch.add_column(sa.Column("entry", sa.Integer(), nullable=True))
        batch.create_foreign_key("approval_entry", "journal", ["entry"], ["number"])
    # The log only grows: this resists a slip of the hand, signatures and links make tampering evident.
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER journal_no_{verb.lower()} BEFORE {verb} ON journal "
            "BEGIN SELECT RAISE(ABORT, 'journal is append-only'); END"
        )
