"""The pairing bundle: one message per site and period, no barrier (PROTOCOLS A6)."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from shared.protocol.wire import Binary, Hash, Id, SignedStatement

# Theft of a site's pairing secrets opens its own updates of one period only; both ends count and keep it short (A6).
MOST_USES = 128  # contexts
LONGEST_USE = timedelta(days=30)
# The coordinator asks for new bundles a little earlier: clocks differ, and what is on its way counts too.
MOST_USES_ASKED = 120
LONGEST_USE_ASKED = timedelta(days=29)


class PairingBundle(SignedStatement):
    """Payload (kind ``pairing``): one sealed secret for every other member. Its digest is the ``pairing_hash``."""

    v: Literal["SA1"]
    kind: Literal["pairing"]
    study: Id
    roster_hash: Hash
    serial: Annotated[int, Field(ge=1, le=2**32 - 1)]
    env: dict[Id, Binary]
