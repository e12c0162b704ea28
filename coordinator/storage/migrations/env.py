"""Alembic's entry point: it migrates the connection that `schema.py` hands over."""

from alembic import context
from sqlmodel import SQLModel

from coordinator.storage import tables

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
assert tables.SiteRow.__tablename__ == "site"  # noqa: S101 (the import registers the tables; this line keeps it)
with context.begin_transaction():
    context.run_migrations()
