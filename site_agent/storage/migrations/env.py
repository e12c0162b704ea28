"""Alembic's entry point: it migrates the connection that `schema.py` hands over."""

from alembic import context

from site_agent.storage.tables import SiteTable

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SiteTable.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
