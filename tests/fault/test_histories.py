"""Named histories: each state of each side killed, messages late, twice, in the wrong order, sites that come and go."""

from typing import Any

import pytest

from site_agent.rounds import masked_update
from tests.fault.faults import Fault, Saboteur
from tests.fault.simulation import Op, Simulation, simulation

SITE_STATES = ("BOUND", "TRAINED", "SEALED", "SENT", "DECIDED", "RELEASED")
ROUND_STATES = ("OPEN", "CLOSING", "CERTIFIED", "UNMASKING", "AGGREGATED", "PUBLISHED")
A, B, C, D = range(4)
SWEEP = Op("sweep")


def poll(site: int) -> Op:
    return Op("poll", site)


def work(site: int) -> Op:
    return Op("work", site)


def state(made: Simulation, site: int) -> str:
    name = list(made.sites)[site]
    return str(made.sites[name].query("SELECT state FROM round ORDER BY rowid DESC LIMIT 1")[0].state)


@pytest.mark.parametrize(("count", "updates"), [(3, 2), (5, 1)])
def test_nothing_goes_wrong(count: int, updates: int) -> None:
    with simulation(count, updates=updates) as made:
        made.finish()
        contexts = [("update", number + 1) for number in range(updates)] + [("metrics", 1), ("metrics", 2)]
        assert made.survivors() == [(*context, "PUBLISHED", "abcde"[:count]) for context in contexts]
        assert made.network.faults == made.deaths == 0


def reach(made: Simulation, wanted: str) -> None:
    """Bring site a into a state of the first round, by single steps."""
    made.apply(poll(A))
    if wanted == "TRAINED":
        made.apply(Op("train", A, fault=Fault("site killed", point="after trained")))
    elif wanted != "BOUND":
        made.apply(Op("train", A))
    if wanted in {"SENT", "DECIDED", "RELEASED"}:
        made.run(Op("deliver", A), work(B), work(C), work(D), SWEEP)
    if wanted in {"DECIDED", "RELEASED"}:
        made.apply(poll(A))
    if wanted == "RELEASED":
        made.run(Op("deliver", A), work(B), work(C), poll(A))
    assert state(made, A) == wanted


@pytest.mark.parametrize("wanted", SITE_STATES)
def test_a_site_killed_in_each_state_goes_on_and_is_counted(wanted: str) -> None:
    with simulation() as made:
        reach(made, wanted)
        made.apply(Op("kill", A))
        assert made.end_round() == ("PUBLISHED", "abcd")


@pytest.mark.parametrize("wanted", ROUND_STATES)
def test_the_coordinator_killed_in_each_state_goes_on(wanted: str) -> None:
    with simulation() as made:
        for op in (work(A), work(B), work(C), work(D), SWEEP, poll(A), poll(B), *[work(s) for s in range(4)] * 2):
            if made.rounds()[0].state == wanted:
                break
            made.apply(op)
        fault = Fault("coordinator killed", point="after keep an aggregate") if wanted == "AGGREGATED" else None
        made.apply(Op("sweep", fault=fault) if wanted in {"AGGREGATED", "PUBLISHED"} else Op("kill coordinator"))
        assert made.rounds()[0].state == wanted
        made.apply(Op("kill coordinator"))
        assert made.end_round() == ("PUBLISHED", "abcd")


def test_both_sides_die_over_and_over() -> None:
    with simulation() as made:
        for number in range(12):
            made.run(work(number), Op("kill coordinator"), Op("kill", number), SWEEP)
        assert made.end_round() == ("PUBLISHED", "abcd")


def test_a_site_that_leaves_before_its_upload_is_not_counted() -> None:
    with simulation() as made:
        made.run(Op("poll", D), Op("leave", D))
        assert made.end_round() == ("PUBLISHED", "abc")


def test_a_site_that_leaves_after_its_upload_is_counted_without_its_help() -> None:
    with simulation() as made:
        made.run(work(D), Op("leave", D))
        assert made.end_round() == ("PUBLISHED", "abcd")


def test_a_site_that_was_left_out_helps_to_unmask() -> None:
    """d never uploads but signs and releases; c, counted, is gone: three of four are enough, whoever they are."""
    with simulation() as made:
        made.run(poll(D), work(A), work(B), work(C), SWEEP, Op("leave", C), Op("advance", number=6), SWEEP)
        assert made.end_round() == ("PUBLISHED", "abc")


def test_too_few_are_left_to_sign() -> None:
    with simulation() as made:
        made.run(work(A), work(B), work(C), work(D), SWEEP, Op("leave", C), Op("leave", D))
        assert made.end_round() == ("LOST", "abcd")
        made.run(Op("return", C), Op("return", D))
        made.finish()


def test_too_few_uploads() -> None:
    with simulation() as made:
        made.run(work(A), Op("leave", B), Op("leave", C), Op("leave", D))
        assert made.end_round() == ("ABANDONED", "")
        made.finish()


def test_a_site_that_misses_everything_follows_at_the_end() -> None:
    with simulation() as made:
        made.run(poll(D), Op("leave", D))
        for position in range(3):
            assert made.end_round(position) == ("PUBLISHED", "abc")
        made.finish()


@pytest.mark.parametrize("request_name", ["PUT uploads", "PUT shares", "PUT manifest"])
def test_an_upload_that_comes_after_the_window_is_deleted_unread(request_name: str) -> None:
    with simulation() as made:
        made.run(poll(D), Op("train", D), Op("deliver", D, fault=Fault("delayed", point=request_name)))
        held_back = len(made.network.sent) - 1
        made.run(Op("leave", D), work(A), work(B), work(C), Op("advance", number=6), SWEEP)
        assert made.rounds()[0].state == "CLOSING"
        late = len(made.network.sent) - 1 - held_back
        made.run(Op("redeliver", number=late), Op("return", D))
        assert made.end_round() == ("PUBLISHED", "abc")
        made.apply(Op("redeliver", number=len(made.network.sent) - 1 - held_back))


def test_every_message_ever_sent_comes_again() -> None:
    with simulation() as made:
        made.run(*(Op("everybody") for _ in range(3)))
        for number in range(len(made.network.sent)):
            made.apply(Op("redeliver", number=number))
        made.finish()
        before = [one.outcome_json for one in made.rounds()]
        for number in range(0, len(made.network.sent), 3):
            made.apply(Op("redeliver", number=number))
        assert [one.outcome_json for one in made.rounds()] == before


def test_every_set_of_commands_comes_again_in_the_wrong_order() -> None:
    with simulation() as made:
        for _ in range(4):
            made.apply(Op("everybody"))
            for back in range(len(made.sites["site-a"].polled)):
                made.apply(Op("answer old", A, back))
        made.finish()


def test_the_coordinator_dies_right_after_it_fixed_the_survivors() -> None:
    """The staged part of the upload that was left out does not outlive the crash (attack row 26)."""
    with simulation() as made:
        made.run(poll(D), Op("train", D), Op("deliver", D, fault=Fault("request lost", point="PUT manifest")))
        made.run(Op("leave", D), work(A), work(B), work(C), Op("advance", number=6))
        made.apply(Op("sweep", fault=Fault("coordinator killed", point="after watch an upload window")))
        assert made.rounds()[0].state == "CLOSING"
        made.apply(Op("return", D))
        assert made.end_round() == ("PUBLISHED", "abc")


def test_damaged_messages_are_refused_and_harm_one_site_only() -> None:
    with simulation() as made:
        made.apply(Op("work", D, fault=Fault("corrupted", point="PUT uploads")))
        assert made.end_round() == ("PUBLISHED", "abc")


@pytest.mark.parametrize("name", ["PUT pairings", "PUT uploads", "PUT manifest", "PUT decision", "PUT unmask"])
def test_a_damaged_message_is_made_again(name: str) -> None:
    """With three sites nothing goes on without the third: what was refused for good must not hold it up for ever."""
    with simulation(3, paired=name != "PUT pairings") as made:
        made.saboteur = saboteur = Saboteur("corrupted", name, "site-c")
        made.run(*[Op("everybody")] * 3)
        assert saboteur.struck == {f"site-c: {name}"}
        made.apply(Op("kill", C))  # it looks at everything anew
        for position in range(2):
            if made.end_round(position) == ("PUBLISHED", "abc"):
                return
        raise AssertionError(made.story())


def test_a_proxy_answers_in_the_place_of_the_coordinator() -> None:
    with simulation(3, paired=False) as made:
        made.saboteur = saboteur = Saboteur("proxy page", victim="site-c")
        made.finish()
        wanted = {"PUT pairings", "PUT uploads", "PUT manifest", "PUT decision", "PUT unmask", "GET blobs", "GET agent"}
        assert {f"site-c: {name}" for name in wanted} <= saboteur.struck


def test_no_secret_of_a_round_is_left_on_any_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """After kills on both sides: neither mask seeds nor self secrets, at the sites nor at the coordinator (W6, 26)."""
    secrets: list[bytes] = []
    for name in ("mask_seed", "new_self_secret"):
        original = getattr(masked_update, name)

        def remember(*arguments: Any, original: Any = original) -> bytes:
            secrets.append(original(*arguments))
            return secrets[-1]

        monkeypatch.setattr(masked_update, name, remember)
    with simulation() as made:
        made.run(work(A), Op("kill", A), work(B), Op("poll", D), Op("leave", D), work(C), Op("kill coordinator"))
        assert made.end_round() == ("PUBLISHED", "abc")
        made.run(*[Op("return", D), Op("everybody")] * 2)
        assert len(secrets) >= 4 * 3
        for path in made.folder.rglob("*"):
            raw = path.read_bytes() if path.is_file() else b""
            assert not any(secret in raw or secret.hex().encode() in raw for secret in secrets), path
