"""What may follow what for one context at one site, as data (PROTOCOLS A10)."""

from enum import StrEnum

from shared.errors import Misuse


class State(StrEnum):
    """How far this site got with a context."""

    BOUND = "BOUND"
    TRAINED = "TRAINED"
    SEALED = "SEALED"
    SENT = "SENT"
    DECIDED = "DECIDED"
    RELEASED = "RELEASED"
    WIPED = "WIPED"


class Event(StrEnum):
    """What happens to a context."""

    BIND = "bind"
    TRAIN = "train"
    SEAL = "seal"
    RECEIPT = "receipt"
    DECIDE = "decide"
    RELEASE = "release"
    WIPE = "wipe"


_BEFORE_DECISION = (State.BOUND, State.TRAINED, State.SEALED, State.SENT)

# A site that did not train helps to close and to unmask, so DECIDED and RELEASED are reached from BOUND too. A receipt
# may arrive late: the coordinator counted an upload whose answer was lost. After DECIDED nothing is sealed any more.
TRANSITIONS: dict[tuple[State | None, Event], State] = {
    (None, Event.BIND): State.BOUND,
    (State.BOUND, Event.TRAIN): State.TRAINED,
    (State.TRAINED, Event.SEAL): State.SEALED,
    (State.SEALED, Event.RECEIPT): State.SENT,
    (State.SENT, Event.RECEIPT): State.SENT,
    (State.DECIDED, Event.RECEIPT): State.DECIDED,
    (State.RELEASED, Event.RECEIPT): State.RELEASED,
    (State.WIPED, Event.RECEIPT): State.WIPED,
    **{(state, Event.DECIDE): State.DECIDED for state in _BEFORE_DECISION},
    **{(state, Event.RELEASE): State.RELEASED for state in (*_BEFORE_DECISION, State.DECIDED)},
    **{(state, Event.WIPE): State.WIPED for state in State},
}


def next_state(state: str | None, event: Event) -> State:
    """Return the state after `event`.

    Raises:
        Misuse: ``round_transition`` for an event that this state does not allow.
    """
    found = TRANSITIONS.get((None if state is None else State(state), event))
    if found is None:
        raise Misuse("round_transition", f"{event} does not follow {state}")
    return found


def is_allowed(state: str | None, event: Event) -> bool:
    """Return whether `event` may follow `state`."""
    return (None if state is None else State(state), event) in TRANSITIONS
