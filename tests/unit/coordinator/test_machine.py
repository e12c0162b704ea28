"""Every state and every event of a round, and every message in every state."""

import pytest

from coordinator.rounds.machine import ACCEPTS, ENDS, EVENTS, MESSAGES, STATES, TRANSITIONS, is_accepted, next_state
from shared.errors import Misuse

ALLOWED = {
    "PLANNED": {"open": "OPEN", "abandon": "ABANDONED"},
    "OPEN": {"extend": "OPEN", "close": "CLOSING", "abandon": "ABANDONED"},
    "CLOSING": {"certify": "CERTIFIED", "lose": "LOST"},
    "CERTIFIED": {"release": "UNMASKING", "lose": "LOST"},
    "UNMASKING": {"release": "UNMASKING", "aggregate": "AGGREGATED", "lose": "LOST"},
    "AGGREGATED": {"publish": "PUBLISHED", "lose": "LOST"},
    "PUBLISHED": {},
    "ABANDONED": {},
    "LOST": {},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state(state: str, event: str) -> None:
    target = ALLOWED[state].get(event)
    if target is None:
        with pytest.raises(Misuse, match="round_transition"):
            next_state(state, event)  # type: ignore[arg-type]
    else:
        assert next_state(state, event) == target  # type: ignore[arg-type]


def test_the_ends_are_ends_and_everything_else_has_a_way_out() -> None:
    left = {state for state, _ in TRANSITIONS}
    assert left | ENDS == set(STATES)
    assert not left & ENDS


def test_nothing_can_be_opened_before_a_certificate() -> None:
    """Shares are taken in no state that is reached without t decisions."""
    before = {"PLANNED", "OPEN", "CLOSING", "ABANDONED"}
    assert not ACCEPTS["unmask"] & before
    certified = {target for (state, event), target in TRANSITIONS.items() if event == "certify"}
    assert certified == {"CERTIFIED"}


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("state", STATES)
def test_every_message_in_every_state(state: str, message: str) -> None:
    expected = {
        "upload": {"OPEN"},
        "refusal": {"OPEN"},
        "decision": {"CLOSING", "CERTIFIED", "UNMASKING", "AGGREGATED", "PUBLISHED"},
        "unmask": {"CERTIFIED", "UNMASKING", "AGGREGATED", "PUBLISHED"},
        "attestation": {"PUBLISHED"},
    }
    assert is_accepted(state, message) == (state in expected[message])  # type: ignore[arg-type]
