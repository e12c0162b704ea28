"""What may happen to a site's membership, as data: the page of enrolment states is written from this table (C2, C3)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from shared.errors import InputError


class State(StrEnum):
    """Where a site stands with the federation."""

    INVITED = "invited"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"


class Event(StrEnum):
    """What an administrator or the site itself does."""

    INVITE = "invite"
    REQUEST = "request"
    APPROVE = "approve"
    REJECT = "reject"
    RENEW = "renew"
    REVOKE = "revoke"


class Seen(NamedTuple):
    """What each side sees of a state."""

    administrator: str
    hospital: str
    may: str


TRANSITIONS: Mapping[tuple[State | None, Event], State] = MappingProxyType(
    {
        (None, Event.INVITE): State.INVITED,
        (State.INVITED, Event.INVITE): State.INVITED,
        (State.INVITED, Event.REQUEST): State.PENDING,
        (State.PENDING, Event.INVITE): State.INVITED,
        (State.PENDING, Event.APPROVE): State.APPROVED,
        (State.PENDING, Event.REJECT): State.REJECTED,
        (State.APPROVED, Event.RENEW): State.APPROVED,
        (State.APPROVED, Event.REVOKE): State.REVOKED,
        (State.REJECTED, Event.INVITE): State.INVITED,
        (State.REVOKED, Event.INVITE): State.INVITED,
    }
)
REFUSALS: Mapping[Event, str] = MappingProxyType(
    {
        Event.INVITE: "site_exists",
        Event.REQUEST: "enrolment_token_used",
        Event.APPROVE: "site_not_pending",
        Event.REJECT: "site_not_pending",
        Event.RENEW: "site_not_approved",
        Event.REVOKE: "site_not_approved",
    }
)
MEANINGS: Mapping[Event, str] = MappingProxyType(
    {
        Event.INVITE: "the administrator makes an invitation file; earlier ones lose their force",
        Event.REQUEST: "the agent uses the token and shows its fingerprint",
        Event.APPROVE: "the administrator compared the fingerprint by telephone; the certificate is issued and logged",
        Event.REJECT: "the administrator says no; the token is dead",
        Event.RENEW: "the agent gets its next certificate; this is logged",
        Event.REVOKE: "the administrator, or the hospital by its own signed word, shuts the site out at once",
    }
)
SEEN: Mapping[State, Seen] = MappingProxyType(
    {
        State.INVITED: Seen("`invited`, no fingerprint", "an invitation file; no state directory yet", "ask to join"),
        State.PENDING: Seen(
            "`pending` with the fingerprint", "`pending`; `mitral-site enrol` shows the same fingerprint", "ask again"
        ),
        State.APPROVED: Seen(
            "`approved` with serial and end of the certificate, online or not",
            "`approved`; the agent runs and renews its certificate",
            "sign rosters; everything else once a roster in force lists it",
        ),
        State.REJECTED: Seen(
            "`rejected`", "`enrolment_rejected`; the request is forgotten, the keys that signed stay", "nothing"
        ),
        State.REVOKED: Seen(
            "`revoked`; the log says by whom and why",
            "the agent stops with `site_revoked`; `revoked` where the site took itself out",
            "nothing; its cosignatures of the log still count",
        ),
    }
)


def next_state(state: str | None, event: Event) -> State:
    """Return where an event leads.

    Raises:
        InputError: the code of `REFUSALS` for an event that this state does not have.
    """
    found = TRANSITIONS.get((None if state is None else State(state), event))
    if found is None:
        raise InputError(REFUSALS[event], f"the site is {state or 'not known'}: it cannot {event}")
    return found
