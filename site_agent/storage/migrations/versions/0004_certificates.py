"""A renewal that was begun and not answered yet; every certificate this site was given."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "renewal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("csr", sa.LargeBinary(), nullable=False),
        sa.Column("tls_key", sa.LargeBinary(), nullable=False),
        sa.Column("tls_password", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", sa.String(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_renewal"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "own_certificate",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("not_after", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
