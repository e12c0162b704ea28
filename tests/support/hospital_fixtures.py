"""One federation of hospitals, set up once and copied for every test; a conftest imports what it uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hospitals import Hospitals


@pytest.fixture(scope="session")
def prepared_hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    """Return four hospitals that nobody may change."""
    hospitals = Hospitals(tmp_path_factory.mktemp("hospitals") / "prepared").found()
    yield hospitals
    hospitals.close()


@pytest.fixture
def hospitals(prepared_hospitals: Hospitals, tmp_path: Path) -> Iterator[Hospitals]:
    """Return four hospitals of the test's own that are ready for a round."""
    copied = prepared_hospitals.copy(tmp_path / "hospitals")
    yield copied
    copied.close()
