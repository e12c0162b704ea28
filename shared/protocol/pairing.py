"""The pairing bundle: one message per site and period, no barrier (PROTOCOLS A6)."""

from typing import Annotated, Literal

from pydantic import Field

from shared.protocol.wire import Binary, Hash, Id, SignedStatement


class PairingBundle(SignedStatement):
    """Payload (kind ``pairing``): one sealed secret for every other member. Its digest is the ``pairing_hash``."""

    v: Literal["SA1"]
    kind: Literal["pairing"]
    study: Id
    roster_hash: Hash
    serial: Annotated[int, Field(ge=1, le=2**32 - 1)]
    env: dict[Id, Binary]
