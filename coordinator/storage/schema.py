"""Migrations: applied by `init`, and by `serve` on a database of an older release; a newer database is refused."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData
from sqlmodel import SQLModel

from coordinator.storage import log_tables, tables
from coordinator.storage.database import Database
from shared.errors import InputError

# The classes register themselves when they are imported; naming the modules here keeps the imports.
TABLE_MODULES = (tables, log_tables)
METADATA: MetaData = SQLModel.metadata
_FOLDER = Path(__file__).parent / "migrations"


def newest_revision() -> str:
    """Return the revision this release's code is written for."""
    head = ScriptDirectory(str(_FOLDER)).get_current_head()
    return head or ""


def current_revision(database: Database) -> str | None:
    """Return the revision the database is at; None for an empty one."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(database: Database) -> None:
    """Bring the database to this release's schema; does nothing when it is there.

    Raises:
        InputError: ``state_newer`` when a newer release has migrated it.
    """
    current = current_revision(database)
    if current == newest_revision():
        return
    known = {script.revision for script in ScriptDirectory(str(_FOLDER)).walk_revisions()}
    if current is not None and current not in known:
        raise InputError(
            "state_newer", f"{database.path} is at schema {current}, this release knows {newest_revision()}"
        )
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(config, "head")
        if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
            connection.exec_driver_sql("COMMIT")
