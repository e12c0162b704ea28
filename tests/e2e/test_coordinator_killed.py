"""kill -9 of the coordinator in every state that waits for sites: it goes on where it was; deliveries are kept."""

import pytest

from tests.support.federation_fixture import Scene, prepared_scene
from tests.support.reference import assert_model_is_the_mean_of
from workbench.rehearsal.federation import Federation

STUDY = "killed-coordinator"
ALL = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def scene(federation: Federation) -> Scene:
    return prepared_scene(federation, STUDY, grace_seconds=30)


def kill_and_restart(scene: Scene) -> None:
    scene.federation.coordinator.kill()
    scene.federation.start_coordinator()


def test_killed_while_open(scene: Scene) -> None:
    ctx = scene.open_round("d")
    scene.wait_uploaded(ctx, "a", "b", "c")
    scene.suspend("a", "b", "c")  # so that nobody can upload a second time
    kill_and_restart(scene)
    one = scene.round(ctx)
    assert (one.state, one.uploaded) == ("OPEN", ["a", "b", "c"])
    scene.resume(*ALL)
    one = scene.wait_published(ctx)
    assert one.survivors == list(ALL)
    assert_model_is_the_mean_of(scene, one, *ALL)


def test_killed_while_closing(scene: Scene) -> None:
    ctx = scene.open_round("c")
    scene.wait_uploaded(ctx, "a", "b", "d")
    scene.suspend("a", "b")
    scene.resume("c")
    scene.wait_doing("decided", "c", "d")
    kill_and_restart(scene)
    one = scene.round(ctx)
    assert (one.state, one.uploaded) == ("CLOSING", list(ALL))
    scene.resume("a", "b")
    assert_model_is_the_mean_of(scene, scene.wait_published(ctx), *ALL)


def test_killed_while_unmasking(scene: Scene) -> None:
    ctx = scene.open_round("c")
    scene.wait_uploaded(ctx, "a", "b", "d")
    scene.suspend("a", "b")
    scene.resume("c")
    scene.wait_doing("decided", "c", "d")
    scene.suspend("c")
    scene.resume("a")
    scene.wait_doing("unmasked", "a", "d")
    kill_and_restart(scene)
    assert scene.round(ctx).state == "UNMASKING"
    scene.resume("b", "c")
    assert_model_is_the_mean_of(scene, scene.wait_published(ctx), *ALL)


def test_killed_between_rounds_keeps_every_finished_round(scene: Scene) -> None:
    with scene.federation.client() as client:
        before = client.study(STUDY)
        model = client.blob(before.model)
        scene.federation.coordinator.kill()
        scene.federation.start_coordinator()
        after = client.study(STUDY)
        assert after == before
        assert client.blob(after.model) == model
    ctx = scene.open_round("d")
    scene.resume("d")
    assert scene.wait_published(ctx).survivors == list(ALL)
