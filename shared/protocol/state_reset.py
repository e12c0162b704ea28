"""A site that lost state says so: the end of its chain as others hold it, and the reset (PROTOCOLS A10)."""

from typing import Annotated, Literal

from pydantic import Field

from shared.protocol.round_context import Context
from shared.protocol.wire import Binary, Count, Hash, SignedStatement, WireObject

MOST_UNPROVED = 256  # released shares are not kept, so the newest few messages may come without their signature


class KeptMessage(WireObject):
    """A message of a site that is kept as evidence: its kind and its DSSE envelope."""

    kind: Literal["approval", "attestation", "complaint", "decision", "manifest", "pairing", "refusal", "state.reset"]
    envelope: Binary


class KeptAct(WireObject):
    """A manifest or decision of a site, with the context that it names by its hash."""

    message: KeptMessage
    ctx: Context


class LastAccepted(WireObject):
    """``GET /v1/statements/{site}?after=N``: the end of the site's chain of signed messages, and what proves it."""

    seq: Count  # number of the newest accepted message, 0 when there is none
    digest: Hash  # of its payload; 32 zero bytes when there is none
    newest: KeptMessage | None  # the newest one that is kept: proves the number up to there
    acts: list[KeptAct]  # every manifest and decision with a number above `after`


class StateReset(SignedStatement):
    """Payload (kind ``state.reset``): this site's state is older than what it once signed; it starts afresh."""

    v: Literal["SA1"]
    kind: Literal["state.reset"]
    reason: Literal["rollback", "second_agent"]
    instance: Annotated[str, Field(min_length=1, max_length=64)]  # which process holds the lease from now on
    knew: Count  # the newest number that the state knew of
