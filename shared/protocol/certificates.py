"""TLS certificates after enrolment: renewed, renewed after they ran out, given up by their site (PROTOCOLS C2, C3)."""

from typing import Literal

from shared.protocol.wire import Binary, Id, WireObject

RENEWABLE_DAYS = 90  # so long after its certificate ran out a site is still known by its identity key


class Nonce(WireObject):
    """``GET /v1/nonce``: to be signed once, within a few minutes, where no certificate says who asks."""

    nonce: str


class Renewal(WireObject):
    """Payload (kind ``enrolment``) of ``POST /v1/renew`` and ``POST /v1/renew-expired``: one for a new key."""

    v: Literal["SA1"]
    kind: Literal["renewal"]
    site: Id
    csr: Binary  # DER, P-256; its subject is ignored
    nonce: str | None  # None where the present certificate says who asks


class Renewed(WireObject):
    """The new chain, leaf first, and the root it ends in."""

    chain: list[Binary]
    root: Binary


class SelfRevocation(WireObject):
    """Payload (kind ``enrolment``) of ``POST /v1/revoke``: this site is not to be believed any more, from now on."""

    v: Literal["SA1"]
    kind: Literal["revocation"]
    site: Id
    reason: Literal["compromised", "leaving", "unspecified"]
    nonce: str
