"""The audit log as sites read it (PROTOCOLS B3)."""

from typing import Annotated

from pydantic import Field

from shared.protocol.wire import Binary, Hash, WireObject


class Inclusion(WireObject):
    """An entry, where it stands, and the proof under a signed checkpoint."""

    leaf: Binary
    index: Annotated[int, Field(ge=0)]
    proof: list[Hash]
    checkpoint: str
