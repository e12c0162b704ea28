"""kill -9 of one site in every phase: the round completes with the survivors' sum, and the site comes back.

Four sites, t = 3. A phase is held open by suspending (SIGSTOP) other sites, so that nothing depends on timing.
"""

import pytest

from tests.support.federation_fixture import Scene, prepared_scene
from tests.support.reference import assert_model_is_the_mean_of
from workbench.rehearsal.federation import Federation

STUDY = "killed-sites"


@pytest.fixture(scope="module")
def scene(federation: Federation) -> Scene:
    return prepared_scene(federation, STUDY, grace_seconds=20)


def test_killed_before_its_upload(scene: Scene) -> None:
    ctx = scene.open_round("d")
    scene.wait_uploaded(ctx, "a", "b", "c")
    scene.federation.agents["d"].kill()
    one = scene.wait_published(ctx)
    assert one.survivors == ["a", "b", "c"]
    assert_model_is_the_mean_of(scene, one, "a", "b", "c")
    scene.bring_back("d")


def test_killed_after_its_upload_before_the_decision(scene: Scene) -> None:
    ctx = scene.open_round("c")
    scene.wait_uploaded(ctx, "a", "b", "d")
    scene.federation.agents["d"].kill()
    scene.resume("c")
    one = scene.wait_published(ctx)
    assert one.survivors == ["a", "b", "c", "d"]  # what was delivered is kept
    assert_model_is_the_mean_of(scene, one, "a", "b", "c", "d")
    scene.bring_back("d")


def test_killed_after_the_decision_before_the_unmask_message(scene: Scene) -> None:
    ctx = scene.open_round("c")
    scene.wait_uploaded(ctx, "a", "b", "d")
    scene.suspend("a", "b")
    scene.resume("c")
    scene.wait_doing("decided", "c", "d")
    assert scene.round(ctx).state == "CLOSING"  # two decisions of the three it takes
    scene.federation.agents["d"].kill()
    scene.resume("a", "b")
    one = scene.wait_published(ctx)
    assert one.survivors == ["a", "b", "c", "d"]
    assert_model_is_the_mean_of(scene, one, "a", "b", "c", "d")
    scene.bring_back("d")


def test_killed_after_its_release(scene: Scene) -> None:
    ctx = scene.open_round("c")
    scene.wait_uploaded(ctx, "a", "b", "d")
    scene.suspend("a", "b")
    scene.resume("c")
    scene.wait_doing("decided", "c", "d")
    scene.suspend("c")
    scene.resume("a")
    scene.wait_doing("unmasked", "a", "d")
    assert scene.round(ctx).state == "UNMASKING"  # two of the three messages it takes
    scene.federation.agents["d"].kill()
    scene.resume("b", "c")
    one = scene.wait_published(ctx)
    assert one.survivors == ["a", "b", "c", "d"]
    assert_model_is_the_mean_of(scene, one, "a", "b", "c", "d")
    scene.bring_back("d")


def test_two_killed_sites_leave_the_round_to_a_retry(scene: Scene) -> None:
    ctx = scene.open_round("c", "d")
    scene.wait_uploaded(ctx, "a", "b")
    for site in ("c", "d"):
        scene.federation.agents[site].kill()
    assert scene.round(ctx).state == "OPEN"  # two uploads are never enough for a sum
    scene.bring_back("c", "d")
    one = scene.wait_published(ctx)
    assert set(one.survivors) >= {"a", "b"}
    assert len(one.survivors) >= 3
