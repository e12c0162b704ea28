"""Checksums in the tail: they catch almost every accidental error in masks or transport (PROTOCOLS A9)."""

import numpy as np

from shared.crypto.keystream import Keystream, KeystreamBlock, Words
from shared.secagg.layout import VectorLayout
from shared.secagg.pair_secrets import checksum_key
from shared.secagg.tail import CHECKSUM_WORDS


class Checksum:
    """``chk_e = sum of q_k * r_(e,k) mod 2^b`` over main words, fed block by block. The r are public."""

    def __init__(self, ctx_hash: bytes, layout: VectorLayout, start: int = 0) -> None:
        """Start at main word `start`; the checksums of parts add up to the whole vector's. Without an item, none."""
        offset = start * layout.word.itemsize
        words = range(CHECKSUM_WORDS if layout.has_checksum else 0)
        self._streams = [Keystream(checksum_key(ctx_hash, e), offset) for e in words]
        self._totals = [0] * len(self._streams)
        self._modulus = 1 << layout.b

    def add(self, words: Words, scratch: KeystreamBlock) -> None:
        """Add the next main words; bits above b do not matter. `scratch` is overwritten."""
        for e, stream in enumerate(self._streams):
            factors = scratch.next_words(stream, len(words))
            # Both wrap; which one is faster depends on the width.
            if factors.itemsize == 4:
                self._totals[e] += int(np.einsum("i,i->", factors, words))
            else:
                np.multiply(factors, words, out=factors)
                self._totals[e] += int(np.add.reduce(factors, dtype=factors.dtype))

    def values(self) -> list[int]:
        """Return the words so far, each modulo 2^b."""
        return [total % self._modulus for total in self._totals]
