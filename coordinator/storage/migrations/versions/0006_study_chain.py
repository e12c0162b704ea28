"""Finding a study's newest entry, so that every entry of a study names the one before it."""

from alembic import op

from shared.errors import InputError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    studies = op.get_bind().exec_driver_sql("SELECT COUNT(*) FROM log_leaf WHERE study IS NOT NULL").scalar()
    if studies:
        # Entries of a study name the one before them; nothing may be written into entries that stand already.
        raise InputError("state_unsupported", f"{studies} entries about studies were written before they were chained")
    op.create_index("ix_log_leaf_study", "log_leaf", ["study", "idx"], unique=False)


def downgrade() -> None:
    raise RuntimeError("an audit log is not taken back")
