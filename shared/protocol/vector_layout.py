"""What the vector of a context looks like, derived from the plan alone (PROTOCOLS A7 R0, A9).

The coordinator builds contexts with this function and every site checks contexts against it, so there is one place
that can be wrong.
"""

from typing import Literal, NamedTuple

from shared.errors import Misuse
from shared.protocol.round_context import Context, Kind, TailEntry
from shared.protocol.study import Plan
from shared.secagg.layout import VectorLayout
from shared.secagg.tail import CHECKSUM, TailItem, limbs_for
from shared.task_catalogue import tail_items

Part = Literal["validation", "test"]

SMALL_VECTOR_BITS = (32, 16)  # (b, q) of contexts without main words: histograms and statistics fit 32-bit words (A15)


class PlannedVector(NamedTuple):
    """`d` main words of `q` bits, then the tail, all in words of `b` bits."""

    d: int
    b: int
    q: int
    tail: list[TailEntry]


def vector_layout(plan: Plan, kind: Kind, n: int, score: Part | None) -> PlannedVector:
    """Return the layout of a context of `kind` with `n` invited sites.

    `score` names the part of the data on which the received model version is scored; None leaves the score items out.

    Raises:
        Misuse: ``layout_impossible`` for a kind and part that do not go together.
    """
    if kind == "update":
        d, b, q = plan.dimension, plan.secure_aggregation.b, plan.secure_aggregation.q
    else:
        d, (b, q) = 0, SMALL_VECTOR_BITS
    if (kind, score) not in _ALLOWED:
        raise Misuse("layout_impossible", f"a {kind} context cannot score {score}")
    tail = [
        TailEntry(name=name, limbs=1 if name == CHECKSUM else limbs_for(maximum, b, n), length=length)
        for name, length, maximum in tail_items(plan, kind, score)
    ]
    return PlannedVector(d, b, q, tail)


def layout_of(ctx: Context) -> VectorLayout:
    """Return where every word of a context's vector lies."""
    tail = tuple(TailItem(entry.name, entry.limbs, entry.length) for entry in ctx.tail)
    return VectorLayout(d=ctx.d, tail=tail, b=ctx.b, n=len(ctx.P))


def scored_part(tail: list[TailEntry]) -> Part | None:
    """Return which part of the data a context's tail asks scores of."""
    names = {entry.name for entry in tail}
    return "validation" if "score_histogram" in names else "test" if "test_histogram" in names else None


_ALLOWED: set[tuple[Kind, Part | None]] = {
    ("update", "validation"),
    ("update", None),
    ("metrics", "validation"),
    ("metrics", "test"),
    ("statistics", None),
}
