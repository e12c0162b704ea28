"""Finding a study's newest entry, so that every entry of a study names the one before it."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_log_leaf_study", "log_leaf", ["study", "idx"], unique=False)


def downgrade() -> None:
    raise RuntimeError("an audit log is not taken back")
