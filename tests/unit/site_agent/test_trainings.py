"""The desk: one piece of work per study, given up when a later one comes, tried again when it could not be done."""

import io
import threading
from pathlib import Path

import pytest

from shared.errors import Unavailable
from site_agent.logs import make_log
from site_agent.state_folder import StateFolder
from site_agent.trainings import Children, TrainingDesk
from tests.support.hospitals import FakeTrainer

SECONDS = 20.0


@pytest.fixture
def logged() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def desk(logged: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> TrainingDesk:
    monkeypatch.setattr("site_agent.backoff.Backoff.next_seconds", lambda _self, _after=None: 0.01)
    return TrainingDesk(FakeTrainer(0), make_log("debug", logged))


def test_one_context_is_worked_on_once(desk: TrainingDesk) -> None:
    go, done, runs = threading.Event(), threading.Event(), []

    def work() -> None:
        runs.append(1)
        go.wait(SECONDS)
        done.set()

    for _ in range(3):
        desk.start("s", "ctx", work)
    go.set()
    assert done.wait(SECONDS)
    desk.join(SECONDS)
    assert runs == [1]


def test_what_could_not_be_done_is_tried_again(desk: TrainingDesk) -> None:
    done, runs = threading.Event(), []

    def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise Unavailable("disk_full", "no room")
        done.set()

    desk.start("s", "ctx", work)
    assert done.wait(SECONDS)
    assert len(runs) == 3


def test_a_bug_ends_nothing_but_is_seen(desk: TrainingDesk, logged: io.StringIO) -> None:
    done, runs = threading.Event(), []

    def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ZeroDivisionError
        done.set()

    desk.start("s", "ctx", work)
    assert done.wait(SECONDS)
    assert "ZeroDivisionError" in logged.getvalue()


def test_a_later_context_takes_the_place_of_an_earlier_one(logged: io.StringIO) -> None:
    trainer = Stopping(0)
    desk = TrainingDesk(trainer, make_log("debug", logged))
    began, done = threading.Event(), threading.Event()

    def first() -> None:
        began.set()
        assert trainer.was_stopped.wait(SECONDS)
        raise Unavailable("training_stopped", "killed")

    desk.start("s", "one", first)
    assert began.wait(SECONDS)
    desk.start("s", "two", done.set)
    assert done.wait(SECONDS)
    assert trainer.stopped == ["s"]
    desk.start("other", "three", lambda: None)
    desk.give_up("other", "not this one")
    assert trainer.stopped == ["s"]


class Stopping(FakeTrainer):
    """Remembers that it was stopped."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.was_stopped = threading.Event()

    def stop(self, study: str) -> None:
        super().stop(study)
        self.was_stopped.set()


def test_giving_up_kills_the_child_of_that_context_only(logged: io.StringIO) -> None:
    trainer = Stopping(0)
    desk = TrainingDesk(trainer, make_log("debug", logged))
    began = threading.Event()

    def work() -> None:
        began.set()
        assert trainer.was_stopped.wait(SECONDS)
        raise Unavailable("training_stopped", "killed")

    desk.start("s", "ctx", work)
    assert began.wait(SECONDS)
    desk.give_up("s", "another")
    assert trainer.stopped == []
    desk.give_up("s", "ctx")
    desk.join(SECONDS)
    assert trainer.stopped == ["s"]


def test_a_closed_desk_takes_nothing(desk: TrainingDesk) -> None:
    desk.close()
    desk.start("s", "ctx", lambda: pytest.fail("it was started"))
    desk.join(1)


def test_warming_does_not_stand_in_the_way(logged: io.StringIO) -> None:
    class Slow(FakeTrainer):
        def warm(self, study: str) -> None:
            warming.set()
            assert go.wait(SECONDS)

    warming, go, done = threading.Event(), threading.Event(), threading.Event()
    trainer = Slow(0)
    desk = TrainingDesk(trainer, make_log("debug", logged))
    desk.warm("s")
    assert warming.wait(SECONDS)
    desk.start("s", "ctx", done.set)
    assert not done.is_set()
    go.set()
    assert done.wait(SECONDS)
    assert trainer.stopped == [], "the child that was being started is used"
    desk.warm("s")


def test_stopping_what_never_ran_is_nothing(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    children = Children(folder, 1, make_log(stream=io.StringIO()))
    children.stop("s")
    children.stop_all()
