"""Words to wire bytes and back: the low b bits of each, little-endian, without gaps (PROTOCOLS A8).

`PackedSum` adds packed vectors and unpacks their sum, once, instead of every vector.
"""

from collections.abc import Sequence
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.crypto.keystream import Words
from shared.errors import Misuse, PeerFault
from shared.secagg.layout import BLOCK_ELEMENTS, word_type

Buffer = bytes | bytearray | memoryview
_GROUP = 16  # 16 elements of b bits are b little-endian 16-bit units, whatever b is
_PIECE = 3 * 2**13  # 32-bit units: small enough for the sums of a piece to stay in the cache while vectors are added


def packed_bytes(count: int, b: int) -> int:
    """Return the bytes of `count` words: an odd count at b = 20 is padded with a zero element."""
    whole = 8 // gcd(b, 8)
    return -(-count // whole) * whole * b // 8


def pack(words: Words, b: int) -> bytes:
    """Return the packed low `b` bits of `words`, in `packed_bytes` bytes."""
    padded = np.zeros(-(-len(words) // _GROUP) * _GROUP, word_type(b))
    padded[: len(words)] = words
    out = np.zeros(len(padded) * b // 8, np.uint8)
    pack_into(padded, b, out)
    return out[: packed_bytes(len(words), b)].tobytes()


def unpack(packed: Buffer, b: int, count: int) -> Words:
    """Return the first `count` words of `packed` in an array of their own.

    Raises:
        PeerFault: ``chunk_size`` when `packed` has not exactly `packed_bytes` bytes.
    """
    size = packed_bytes(count, b)
    if len(packed) != size:
        raise PeerFault("chunk_size", f"{count} words of {b} bits take {size} bytes, not {len(packed)}")
    padded = np.zeros(-(-count // _GROUP) * _GROUP * b // 8, np.uint8)
    padded[:size] = np.frombuffer(packed, np.uint8)
    if b in {16, 32}:
        return padded.view(f"<u{b // 8}").astype(word_type(b))[:count]
    return _unpack_any(padded.view("<u2").reshape(-1, b), b)[:count]


def pack_into(words: Words, b: int, out: NDArray[np.uint8]) -> None:
    """Pack `words`, a multiple of 16 of them, into the first bytes of `out`. Bits of a word above b do not matter.

    Raises:
        Misuse: ``vector_layout`` for another number of words or too small an `out`.
    """
    size = len(words) * b // 8
    if len(words) % _GROUP or len(out) < size:
        raise Misuse("vector_layout", f"cannot pack {len(words)} words into {len(out)} bytes")
    if b in {16, 32}:
        np.copyto(out[:size].view(f"<u{b // 8}"), words)
    elif b % 8 == 0:
        for place in range(b // 8):
            np.copyto(out[place : size : b // 8], words.view(np.uint8)[place :: words.itemsize])
    else:
        _pack_any(words, b, out[:size].view("<u2").reshape(-1, b))


class PackedSum(Protocol):
    """A running sum of packed vectors modulo 2^b."""

    def reset(self, count: int) -> None:
        """Start from zero, for vectors of `count` words, a multiple of 16."""

    def add(self, packed: Sequence[Buffer]) -> None:
        """Add whole packed vectors, several at a time: that saves passes over the sum.

        Raises:
            PeerFault: ``chunk_size`` for a vector of another length.
        """

    def block(self, start: int, count: int) -> Words:
        """Return `count` words of the sum from `start` on, both multiples of 16; bits above b are undefined.

        At most 2^16 words at a time. The array may be changed and is valid until the next call.
        """


def packed_sum(b: int, capacity: int) -> PackedSum:
    """Return a sum for vectors of up to `capacity` words of `b` bits, with its memory allocated."""
    return _Sum24(capacity) if b == 24 else _SumAny(b, capacity)


class _SumAny:
    """Adds the words themselves; for 16 and 32 bits the packed bytes already are the words."""

    def __init__(self, b: int, capacity: int) -> None:
        self._b = b
        self._memory: Words = np.empty(capacity, word_type(b))
        self._total = self._memory

    def reset(self, count: int) -> None:
        self._total = self._memory[:count]
        self._total[:] = 0

    def add(self, packed: Sequence[Buffer]) -> None:
        for vector in packed:
            _check_size(vector, len(self._total), self._b)
            if self._b in {16, 32}:
                words: Words = np.frombuffer(vector, f"<u{self._b // 8}")
            else:
                words = unpack(vector, self._b, len(self._total))
            np.add(self._total, words, out=self._total)

    def block(self, start: int, count: int) -> Words:
        return self._total[start : start + count]


class _Sum24:
    """Adds 24-bit words three 32-bit units (four words) at a time, without unpacking each vector.

    Of the units w0, w1, w2 the words are w0, w0 >> 24 | w1 << 8, w1 >> 16 | w2 << 16 and w2 >> 8, all modulo 2^24.
    Shifts to the left commute with the sum modulo 2^32, shifts to the right do not: so the sums of the units and the
    sums of the units shifted right by 24, 16 and 8 are kept, and put together once at the end.
    """

    def __init__(self, capacity: int) -> None:
        piece = min(_PIECE, capacity * 3 // 4)
        self._memory = np.empty((2, capacity * 3 // 4), np.uint32)
        self._sums = self._memory
        self._pattern = np.tile(np.array([24, 16, 8], np.uint32), piece // 3)
        self._shifted = np.empty(piece, np.uint32)
        self._words = np.empty(min(BLOCK_ELEMENTS, capacity), np.uint32)

    def reset(self, count: int) -> None:
        self._sums = self._memory[:, : count * 3 // 4]
        self._sums[:] = 0

    def add(self, packed: Sequence[Buffer]) -> None:
        count = self._sums.shape[1]
        for vector in packed:
            _check_size(vector, count * 4 // 3, 24)
        vectors = [np.frombuffer(vector, "<u4") for vector in packed]
        for start in range(0, count, _PIECE):
            units, high = self._sums[:, start : start + _PIECE]
            pattern, shifted = self._pattern[: len(units)], self._shifted[: len(units)]
            for whole in vectors:
                piece = whole[start : start + _PIECE]
                np.add(units, piece, out=units)
                np.right_shift(piece, pattern, out=shifted)
                np.add(high, shifted, out=high)

    def block(self, start: int, count: int) -> Words:
        units, high = self._sums[:, start * 3 // 4 : (start + count) * 3 // 4]
        words, shifted = self._words[:count], self._words[1:count:4]
        words[0::4] = units[0::3]
        np.left_shift(units[1::3], 8, out=shifted)
        np.add(shifted, high[0::3], out=shifted)
        shifted = self._words[2:count:4]
        np.left_shift(units[2::3], 16, out=shifted)
        np.add(shifted, high[1::3], out=shifted)
        words[3::4] = high[2::3]
        return words


def _check_size(packed: Buffer, count: int, b: int) -> None:
    if len(packed) * 8 != count * b:
        raise PeerFault("chunk_size", f"a chunk of {count} words of {b} bits has not {len(packed)} bytes")


def _units_of_lane(lane: int, b: int) -> tuple[int, int, range]:
    """Return where a group's `lane`-th word starts: its first 16-bit unit, the bit in it, and the units it touches."""
    first, bit = divmod(lane * b, 16)
    return first, bit, range(-(-(bit + b) // 16))


def _pack_any(words: Words, b: int, units: NDArray[np.uint16]) -> None:
    units[:] = 0
    lanes = words.reshape(-1, _GROUP)
    for lane in range(_GROUP):
        first, bit, touched = _units_of_lane(lane, b)
        value = (lanes[:, lane].astype(np.uint64) & np.uint64((1 << b) - 1)) << np.uint64(bit)
        for unit in touched:
            units[:, first + unit] |= (value >> np.uint64(16 * unit)).astype(np.uint16)


def _unpack_any(units: NDArray[np.uint16], b: int) -> Words:
    lanes = np.empty((len(units), _GROUP), word_type(b))
    for lane in range(_GROUP):
        first, bit, touched = _units_of_lane(lane, b)
        value = np.zeros(len(units), np.uint64)
        for unit in touched:
            value |= units[:, first + unit].astype(np.uint64) << np.uint64(16 * unit)
        lanes[:, lane] = (value >> np.uint64(bit)) & np.uint64((1 << b) - 1)
    return lanes.reshape(-1)
