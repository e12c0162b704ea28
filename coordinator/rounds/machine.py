"""The states of a round as data (PROTOCOLS A10): every transition there is, and what is accepted in which state."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from shared.errors import Misuse

State = Literal["PLANNED", "OPEN", "CLOSING", "CERTIFIED", "UNMASKING", "AGGREGATED", "PUBLISHED", "ABANDONED", "LOST"]
Event = Literal["open", "extend", "close", "abandon", "certify", "release", "aggregate", "publish", "lose"]
Message = Literal["upload", "refusal", "decision", "unmask", "attestation"]

STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)
MESSAGES: tuple[Message, ...] = get_args(Message)

TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        ("PLANNED", "open"): "OPEN",
        ("PLANNED", "abandon"): "ABANDONED",  # the study was stopped before a cohort came together
        ("OPEN", "extend"): "OPEN",  # too few uploads at the first deadline
        ("OPEN", "close"): "CLOSING",
        ("OPEN", "abandon"): "ABANDONED",  # nothing was opened and nothing can be any more
        ("CLOSING", "certify"): "CERTIFIED",
        ("CLOSING", "lose"): "LOST",
        ("CERTIFIED", "release"): "UNMASKING",
        ("CERTIFIED", "lose"): "LOST",
        ("UNMASKING", "release"): "UNMASKING",
        ("UNMASKING", "aggregate"): "AGGREGATED",
        ("UNMASKING", "lose"): "LOST",
        ("AGGREGATED", "publish"): "PUBLISHED",
        ("AGGREGATED", "lose"): "LOST",  # the sum does not lead to a model
    }
)
ENDS: frozenset[State] = frozenset({"PUBLISHED", "ABANDONED", "LOST"})
# A decision or a response may arrive after others were enough: it is recorded, its content is not used any more.
ACCEPTS: Mapping[Message, frozenset[State]] = MappingProxyType(
    {
        "upload": frozenset({"OPEN"}),
        "refusal": frozenset({"OPEN"}),
        "decision": frozenset({"CLOSING", "CERTIFIED", "UNMASKING", "AGGREGATED", "PUBLISHED"}),
        "unmask": frozenset({"CERTIFIED", "UNMASKING", "AGGREGATED", "PUBLISHED"}),
        "attestation": frozenset({"PUBLISHED"}),
    }
)


def next_state(state: str, event: Event) -> State:
    """Return where an event leads.

    Raises:
        Misuse: ``round_transition`` for an event the state does not have.
    """
    for (known, what), target in TRANSITIONS.items():
        if known == state and what == event:
            return target
    raise Misuse("round_transition", f"a round that is {state} cannot {event}")


def is_accepted(state: str, message: Message) -> bool:
    """Return whether a message is accepted in a state."""
    return state in ACCEPTS[message]
