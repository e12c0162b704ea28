"""Alembic's entry point: it migrates the connection that `schema.py` hands over."""

from alembic import context

from coordinator.storage.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
