"""R2, close: one statement about the survivors, signed once by every online site (PROTOCOLS A7)."""

from typing import Literal

from shared.canonical import tagged_hash
from shared.protocol.wire import Hash, Id, SignedStatement, WireObject


class Statement(WireObject):
    """The survivor set U and the uploads it stands for."""

    v: Literal["SA1"]
    kind: Literal["close"]
    ctx: Hash
    U: list[Id]
    uploads: Hash

    @property
    def statement_hash(self) -> str:
        """Return ``H("SA1 stmt", JCS(stmt))`` as hex."""
        return tagged_hash("SA1 stmt", self.canonical()).hex()


class UploadReference(WireObject):
    """One survivor's manifest hash."""

    site: Id
    manifest: Hash


class Decision(SignedStatement):
    """Payload (kind ``decision``): t of these are the close certificate."""

    stmt: Statement
