"""What each witness cosigned last is found at once, however many heads there were."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("log_cosig_by_site", "log_cosig", ["site", "size"])


def downgrade() -> None:
    raise RuntimeError("an audit log is not taken back")
