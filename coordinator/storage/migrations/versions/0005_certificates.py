"""Sites keep their last certificate for a moment after a renewal, so that requests under way are not cut off."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("site", sa.Column("previous_serial", sa.String(), nullable=True))
    op.add_column("site", sa.Column("renewed_at", sa.String(), nullable=True))
