"""R4 and R5, outcome: the published sum, the model version it leads to, and the sites' attestations (PROTOCOLS A7)."""

from typing import Annotated

from pydantic import Field

from shared.canonical import JsonObject, tagged_hash
from shared.protocol.round_context import Context
from shared.protocol.wire import Binary, Hash, Id, SignedStatement, WireObject


class Outcome(WireObject):
    """What a finished round published.

    ``model_sha256`` is the model version after the round: a new one for ``update``, the unchanged newest one otherwise.
    """

    ctx_hash: Hash
    U: list[Id]
    aggregate_sha256: Hash
    model_sha256: Hash

    @property
    def outcome_hash(self) -> str:
        """Return ``H("SA1 outcome", JCS(outcome))`` as hex, the next context's ``prev``."""
        return tagged_hash("SA1 outcome", self.canonical()).hex()


class Attestation(SignedStatement):
    """Payload (kind ``attestation``): this site computed the same model version itself; one per (study, round)."""

    study: Id
    round: Annotated[int, Field(ge=1)]
    ctx_hash: Hash
    model: Hash


class PublishedOutcome(WireObject):
    """One element of ``GET /v1/studies/{study}/outcomes?after=N``: enough to follow the chain, present or missed."""

    index: Annotated[int, Field(ge=1)]  # 1-based, over all kinds of contexts of the study
    ctx: Context
    outcome: Outcome
    inclusion: JsonObject  # the ``round.result`` entry, its inclusion proof and the checkpoint (shared/audit/proofs.py)
    attestations: dict[Id, Binary]
