"""A coordinator with four enrolled sites and an active roster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.protocol.study import Plan
from tests.support.coordinator_scene import Scene, new_scene


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Make keys, certificates and a roster once; every test goes on from a copy."""
    made = new_scene(tmp_path_factory.mktemp("prepared"))
    made.enrol_all()
    made.activate_roster()
    made.close()
    return made


@pytest.fixture
def scene(prepared: Scene, tmp_path: Path) -> Iterator[Scene]:
    made = prepared.copy_to(tmp_path)
    yield made
    made.close()


@pytest.fixture
def running(scene: Scene) -> tuple[Scene, Plan]:
    """A study whose first round is open."""
    plan = scene.submit()
    scene.start(plan)
    assert scene.live(plan).state == "OPEN"
    return scene, plan
