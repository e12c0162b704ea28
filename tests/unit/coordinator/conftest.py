"""A migrated database and a log in a folder of the test."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.audit import AuditLog
from coordinator.storage.database import Database
from coordinator.storage.schema import migrate
from shared.crypto.identity import SigningKey

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "coordinator.sqlite")
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def log() -> AuditLog:
    return AuditLog("federation-1", SigningKey.from_seed(bytes(32)), SigningKey.from_seed(bytes(31) + b"\x01"))
