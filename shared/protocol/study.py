"""The study protocol ("plan"), which stewards approve by digest, and studies as operators see them.

The plan is immutable canonical JSON; ``plan_hash`` = SHA-256 of its canonical bytes, which is also the digest of the
blob it travels as. Fractions are decimal strings, because several parties must build the same bytes.
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.canonical import JsonObject, sha256_hex
from shared.protocol.wire import Count, DecimalText, Hash, Id, SignedStatement, Timestamp, WireObject

Positive = Annotated[int, Field(ge=1, le=10**9)]


class Training(WireObject):
    """What a site does in one round."""

    rounds: Annotated[int, Field(ge=1, le=10_000)]
    local_epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=0, le=1_000_000)]  # 0: the whole training part in one batch
    optimizer: Literal["sgd", "adam"]
    learning_rate: DecimalText
    momentum: DecimalText
    weight_decay: DecimalText
    seed: Count
    augmentation: list[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]]


class SecureAggregation(WireObject):
    """Word sizes, weights and limits of SA1 for the `update` contexts (PROTOCOLS A3, A9)."""

    b: Annotated[int, Field(ge=8, le=32)]
    q: Annotated[int, Field(ge=2, le=32)]
    w_cap: Annotated[int, Field(ge=1, le=2**40)]
    clip: JsonObject  # {"default": "1", "tensors": {"name": "0.5"}}
    least_survivors: Annotated[int, Field(ge=3, le=200)] | None  # m; null means max(3, t)


class Selection(WireObject):
    """How the best model version is chosen (validation data only) and when the study stops early."""

    metric: Literal["auc", "loss"]
    patience: Annotated[int, Field(ge=0, le=10_000)]  # 0: never stop early
    min_delta: DecimalText


class Deadlines(WireObject):
    """Seconds: to upload; after enough uploads, for the rest (grace); and until a context expires (PROTOCOLS A11)."""

    upload_seconds: Positive
    grace_seconds: Annotated[int, Field(ge=0, le=10**9)]
    expire_seconds: Positive


class Plan(WireObject):
    """The study protocol."""

    v: Literal["SA1"]
    kind: Literal["study"]
    study: Id
    title: Annotated[str, Field(max_length=200)]
    purpose: Annotated[str, Field(max_length=2000)]
    federation: Id
    sites: Annotated[list[Id], Field(min_length=3, max_length=200)]  # ascending; these may become members
    task: JsonObject  # validated by shared/task_catalogue.py
    preprocessing: JsonObject  # {"normalise": "federated" | "none"}
    training: Training
    strategy: JsonObject  # checked by shared/strategies/registry.py: {"name": "fedavg", "server_learning_rate": "1"}
    secure_aggregation: SecureAggregation
    selection: Selection
    metrics: JsonObject  # {"bins": 64}
    deadlines: Deadlines
    dp: JsonObject | None
    initial_model: Hash  # digest of the first model version (canonical safetensors)
    dimension: Annotated[int, Field(ge=1, le=2**31 - 1)]  # d
    not_after: Timestamp

    @property
    def plan_hash(self) -> str:
        """Return the digest stewards approve."""
        return sha256_hex(self.canonical())


class StudyApproval(SignedStatement):
    """Payload (kind ``approval``): a steward lets this site take part under exactly this plan."""

    v: Literal["SA1"]
    kind: Literal["study"]
    study: Id
    plan: Hash
    decision: Literal["approve", "withdraw"]


class RoundView(WireObject):
    """One context as operators see it."""

    study: Id
    index: Annotated[int, Field(ge=1)]  # order of opening within the study
    kind: str
    round: int
    ctx_hash: Hash
    state: str
    reason: str | None
    invited: list[Id]
    uploaded: list[Id]
    refused: dict[Id, str]
    survivors: list[Id]
    opened_at: Timestamp
    closed_at: Timestamp | None  # when the upload window closed
    published_at: Timestamp | None
    upload_bytes: dict[Id, int]  # masked bytes received from each site in this round
    model: Hash  # the model version the round started from
    result_model: Hash | None
    metrics: JsonObject | None  # of the model version the round *received*, from the masked tail; decimal strings


class StudyView(WireObject):
    """A study as operators see it."""

    study: Id
    title: str
    plan: Hash
    state: Literal["submitted", "running", "paused", "finished", "stopped"]
    reason: str | None
    sites: list[Id]
    approved_by: list[Id]
    model: Hash  # newest version
    best_model: Hash | None
    best_round: int | None  # the version published by that round (0: the initial model)
    best_metrics: JsonObject | None  # on validation data
    test_metrics: JsonObject | None  # of the best version, once, on test data
    rounds: list[RoundView]
