"""One federation, set up once and copied for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hospitals import Hospitals


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    hospitals = Hospitals(tmp_path_factory.mktemp("hospitals") / "prepared").found()
    yield hospitals
    hospitals.close()


@pytest.fixture
def hospitals(_prepared: Hospitals, tmp_path: Path) -> Iterator[Hospitals]:
    """Return four hospitals that are ready for a round."""
    copied = _prepared.copy(tmp_path / "hospitals")
    yield copied
    copied.close()
