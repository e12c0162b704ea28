"""One federation of real processes for all end-to-end tests of kills and restarts: setting it up takes longest."""

from collections.abc import Iterator

import pytest

from tests.support.federation_fixture import started_federation
from workbench.rehearsal.federation import Federation


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with started_federation(tmp_path_factory.mktemp("e2e")) as federation:
        yield federation
