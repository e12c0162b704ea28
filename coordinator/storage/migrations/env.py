"""Alembic's entry point: it migrates the connection that `schema.py` hands over."""

from alembic import context
from sqlmodel import SQLModel

from coordinator.storage import log_tables, operator_tables, tables

# The classes register themselves when they are imported; naming the modules here keeps the imports.
TABLE_MODULES = (tables, log_tables, operator_tables)

context.configure(
    connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
