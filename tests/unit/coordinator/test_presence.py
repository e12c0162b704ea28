"""Who counts as online, and who is waited for a moment."""

from datetime import UTC, datetime, timedelta

from coordinator.presence import Presence

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_site_is_online_for_a_while_after_it_was_heard_of() -> None:
    presence = Presence(90, 5, START)
    assert not presence.is_online("a", START)
    assert presence.saw("a", at(1))
    assert not presence.saw("a", at(2))
    assert presence.is_online("a", at(92))
    assert not presence.is_online("a", at(93))
    assert presence.saw("a", at(93))
    assert presence.last_seen("a") == at(93)
    assert presence.last_seen("b") is None


def test_a_site_that_hangs_up_is_offline_at_once_and_back_with_its_next_call() -> None:
    presence = Presence(90, 5, START)
    presence.saw("a", at(1))
    presence.lost("a", at(2))
    assert not presence.is_online("a", at(2))
    assert presence.saw("a", at(3))
    assert presence.is_online("a", at(3))


def test_who_just_left_or_has_not_called_since_the_start_is_waited_for() -> None:
    presence = Presence(90, 5, START)
    assert presence.is_expected("a", at(4))
    assert not presence.is_expected("a", at(5))
    presence.saw("a", at(10))
    assert not presence.is_expected("a", at(10))  # it is here
    presence.lost("a", at(20))
    assert presence.is_expected("a", at(24))
    assert presence.expected_until("a") == at(25)
    assert not presence.is_expected("a", at(25))


def test_a_site_that_just_went_silent_is_not_waited_for() -> None:
    presence = Presence(90, 5, START)
    presence.saw("a", at(0))
    assert not presence.is_expected("a", at(91))
