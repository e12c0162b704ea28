"""Words to wire bytes and back: the low b bits of each, little-endian, without gaps (PROTOCOLS A8).

`PackedSum` adds packed vectors without unpacking each of them: a coordinator with ten sites unpacks once, not ten
times.
"""

from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.crypto.keystream import Words
from shared.errors import Misuse, PeerFault
from shared.secagg.layout import word_type

Buffer = bytes | bytearray | memoryview
_GROUP = 16  # 16 elements of b bits are b little-endian 16-bit units, whatever b is
_PIECE = 3 * 2**14  # 32-bit units of packed bytes that one pass of the 24-bit sum works on


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


def pack_into(words: Words, b: int, out: NDArray[np.uint8]) -> None:
    """Pack `words`, a multiple of 16 of them, into the first bytes of `out`. Bits of a word above b do not matter.

    Raises:
        Misuse: ``vector_layout`` for another number of words or too small an `out`.
    """
    size = len(words) * b // 8
    if len(words) % _GROUP or len(out) < size:
        raise Misuse("vector_layout", f"cannot pack {len(words)} words of {b} bits into {len(out)} bytes")
    if b in {16, 32}:
        np.copyto(out[:size].view(f"<u{b // 8}"), words)
    elif b == 24:
        _pack_24(words, out[:size].view("<u4"))
    else:
        _pack_any(words, b, out[:size].view("<u2").reshape(-1, b))


def unpack(packed: Buffer, b: int, count: int) -> Words:
    """Return the first `count` words of `packed` in an array of their own.

    Raises:
        PeerFault: ``chunk_size`` when `packed` has not exactly `packed_bytes` bytes.
    """
    size = packed_bytes(count, b)
    if len(packed) != size:
        raise PeerFault("chunk_size", f"{count} words of {b} bits take {size} bytes, not {len(packed)}")
    padded = np.zeros(-(-count // _GROUP) * _GROUP * b // 8, np.uint8)
    padded[: len(packed)] = np.frombuffer(packed, np.uint8)
    if b in {16, 32}:
        return padded.view(f"<u{b // 8}").astype(word_type(b))[:count]
    return _unpack_any(padded.view("<u2").reshape(-1, b), b)[:count]


class PackedSum(Protocol):
    """A running sum of packed vectors modulo 2^b."""

    def reset(self, count: int) -> None:
        """Start a sum of vectors of `count` words, a multiple of 16."""

    def add(self, packed: Buffer) -> None:
        """Add one packed vector of exactly that length."""

    def words(self) -> Words:
        """Return the sum; bits above b are undefined. The array may be changed and is valid until the next `reset`."""


def packed_sum(b: int, capacity: int) -> PackedSum:
    """Return a sum for vectors of up to `capacity` words of `b` bits, with its memory allocated."""
    return _Sum24(capacity) if b == 24 else _SumAny(b, capacity)


class _SumAny:
    """Adds the words themselves; for 16 and 32 bits the packed bytes already are the words."""

    def __init__(self, b: int, capacity: int) -> None:
        self._b = b
        self._total: Words = np.zeros(capacity, word_type(b))
        self._count = 0

    def reset(self, count: int) -> None:
        self._count = count
        self._total[:count] = 0

    def add(self, packed: Buffer) -> None:
        _check_size(packed, self._count, self._b)
        total = self._total[: self._count]
        if self._b in {16, 32}:
            np.add(total, np.frombuffer(packed, f"<u{self._b // 8}"), out=total)
        else:
            np.add(total, unpack(packed, self._b, self._count), out=total)

    def words(self) -> Words:
        return self._total[: self._count]


class _Sum24:
    """Adds 24-bit words three 32-bit units (four words) at a time, without unpacking them.

    Of the units w0, w1, w2 the words are w0, w0 >> 24 | w1 << 8, w1 >> 16 | w2 << 16 and w2 >> 8, all modulo 2^24.
    Shifts to the left commute with the sum modulo 2^32, shifts to the right do not: so the sums of the units and the
    sums of the units shifted right by 24, 16 and 8 are kept, and put together once at the end.
    """

    def __init__(self, capacity: int) -> None:
        units = capacity * 3 // 4
        self._units = np.zeros(units, np.uint32)
        self._shifted = np.zeros(units, np.uint32)
        self._total = np.zeros(capacity, np.uint32)
        self._pattern = np.tile(np.array([24, 16, 8], np.uint32), _PIECE // 3)
        self._piece = np.empty(_PIECE, np.uint32)
        self._count = 0

    def reset(self, count: int) -> None:
        self._count = count
        self._units[: count * 3 // 4] = 0
        self._shifted[: count * 3 // 4] = 0

    def add(self, packed: Buffer) -> None:
        _check_size(packed, self._count, 24)
        arrived = np.frombuffer(packed, "<u4")
        for start in range(0, len(arrived), _PIECE):
            piece = arrived[start : start + _PIECE]
            stop, size = start + len(piece), len(piece)
            np.add(self._units[start:stop], piece, out=self._units[start:stop])
            np.right_shift(piece, self._pattern[:size], out=self._piece[:size])
            np.add(self._shifted[start:stop], self._piece[:size], out=self._shifted[start:stop])

    def words(self) -> Words:
        for start in range(0, self._count * 3 // 4, _PIECE):
            units = self._units[start : min(start + _PIECE, self._count * 3 // 4)]
            shifted = self._shifted[start : start + len(units)]
            quarter = self._piece[: len(units) // 3]
            total = self._total[start * 4 // 3 : (start + len(units)) * 4 // 3]
            total[0::4] = units[0::3]
            np.left_shift(units[1::3], 8, out=quarter)
            np.add(quarter, shifted[0::3], out=total[1::4])
            np.left_shift(units[2::3], 16, out=quarter)
            np.add(quarter, shifted[1::3], out=total[2::4])
            total[3::4] = shifted[2::3]
        return self._total[: self._count]


def _check_size(packed: Buffer, count: int, b: int) -> None:
    if len(packed) != count * b // 8:
        raise PeerFault("chunk_size", f"a chunk of {count} words has {count * b // 8} bytes, not {len(packed)}")


def _pack_24(words: Words, out: NDArray[np.uint32]) -> None:
    masked = np.bitwise_and(words, 0xFFFFFF)
    first, second, third, fourth = masked[0::4], masked[1::4], masked[2::4], masked[3::4]
    quarter = np.left_shift(second, 24)
    np.bitwise_or(first, quarter, out=out[0::3])
    np.right_shift(second, 8, out=quarter)
    np.left_shift(third, 16, out=out[1::3])
    np.bitwise_or(out[1::3], quarter, out=out[1::3])
    np.right_shift(third, 16, out=quarter)
    np.left_shift(fourth, 8, out=out[2::3])
    np.bitwise_or(out[2::3], quarter, out=out[2::3])


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
