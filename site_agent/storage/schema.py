"""Migrations: every command of `mitral-site` brings the state directory to its own release's schema first."""

from pathlib import Path

from shared.errors import InputError
from site_agent.storage.database import Database

NEWEST = "0005"  # a test compares it with the newest file in `migrations/versions`
_FOLDER = Path(__file__).parent / "migrations"


def current_revision(database: Database) -> str | None:
    """Return the revision the database is at; None for an empty one."""
    with database.reading("read schema revision") as tx:
        if tx.value("SELECT name FROM sqlite_master WHERE name = 'alembic_version'") is None:
            return None
        found = tx.value("SELECT version_num FROM alembic_version")
        return None if found is None else str(found)


def migrate(database: Database) -> None:
    """Bring the database to this release's schema; does nothing, and loads no Alembic, when it is there.

    Raises:
        InputError: ``state_newer`` when a newer release has migrated it.
    """
    current = current_revision(database)
    if current == NEWEST:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory(str(_FOLDER)).walk_revisions()}
    if current is not None and current not in known:
        raise InputError("state_newer", f"{database.path} is at schema {current}, this release knows {NEWEST}")
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(config, "head")
        if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
            connection.exec_driver_sql("COMMIT")
