"""A site's state machine, its write-ahead rules W1 to W6, and a kill at every commit and every request of a round."""

import errno
import os
import sqlite3
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.exc import IntegrityError

from shared.canonical import sha256_hex
from shared.errors import InputError, Misuse, Unavailable
from shared.protocol.round_context import Context
from shared.secagg.pair_secrets import mask_seed
from site_agent.rounds import masked_update
from site_agent.rounds.machine import TRANSITIONS, Event, State, is_allowed, next_state
from site_agent.storage import rounds
from site_agent.training.result_file import TrainingResult
from tests.support.hospitals import STUDY, Hospital, Hospitals, Killed, one_hot_sum

# --- the table, every state and every event ---------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), list(product([None, *State], Event)))
def test_every_event_in_every_state_is_allowed_or_refused(state: State | None, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert is_allowed(state, event)
        assert next_state(state, event) == TRANSITIONS[state, event]
    else:
        assert not is_allowed(state, event)
        with pytest.raises(Misuse, match=r"^round_transition:"):
            next_state(state, event)


def test_the_table_keeps_the_promises_of_the_protocol() -> None:
    before_decision = {State.BOUND, State.TRAINED, State.SEALED, State.SENT}
    assert {state for state, event in TRANSITIONS if event is Event.BIND} == {None}
    assert {state for state, event in TRANSITIONS if event is Event.TRAIN} == {State.BOUND}
    assert {state for state, event in TRANSITIONS if event is Event.SEAL} == {State.TRAINED}
    assert {state for state, event in TRANSITIONS if event is Event.DECIDE} == before_decision
    assert {state for state, event in TRANSITIONS if event is Event.RELEASE} == {*before_decision, State.DECIDED}
    assert {state for state, event in TRANSITIONS if event is Event.WIPE} == set(State)
    assert {after for (state, _), after in TRANSITIONS.items() if state is State.WIPED} == {State.WIPED}
    assert {after for (state, _), after in TRANSITIONS.items() if state is State.RELEASED} == {
        State.RELEASED,
        State.WIPED,
    }


# --- W1 to W6 ---------------------------------------------------------------------------------------------------------


def committed(site: Hospital, sql: str) -> list[Any]:
    """Look at what is committed, through a connection that sees nothing else."""
    with sqlite3.connect(site.folder.database) as connection:
        return connection.execute(sql).fetchall()


def watch(site: Hospital, look: Callable[[str], None]) -> None:
    """Call `look` with the name of every point the agent passes."""
    original = site._point

    def point(name: str) -> None:
        look(name)
        original(name)

    site._point = point  # type: ignore[method-assign]
    site.restart()


def test_w1_bound_is_committed_before_a_seed_is_derived(hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    seen: list[Any] = []

    def derive(pair: bytes, ctx_hash: bytes) -> bytes:
        seen.append(committed(site, f"SELECT state FROM round WHERE ctx_hash = '{ctx_hash.hex()}'"))
        return mask_seed(pair, ctx_hash)

    monkeypatch.setattr("site_agent.rounds.masked_update.mask_seed", derive)
    site.step()
    assert seen == [[("TRAINED",)]] * 3
    assert site.state(ctx) == "SENT"


def test_w2_everything_is_on_disk_before_the_first_byte_is_sent(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    seen: list[Any] = []

    def look(name: str) -> None:
        if name.startswith("before PUT") and not seen:
            folder = site.folder.upload(ctx.ctx_hash)
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            pending = committed(site, "SELECT kind FROM outbox WHERE state = 'pending'")
            seen.append((files, committed(site, "SELECT state FROM round"), pending))

    watch(site, look)
    site.step()
    files, states, pending = seen[0]
    assert states == [("SEALED",)]
    assert pending == [("manifest",)]
    round_ = hospitals.coordinator.rounds[ctx.ctx_hash]
    assert files == {"0": round_.chunks["site-a"][0], "shares": round_.shares["site-a"]}
    assert sha256_hex(files["0"]) == round_.manifests["site-a"].body["vec"]["chunk_sha256"][0]


def test_w2_no_mask_secret_is_left_anywhere(hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    secrets: list[bytes] = []
    for name in ("mask_seed", "new_self_secret"):
        original = getattr(masked_update, name)

        def remember(*arguments: Any, original: Any = original) -> bytes:
            secrets.append(original(*arguments))
            return secrets[-1]

        monkeypatch.setattr(masked_update, name, remember)
    site.step()
    assert len(secrets) == 4
    site.database.close()
    for path in site.folder.root.rglob("*"):
        raw = path.read_bytes() if path.is_file() else b""
        assert not any(secret in raw or secret.hex().encode() in raw for secret in secrets), path
    assert site.state(ctx) == "SENT"


@pytest.mark.parametrize(("what", "table"), [("decision", "decision"), ("unmask", "release")])
def test_w3_w4_are_committed_before_they_are_sent(hospitals: Hospitals, what: str, table: str) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    hospitals.coordinator.close(ctx)
    seen: list[Any] = []

    def look(name: str) -> None:
        if name.startswith("before PUT") and f"/{what}/" in name:
            seen.append(committed(site, f'SELECT COUNT(*) FROM "{table}"'))

    watch(site, look)
    hospitals.step()
    hospitals.coordinator.certify(ctx)
    hospitals.step()
    assert seen == [[(1,)]]


def test_w5_one_context_per_study_round_and_kind(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.step()
    other = Context.check({**ctx.as_json(), "expires": "2029-01-01T00:00:00Z"})
    with pytest.raises(IntegrityError), site.database.transaction("bind twice") as tx:
        rounds.add_round(tx, other, upload_until=None, bound_at="2026-11-21T09:00:00Z")
    with pytest.raises(IntegrityError), site.database.transaction("seal twice") as tx:
        rounds.add_released_item(tx, STUDY, ctx.model, "score_histogram", "9" * 64)


def test_w6_nothing_of_a_round_is_left_after_it(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    site = hospitals["site-a"]
    assert not site.folder.work(ctx.ctx_hash).exists(), "the clear update goes when the masked one is sealed"
    hospitals.coordinator.close(ctx)
    hospitals.step()
    hospitals.coordinator.certify(ctx)
    hospitals.step()
    assert site.query("SELECT own_shares FROM upload") == [(None,)], "own shares go when they are released"
    hospitals.coordinator.publish(ctx)
    hospitals.step()
    check_nothing_left(hospitals, ctx)


def check_nothing_left(hospitals: Hospitals, ctx: Context) -> None:
    """Check that no secret and no vector of a finished round is on any site's disk; the tombstone is."""
    for site in hospitals.each():
        assert site.state(ctx) in {"WIPED", None}
        assert not site.folder.work(ctx.ctx_hash).exists()
        assert not site.folder.upload(ctx.ctx_hash).exists()
        assert all(row.own_shares is None for row in site.query("SELECT own_shares FROM upload"))
        pending = "SELECT * FROM outbox WHERE ctx_hash = :c AND state = 'pending'"
        assert site.query(pending, c=ctx.ctx_hash) == []
        assert site.query("SELECT * FROM outbox WHERE state = 'delivered' AND body IS NOT NULL") == []


# --- a kill at every commit and every request -------------------------------------------------------------------------

Phase = Callable[[Hospitals, Context], None]


def _close(hospitals: Hospitals, ctx: Context) -> None:
    hospitals.coordinator.close(ctx)


def _certify(hospitals: Hospitals, ctx: Context) -> None:
    hospitals.coordinator.certify(ctx)


def _publish(hospitals: Hospitals, ctx: Context) -> None:
    hospitals.coordinator.publish(ctx)


PHASES: tuple[Phase, ...] = (_close, _certify, _publish)


def play(hospitals: Hospitals, victim: str, kill_at: int | None, *, late: bool) -> tuple[Context, str | None]:
    """Play a round in which `victim` is killed at its `kill_at`-th point.

    It comes back at once, or (`late`) when the next phase has begun. Returns the context and where it was killed.
    """
    site, ctx = hospitals[victim], hospitals.coordinator.open_round(STUDY)
    site.kill_at = None if kill_at is None else len(site.points) + kill_at
    killed: str | None = None
    for phase in (*PHASES, None):
        for hospital in hospitals.each():
            try:
                hospital.step()
            except Killed as where:
                killed = str(where)
                if not late:
                    hospital.restart()
                    hospital.step()
        if phase is not None:
            phase(hospitals, ctx)
        if killed is not None and late and site.kill_at is not None:
            site.restart()
    site.restart()
    site.step()
    return ctx, killed


def check_round(hospitals: Hospitals, ctx: Context, killed: str) -> None:
    """Check what must hold after any kill."""
    coordinator = hospitals.coordinator
    survivors = coordinator.studies[STUDY].outcomes[-1].outcome.U
    assert len(survivors) >= ctx.m
    assert one_hot_sum(hospitals, ctx, survivors), killed
    assert coordinator.conflicts == [], f"{killed}: something was sent twice with other bytes"
    for site, messages in coordinator.messages.items():
        of_round = [message.kind for message in messages if message.body.get("ctx_hash") == ctx.ctx_hash]
        assert len(of_round) == len(set(of_round)), f"{killed}: {site} sent {of_round}"
        numbers = [message.body["seq"] for message in messages]
        assert numbers == sorted(set(numbers)), f"{killed}: the order of {site}'s messages"
    assert set(coordinator.attestations[ctx.ctx_hash]) == set(hospitals.sites), killed
    check_nothing_left(hospitals, ctx)


def points_of_a_round(hospitals: Hospitals, tmp_path: Path) -> int:
    """Return how many points a site passes in a round that nobody disturbs."""
    copied = hospitals.copy(tmp_path / "count")
    before = len(copied["site-a"].points)
    ctx, killed = play(copied, "site-a", None, late=False)
    assert killed is None
    check_round(copied, ctx, "nobody")
    count = len(copied["site-a"].points[before:])
    copied.close()
    return count


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("part", range(4))
def test_a_site_killed_anywhere_loses_and_doubles_nothing(
    hospitals: Hospitals, tmp_path: Path, late: bool, part: int
) -> None:
    total = points_of_a_round(hospitals, tmp_path)
    places: list[str] = []
    for kill_at in range(part, total, 4):
        copied = hospitals.copy(tmp_path / f"killed-{kill_at}")
        ctx, killed = play(copied, "site-a", kill_at, late=late)
        check_round(copied, ctx, f"killed {killed}")
        places.append(str(killed))
        copied.close()
    assert "None" not in places, "every kill hits something"


# --- failures that are not kills --------------------------------------------------------------------------------------


class FullDisk:
    """Stands in for the module `os`: nothing can be forced to disk."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, _descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_sealing_leaves_nothing_half_done(
    hospitals: Hospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)

    with monkeypatch.context() as patch:
        patch.setattr("site_agent.state_folder.os", FullDisk())
        unfinished = site.step()
    assert unfinished is not None, "it is tried again"
    assert site.state(ctx) == "TRAINED"
    assert list(site.folder.upload(ctx.ctx_hash).iterdir()) == []
    assert hospitals.coordinator.rounds[ctx.ctx_hash].chunks == {}
    site.step()
    assert site.state(ctx) == "SENT"
    assert len(site.trainer.runs) == 1, "the stored result was used"


def test_a_full_database_changes_nothing(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    with site.database.transaction("limit") as tx:
        pages = tx.value("PRAGMA page_count")
        tx.run(f"PRAGMA max_page_count = {pages}")
    blob = b"x" * 10**6
    with pytest.raises(Unavailable, match=r"^disk_full:"), site.database.transaction("fill") as tx:
        tx.run("UPDATE enrolment SET chain = :blob", blob=blob)
    assert site.query("SELECT chain FROM enrolment") == [(b"",)]
    site.restart()
    site.step()
    assert site.state(ctx) == "SENT"


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (InputError("data_changed", "the file is another one"), "data_changed"),
        (InputError("data_missing", "the file is gone"), "data_missing"),
        (Unavailable("training_failed", "the child died twice"), "training_failed"),
        (Unavailable("training_timeout", "no time left"), "training_timeout"),
        (lambda job: TrainingResult(np.full(40, np.nan, np.float32), {"weight": [1]}), "update_not_finite"),
        (lambda job: TrainingResult(np.zeros(39, np.float32), {"weight": [1]}), "result_malformed"),
        (lambda job: TrainingResult(np.zeros(40, np.float32), {"weight": [1]}), "result_malformed"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_reason(hospitals: Hospitals, result: Any, code: str) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY, score=None)
    if callable(result) and code == "result_malformed" and len(result({}).update) == 40:
        ctx = hospitals.coordinator.open_round(STUDY)  # asks for scores that this result does not have
    site.trainer.result = result
    site.step()
    assert site.refusal(ctx) == code
    assert hospitals.coordinator.rounds[ctx.ctx_hash].refusals["site-a"] == code
    assert not site.folder.work(ctx.ctx_hash).exists()
    assert "the file is" not in site.logged.getvalue(), "messages about data may quote it, so they are not logged"
    hospitals.step()
    hospitals.coordinator.close(ctx)
    hospitals.step()
    assert "site-a" in hospitals.coordinator.rounds[ctx.ctx_hash].decisions, "it helps the others to close"
    hospitals.coordinator.certify(ctx)
    hospitals.step()
    hospitals.coordinator.publish(ctx)
    assert one_hot_sum(hospitals, ctx, hospitals.sites[1:])


def test_an_update_that_weighs_more_than_the_cap_is_refused(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY, score=None)
    site.trainer.result = lambda job: TrainingResult(np.zeros(40, np.float32), {"weight": [101]})
    site.step()
    assert site.refusal(ctx) in {"weight_out_of_range", "tail_overflow"}


def test_a_child_that_died_once_gets_a_second_chance(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    attempts: list[int] = []

    def dies_once(job: Any) -> TrainingResult:
        attempts.append(1)
        if len(attempts) == 1:
            raise Unavailable("training_failed", "out of memory")
        return site.trainer.honest(job)

    site.trainer.result = dies_once
    site.step()
    assert site.state(ctx) == "SENT"
    assert len(attempts) == 2


def test_a_round_that_ended_is_wiped_and_late_bytes_stay_here(hospitals: Hospitals) -> None:
    site, ctx = hospitals["site-a"], hospitals.coordinator.open_round(STUDY)
    site.step("open", deliver=False)
    assert site.state(ctx) == "SEALED"
    hospitals.coordinator.end(ctx, "ABANDONED")
    site.step()
    assert site.state(ctx) == "WIPED"
    assert not site.folder.upload(ctx.ctx_hash).exists()
    assert hospitals.coordinator.rounds[ctx.ctx_hash].chunks == {}
    assert site.query("SELECT state FROM outbox WHERE kind = 'manifest'") == [("dropped",)]


def test_training_runs_beside_closing_and_unmasking_of_another_kind(hospitals: Hospitals) -> None:
    """A statistics round is closed and unmasked while a site still trains an update."""
    statistics = hospitals.coordinator.open_round(STUDY, "statistics")
    hospitals.step()
    site = hospitals["site-a"]
    site.desk.held = True
    update = hospitals.coordinator.open_round(STUDY)
    site.step()
    assert site.state(update) == "BOUND"
    hospitals.coordinator.close(statistics)
    hospitals.step("close")
    hospitals.coordinator.certify(statistics)
    hospitals.step("unmask")
    assert site.state(statistics) == "RELEASED"
    assert site.state(update) == "BOUND"
