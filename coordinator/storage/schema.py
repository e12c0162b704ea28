"""Migrations: applied by `init`, and by `serve` on a database of an older release; a newer database is refused.

Alembic and the table classes are imported only when there is something to migrate: a service that starts after a crash
should not wait for them.
"""

from pathlib import Path

from coordinator.storage.database import Database
from shared.errors import InputError

NEWEST = "0006"  # the revision this release's code is written for; a test compares it with the migrations
FOLDER = Path(__file__).parent / "migrations"


def current_revision(database: Database) -> str | None:
    """Return the revision the database is at; None for an empty one."""
    with database.reading("read the schema's revision") as tx:
        if tx.row("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'") is None:
            return None
        found: str | None = tx.value("SELECT version_num FROM alembic_version")
        return found


def migrate(database: Database) -> None:
    """Bring the database to this release's schema; does nothing when it is there.

    Raises:
        InputError: ``state_newer`` when a newer release has migrated it.
    """
    current = current_revision(database)
    if current == NEWEST:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}
    if current is not None and current not in known:
        raise InputError("state_newer", f"{database.path} is at schema {current}, this release knows {NEWEST}")
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(config, "head")
        if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
            connection.exec_driver_sql("COMMIT")
