"""The masked tail: unsigned integers in limbs after the main words (PROTOCOLS A9).

A value is split into limbs of ``b - ceil(log2 |P|)`` bits, low limb first, so that the limb sums of |P| sites cannot
overflow a word; the sums recombine as ``sum of 2^(limb_bits * k) * limb_k``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.crypto.keystream import Words
from shared.errors import Misuse

CHECKSUM = "checksum"  # raw b-bit words without a limb bound, always last: they are known only after the main words
CHECKSUM_WORDS = 4
SITE_COUNT = "n_sites"  # each site adds 1


@dataclass(frozen=True, slots=True)
class TailItem:
    """`length` unsigned integers of `limbs` words each, element after element, a value's limbs together."""

    name: str
    limbs: int
    length: int


CHECKSUM_ITEM = TailItem(CHECKSUM, 1, CHECKSUM_WORDS)


def limb_bits(b: int, n: int) -> int:
    """Return how many bits of a b-bit word one of `n` sites may fill: ``b - ceil(log2 n)``."""
    return b - (n - 1).bit_length()


def limbs_for(maximum: int, b: int, n: int) -> int:
    """Return the least number of limbs that hold a value up to `maximum`: ``2^(limb_bits * limbs) > maximum``."""
    return max(1, -(-maximum.bit_length() // limb_bits(b, n)))


def tail_words(items: Sequence[TailItem]) -> int:
    """Return how many words the tail takes."""
    return sum(item.limbs * item.length for item in items)


def check_tail(items: Sequence[TailItem], b: int, n: int) -> None:
    """Check that a tail is well formed: names once, positive sizes, room for limbs, the checksum last and in its form.

    Raises:
        Misuse: ``tail_layout``.
    """
    names = [item.name for item in items]
    if len(set(names)) != len(names) or any(item.limbs < 1 or item.length < 1 for item in items):
        raise Misuse("tail_layout", "tail items need names of their own and positive sizes")
    if CHECKSUM in names and items[-1] != CHECKSUM_ITEM:
        raise Misuse("tail_layout", f"the checksum is the last item and has {CHECKSUM_WORDS} words of one limb")
    if n < 1 or limb_bits(b, n) < 1:
        raise Misuse("tail_layout", f"{b}-bit words leave no room for limbs of {n} sites")


def encode_tail(items: Sequence[TailItem], values: Mapping[str, Sequence[int]], b: int, n: int) -> Words:
    """Return one site's tail as unsigned words; `values` maps every item's name to its `length` integers.

    Raises:
        Misuse: ``tail_layout`` for missing, superfluous or too many values.
        Misuse: ``tail_overflow`` for a negative value or one that needs more limbs.
    """
    check_tail(items, b, n)
    if set(values) != {item.name for item in items}:
        raise Misuse("tail_layout", f"the tail has {[item.name for item in items]}, values came for {sorted(values)}")
    words: list[int] = []
    for item in items:
        bits = b if item.name == CHECKSUM else limb_bits(b, n)
        mask, room = (1 << bits) - 1, 1 << bits * item.limbs
        if len(values[item.name]) != item.length:
            raise Misuse("tail_layout", f"{item.name} has {item.length} values, not {len(values[item.name])}")
        for value in map(int, values[item.name]):
            if not 0 <= value < room:
                raise Misuse("tail_overflow", f"a value of {item.name} does not fit {item.limbs} limbs of {bits} bits")
            words.extend((value >> bits * limb) & mask for limb in range(item.limbs))
    return np.array(words, np.uint32).astype(np.uint16 if b <= 16 else np.uint32)


def decode_tail(items: Sequence[TailItem], words: Words, b: int, n: int) -> dict[str, list[int]]:
    """Return the values of a tail, of one site or of the sum of up to `n` sites.

    Raises:
        Misuse: ``tail_layout`` when `words` has another length.
    """
    check_tail(items, b, n)
    if len(words) != tail_words(items):
        raise Misuse("tail_layout", f"the tail has {tail_words(items)} words, not {len(words)}")
    raw = [word & ((1 << b) - 1) for word in words.tolist()]
    values: dict[str, list[int]] = {}
    start = 0
    for item in items:
        stop = start + item.limbs * item.length
        bits = limb_bits(b, n)
        limbs = [[limb << bits * k for limb in raw[start + k : stop : item.limbs]] for k in range(item.limbs)]
        values[item.name] = [sum(parts) for parts in zip(*limbs, strict=True)]
        start = stop
    return values
