"""The context: everything one round is bound to, and its hash (PROTOCOLS A7, R0)."""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from shared.canonical import JsonObject, canonical_bytes, tagged_hash
from shared.protocol.wire import Hash, Id, Timestamp, WireObject

Kind = Literal["update", "metrics", "statistics", "gate"]
Small = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Participant(WireObject):
    """One invited site and the pairing bundle of it that this round uses."""

    site: Id
    pairing: Hash


class TailEntry(WireObject):
    """One item of the masked tail: `length` values of `limbs` words each (PROTOCOLS A9)."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
    limbs: Annotated[int, Field(ge=1, le=16)]
    length: Annotated[int, Field(ge=1, le=2**24)]


class Context(WireObject):
    """What all sites of a round must agree on; every seed and key of the round derives from `digest`."""

    v: Literal["SA1"]
    kind: Kind
    group: Literal[0]
    study: Id
    roster: Hash
    round: Annotated[int, Field(ge=1, le=2**31 - 1)]
    model: Hash
    plan: Hash
    prev: Hash | None
    P: list[Participant]
    t: Small
    c: Small
    m: Small
    d: Small
    tail: list[TailEntry]
    b: Annotated[int, Field(ge=8, le=32)]
    q: Annotated[int, Field(ge=2, le=32)]
    w_cap: Annotated[int, Field(ge=1, le=2**40)]
    clip: Hash
    dp: Hash
    expires: Timestamp

    @cached_property
    def digest(self) -> bytes:
        """Return ``ctx_hash = H("SA1 ctx", JCS(ctx))``, 32 raw bytes; computed once, as contexts never change."""
        return tagged_hash("SA1 ctx", self.canonical())

    @property
    def ctx_hash(self) -> str:
        """Return `digest` as hex, the form used in JSON and URLs."""
        return self.digest.hex()

    @property
    def sites(self) -> list[str]:
        """Return the invited sites in order (the order fixes Shamir's x = 1-based position)."""
        return [participant.site for participant in self.P]

    @property
    def tail_words(self) -> int:
        """Return how many words the tail takes."""
        return sum(entry.limbs * entry.length for entry in self.tail)

    @property
    def elements(self) -> int:
        """Return the vector's length without padding: d main words, then the tail."""
        return self.d + self.tail_words


def clip_hash(clip: JsonObject) -> str:
    """Return the hash of a plan's clip table (``ctx.clip``)."""
    return tagged_hash("SA1 clip", canonical_bytes(clip)).hex()


def dp_hash(dp: JsonObject | None) -> str:
    """Return the hash of a plan's differential-privacy parameters (``ctx.dp``); an absent table hashes as ``{}``."""
    return tagged_hash("SA1 dp", canonical_bytes(dp or {})).hex()
