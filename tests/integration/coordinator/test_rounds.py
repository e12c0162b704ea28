"""Whole rounds with scripted sites: the published sum is exactly the survivors', whatever happens."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.coordinator_scene import Scene, new_scene


@pytest.fixture
def scene(tmp_path: Path):
    made = new_scene(tmp_path)
    made.enrol_all()
    made.activate_roster()
    yield made
    made.close()


def test_a_study_runs_to_its_end(scene: Scene) -> None:
    plan = scene.submit(training={"rounds": 2})
    scene.start(plan)
    for _ in range(20):
        for site in scene.sites.values():
            site.work()
        scene.drain()
        if scene.study(plan).state == "finished":
            break
    view = scene.study(plan)
    assert view.state == "finished", view.reason
    assert [one.state for one in view.rounds] == ["PUBLISHED"] * 4
    print(view)
