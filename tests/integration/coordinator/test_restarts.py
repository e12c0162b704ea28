"""A crash in every state of a round: new objects on the same directory resume where it was, with the exact sum."""

from typing import Any

import numpy as np
import pytest

from coordinator.rounds import aggregate, close, sweep
from shared.protocol.study import Plan
from tests.support.coordinator_scene import SITES, Scene

Running = tuple[Scene, Plan]


class Crashed(BaseException):
    """The process is gone; nothing may catch this and tidy up."""


def counted(scene: Scene, round_: Any) -> list[str]:
    words = np.frombuffer(scene.blob(round_.aggregate_sha256), "<i4", count=round_.ctx.d)
    return [name for name, word in zip(SITES, words[:4].tolist(), strict=True) for _ in range(word)]


def work(scene: Scene, *skip: str) -> None:
    for site in scene.sites.values():
        site.work(skip=skip)
    scene.drain()


def run_out(scene: Scene, plan: Plan) -> Any:
    """Let everybody work until the first round has ended; return it."""
    for _ in range(6):
        if scene.contexts(plan)[0].state == "PUBLISHED":
            break
        work(scene, "pairing")
    return scene.contexts(plan)[0]


def test_while_planned(scene: Scene) -> None:
    plan = scene.submit()
    for site in scene.sites.values():
        site.approve_study(plan)
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    assert scene.contexts(plan) == []
    scene.restart()
    scene.pair()
    done = run_out(scene, plan)
    assert (done.state, done.number, counted(scene, done)) == ("PUBLISHED", 1, list(SITES))


def test_while_open_with_half_an_upload(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    scene.sites["site-a"].upload(ctx)
    scene.sites["site-b"].put_chunk(ctx, 0)
    scene.restart()
    listed = scene.sites["site-b"].call("GET", f"/v1/rounds/{ctx.ctx_hash}/uploads/site-b")
    assert b'"0"' in listed
    scene.sites["site-b"].put_shares(ctx)
    scene.sites["site-b"].put_manifest(ctx)
    done = run_out(scene, plan)
    assert (done.ctx_hash, counted(scene, done)) == (ctx.ctx_hash, list(SITES))


def test_while_open_after_the_last_upload(running: Running) -> None:
    """The manifest of the last site was committed, its answer lost: it is sent again and gets the same receipt."""
    scene, plan = running
    ctx = scene.live(plan).ctx
    answers = {name: site.upload(ctx) for name, site in scene.sites.items()}
    scene.restart()
    assert {name: site.put_manifest(ctx) for name, site in scene.sites.items()} == answers
    assert counted(scene, run_out(scene, plan)) == list(SITES)


@pytest.mark.parametrize("decided", [0, 2])
def test_while_closing(running: Running, decided: int) -> None:
    scene, plan = running
    work(scene, "close", "unmask")
    for name in SITES[:decided]:
        scene.sites[name].work(skip=("unmask",))
    assert scene.live(plan).state == "CLOSING"
    scene.restart()
    assert scene.live(plan).state == "CLOSING"
    assert counted(scene, run_out(scene, plan)) == list(SITES)


@pytest.mark.parametrize("released", [0, 2])
def test_while_certified_and_unmasking(running: Running, released: int) -> None:
    scene, plan = running
    work(scene, "close", "unmask")
    work(scene, "unmask")
    for name in SITES[:released]:
        scene.sites[name].work()
    scene.drain()
    assert scene.live(plan).state == ("UNMASKING" if released else "CERTIFIED")
    scene.restart()
    assert counted(scene, run_out(scene, plan)) == list(SITES)


def crash_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, after: bool = False) -> None:
    actual = getattr(module, name)

    def crash(*arguments: Any, **more: Any) -> Any:
        if after:
            actual(*arguments, **more)
        raise Crashed(name)

    monkeypatch.setattr(module, name, crash)


@pytest.mark.parametrize(
    ("module", "name", "after", "state"),
    [
        (aggregate, "aggregate", False, "UNMASKING"),
        (aggregate, "aggregate", True, "UNMASKING"),  # the blob is there, the row is not
        (aggregate, "accept_sum", True, "UNMASKING"),  # rolled back
        (sweep, "_result", False, "AGGREGATED"),
        (close, "publish", False, "AGGREGATED"),
        (close, "publish", True, "AGGREGATED"),  # everything was written and rolled back
    ],
)
def test_while_the_sum_is_made(
    running: Running, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, after: bool, state: str
) -> None:
    scene, plan = running
    work(scene, "close", "unmask")
    work(scene, "unmask")
    crash_at(monkeypatch, module, name, after=after)
    with pytest.raises(Crashed):
        work(scene)
    monkeypatch.undo()
    assert scene.contexts(plan)[0].state == state
    size = len(scene.entries())
    scene.restart()
    done = run_out(scene, plan)
    assert counted(scene, done) == list(SITES)
    results = [entry for entry in scene.entries() if entry["type"] == "round.result"]
    assert len(results) == 1
    assert len(scene.entries()) > size
    assert [one.number for one in scene.contexts(plan)] == [1, 2]


def test_after_publishing_but_before_the_files_are_gone(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, plan = running
    work(scene, "close", "unmask")
    work(scene, "unmask")
    crash_at(monkeypatch, type(scene.coordinator.uploads), "wipe")
    with pytest.raises(Crashed):
        work(scene)
    monkeypatch.undo()
    assert scene.coordinator.uploads.contexts() != []
    scene.restart()
    assert scene.coordinator.uploads.contexts() == []
    done = scene.contexts(plan)[0]
    assert (done.state, counted(scene, done)) == ("PUBLISHED", list(SITES))


def test_a_late_upload_that_a_crash_left_behind_is_deleted_unread(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    scene.sites["site-c"].put_chunk(ctx, 0)
    for name in ("site-a", "site-b", "site-d"):
        scene.sites[name].upload(ctx)
    crash_at(monkeypatch, type(scene.coordinator.uploads), "wipe_site")
    with pytest.raises(Crashed):
        scene.pass_time(5)
    monkeypatch.undo()
    folder = scene.coordinator.uploads.folder(ctx.ctx_hash, "site-c")
    assert folder.exists()
    scene.restart()
    assert not folder.exists()
    assert counted(scene, run_out(scene, plan)) == ["site-a", "site-b", "site-d"]


def test_a_round_goes_on_through_a_restart_before_every_single_step(scene: Scene) -> None:
    plan = scene.submit(training={"rounds": 1})
    for site in scene.sites.values():
        site.approve_study(plan)
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    for _ in range(16):
        for site in scene.sites.values():
            scene.restart()
            site.work()
        if scene.study(plan).state == "finished":
            break
    view = scene.study(plan)
    assert view.state == "finished"
    assert [one.state for one in view.rounds] == ["PUBLISHED"] * 3
    assert counted(scene, scene.contexts(plan)[0]) == list(SITES)
