"""Where every word of a masked vector lies: main words, tail, padding, chunks (PROTOCOLS A8, A9)."""

from dataclasses import dataclass

import numpy as np

from shared.errors import Misuse
from shared.secagg.tail import CHECKSUM_ITEM, TailItem, check_tail, tail_words

CHUNK_ELEMENTS = 2**20
BLOCK_ELEMENTS = 2**16  # what one pass over all neighbours works on: it has to stay in the processor's cache
PADDING_ELEMENTS = 16


def word_type(b: int) -> np.dtype[np.unsignedinteger]:
    """Return the arithmetic word for `b` bits: uint16 up to 16, uint32 above; reduction mod 2^b comes last."""
    return np.dtype(np.uint16) if b <= 16 else np.dtype(np.uint32)


@dataclass(frozen=True, slots=True)
class VectorLayout:
    """`d` main words of `b` bits, then `tail`, padded to 16 elements, cut into chunks; `n` is |P|.

    Every chunk but the last has `chunk_elements` elements. PROTOCOLS fixes that to 2^20; other multiples of 16 are
    for tests.
    """

    d: int
    tail: tuple[TailItem, ...]
    b: int
    n: int
    chunk_elements: int = CHUNK_ELEMENTS

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            Misuse: ``tail_layout``, ``vector_layout``.
        """
        check_tail(self.tail, self.b, self.n)
        if self.d < 0 or self.elements < 1 or not 8 <= self.b <= 32:
            raise Misuse("vector_layout", f"no vector has {self.d} main words, {self.elements} elements, b = {self.b}")
        if self.chunk_elements < 1 or self.chunk_elements % PADDING_ELEMENTS:
            raise Misuse("vector_layout", "chunks have a multiple of 16 elements")

    @property
    def word(self) -> np.dtype[np.unsignedinteger]:
        """Return the arithmetic word type."""
        return word_type(self.b)

    @property
    def elements(self) -> int:
        """Return the number of elements without padding: the manifest's ``vec.elems``."""
        return self.d + tail_words(self.tail)

    @property
    def padded(self) -> int:
        """Return the number of elements with padding."""
        return -(-self.elements // PADDING_ELEMENTS) * PADDING_ELEMENTS

    @property
    def chunk_count(self) -> int:
        """Return the number of chunks."""
        return -(-self.padded // self.chunk_elements)

    @property
    def has_checksum(self) -> bool:
        """Return whether the tail ends in checksums."""
        return bool(self.tail) and self.tail[-1] == CHECKSUM_ITEM

    def chunk_start(self, index: int) -> int:
        """Return the first element of chunk `index`.

        Raises:
            Misuse: ``vector_layout`` for a chunk the vector does not have.
        """
        if not 0 <= index < self.chunk_count:
            raise Misuse("vector_layout", f"the vector has {self.chunk_count} chunks, there is no chunk {index}")
        return index * self.chunk_elements

    def chunk_size(self, index: int) -> int:
        """Return the number of elements of chunk `index`, padding included."""
        return min(self.chunk_elements, self.padded - self.chunk_start(index))

    def chunk_bytes(self, index: int) -> int:
        """Return the packed size of chunk `index`; 16 elements always fill whole bytes."""
        return self.chunk_size(index) * self.b // 8

    @property
    def upload_bytes(self) -> int:
        """Return the packed size of the whole vector."""
        return self.padded * self.b // 8
