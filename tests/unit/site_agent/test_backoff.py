"""Waiting between attempts."""

from threading import Event

from site_agent.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff


def test_waits_grow_to_the_ceiling_and_jitter_fills_the_whole_span() -> None:
    samples = [[backoff_after(failures).next_seconds() for _ in range(200)] for failures in (0, 3, 20)]
    for failures, drawn in zip((0, 3, 20), samples, strict=True):
        ceiling = min(LONGEST_SECONDS, FIRST_SECONDS * 2**failures)
        assert 0 <= min(drawn) < ceiling / 4
        assert ceiling * 3 / 4 < max(drawn) <= ceiling


def backoff_after(failures: int) -> Backoff:
    backoff = Backoff()
    for _ in range(failures):
        backoff.next_seconds()
    return backoff


def test_a_success_starts_over() -> None:
    backoff = backoff_after(20)
    backoff.reset()
    assert max(backoff_after(0).next_seconds() for _ in range(50)) <= FIRST_SECONDS
    assert backoff.next_seconds() <= FIRST_SECONDS


def test_what_the_coordinator_asks_for_wins() -> None:
    assert backoff_after(20).next_seconds(7) == 7
    assert Backoff().next_seconds(7) == 7
    assert Backoff().next_seconds(10**9) == LONGEST_SECONDS * 12


def test_stopping_ends_the_wait() -> None:
    stop = Event()
    stop.set()
    assert backoff_after(20).wait(stop)
