"""R3, unmask: a certified request, and exactly the shares it entitles to (PROTOCOLS A7).

``GET /v1/rounds/{ctx_hash}/unmask-request/{site}`` and ``PUT /v1/rounds/{ctx_hash}/unmask/{site}``.
"""

from shared.protocol.confirm_survivors import Statement
from shared.protocol.round_context import Context
from shared.protocol.wire import Binary, Hash, Id, SignedStatement, WireObject


class UnmaskRequest(WireObject):
    """What a site needs to verify before it releases anything."""

    stmt: Statement
    cert: list[Binary]  # decision envelopes of t distinct members of P
    ctx: Context
    manifests: dict[Id, Binary]  # signed manifests (envelopes) of U
    shares: dict[Id, Binary]  # the share blob of each member of U addressed to the asked site


class UnmaskResponse(SignedStatement):
    """Payload (kind ``unmask``): shares of b inside U, of s between U and P minus U; nothing else, once."""

    ctx_hash: Hash
    stmt_hash: Hash
    b: dict[Id, Binary]
    s: dict[Id, dict[Id, Binary]]


class SealedUnmaskResponse(WireObject):
    """The body of the PUT: the signed envelope, HPKE-sealed to the coordinator's KEM key of the roster.

    HPKE info = ``"SA1 unmask" || 0x00 || ctx_hash || lp(site)``. A TLS-inspecting proxy collects nothing.
    """

    ctx_hash: Hash
    site: Id
    sealed: Binary


class Complaint(SignedStatement):
    """Payload (kind ``complaint``): a share blob or an envelope did not open; evidence, not an accusation by itself."""

    ctx_hash: Hash | None
    pairing_hash: Hash | None
    about: Id
    code: str
    blob_hash: Hash
