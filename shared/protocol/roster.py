"""The roster as it travels: a version, and the approvals it has so far (PROTOCOLS A4)."""

from typing import Annotated, Literal

from pydantic import Field

from shared.canonical import JsonObject
from shared.protocol.wire import Hash, Id, SignedStatement, WireObject


class RosterApproval(SignedStatement):
    """Payload (kind ``approval``): a site's administrator accepts this roster version."""

    v: Literal["SA1"]
    kind: Literal["roster"]
    roster: Hash
    version: Annotated[int, Field(ge=1)]


class RosterBundle(WireObject):
    """``GET /v1/rosters/{version}``: the roster object and the approval envelopes gathered so far, by site id."""

    roster: JsonObject
    approvals: dict[Id, str]  # site id -> base64url of the DSSE envelope
