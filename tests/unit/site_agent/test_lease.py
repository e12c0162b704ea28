"""One agent per folder, one instance per identity (ADR 0006)."""

import pytest

from shared.errors import Unavailable
from site_agent.lease import FolderLock, Instance
from tests.support.fake_coordinator import START
from tests.support.hospitals import Hospitals


def test_a_second_agent_on_the_folder_does_not_start(hospitals: Hospitals) -> None:
    path = hospitals["site-a"].folder.lock
    with FolderLock(path), pytest.raises(Unavailable, match=r"^state_in_use:"), FolderLock(path):
        raise AssertionError("two agents hold one folder")
    with FolderLock(path):
        assert path.exists()


def test_a_restart_offers_the_instance_the_coordinator_knows(hospitals: Hospitals) -> None:
    database = hospitals["site-a"].database
    first = Instance(database, START)
    assert first.previous == ""
    first.confirm()
    second = Instance(database, START)
    assert (second.previous, second.id != first.id) == (first.id, True)
    second.confirm()
    assert Instance(database, START).previous == second.id


def test_an_instance_that_nobody_saw_does_not_lock_the_site_out(hospitals: Hospitals) -> None:
    """Killed between start and first poll, once or twice: the last id the coordinator knows is still offered."""
    database = hospitals["site-a"].database
    known = Instance(database, START)
    known.confirm()
    lost = [Instance(database, START), Instance(database, START)]
    now = Instance(database, START)
    assert now.previous == lost[1].id
    assert now.rejected()
    assert now.previous == lost[0].id
    assert now.rejected()
    assert now.previous == known.id
    assert not now.rejected(), "then it is a conflict indeed"


def test_a_confirmed_instance_that_is_rejected_was_superseded(hospitals: Hospitals) -> None:
    database = hospitals["site-a"].database
    Instance(database, START)
    instance = Instance(database, START)
    instance.confirm()
    assert not instance.rejected()
