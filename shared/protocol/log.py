"""The audit log as sites read it (PROTOCOLS B3)."""

from typing import Annotated

from pydantic import Field

from shared.protocol.wire import Binary, Hash, Id, WireObject


class Inclusion(WireObject):
    """An entry, where it stands, and the proof under a signed checkpoint."""

    leaf: Binary
    index: Annotated[int, Field(ge=0)]
    proof: list[Hash]
    checkpoint: str


class CosignedHead(WireObject):
    """The newest head that a site cosigned: the log's note with that site's line."""

    site: Id
    note: str


class CosignedHeads(WireObject):
    """What the log's witnesses cosigned last; every site compares it with its own copy of the log."""

    heads: list[CosignedHead]
