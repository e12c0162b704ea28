"""Outcomes and decisions keep their survivors, so that two sums that single this hospital out are noticed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decision", sa.Column("survivors", sa.String(), nullable=False, server_default="[]"))
    op.add_column("outcome", sa.Column("survivors", sa.String(), nullable=False, server_default="[]"))
