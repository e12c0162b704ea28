"""Words to wire bytes and back: the low b bits of each, little-endian, without gaps (PROTOCOLS A8)."""

from math import gcd

import numpy as np
from numpy.typing import NDArray

from shared.crypto.keystream import Words
from shared.errors import Misuse, PeerFault
from shared.secagg.layout import word_type

Buffer = bytes | bytearray | memoryview
_GROUP = 16  # 16 elements of b bits are b little-endian 16-bit units, whatever b is


def packed_bytes(count: int, b: int) -> int:
    """Return the bytes of `count` words: an odd count at b = 20 is padded with a zero element."""
    whole = 8 // gcd(b, 8)
    return -(-count // whole) * whole * b // 8


def pack(words: Words, b: int) -> bytes:
    """Return the packed low `b` bits of `words`, in `packed_bytes` bytes."""
    padded = np.zeros(-(-len(words) // _GROUP) * _GROUP, word_type(b))
    padded[: len(words)] = words
    out = np.zeros(len(padded) * b // 8, np.uint8)
    Packer(b, len(padded)).pack_into(padded, out)
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


class Packer:
    """Packs blocks of words through memory of its own."""

    def __init__(self, b: int, capacity: int) -> None:
        """Prepare for blocks of up to `capacity` words of `b` bits."""
        self._b = b
        self._pairs = np.empty((2, capacity // 2) if b == 24 else (2, 0), np.uint64)

    def pack_into(self, words: Words, out: NDArray[np.uint8]) -> None:
        """Pack `words`, a multiple of 16, into the first bytes of `out`. Bits of a word above b do not matter.

        Raises:
            Misuse: ``vector_layout`` for another number of words or too small an `out`.
        """
        size = len(words) * self._b // 8
        if len(words) % _GROUP or len(out) < size:
            raise Misuse("vector_layout", f"cannot pack {len(words)} words into {len(out)} bytes")
        if self._b in {16, 32}:
            np.copyto(out[:size].view(f"<u{self._b // 8}"), words)
        elif self._b == 24:
            self._pack_24(words, out[:size].view("<u2"))
        else:
            _pack_any(words, self._b, out[:size].view("<u2").reshape(-1, self._b))

    def _pack_24(self, words: Words, units: NDArray[np.uint16]) -> None:
        """Close the gap between two words at a time, then copy the three 16-bit units of each pair."""
        low, high = self._pairs[:, : len(words) // 2]
        pairs = words.view("<u8")
        np.bitwise_and(pairs, 0xFFFFFF, out=low)
        np.right_shift(pairs, 8, out=high)
        np.bitwise_and(high, 0xFFFFFF000000, out=high)
        np.bitwise_or(low, high, out=low)
        for unit in range(3):
            np.copyto(units[unit::3], low.view("<u2")[unit::4])


def add_packed(total: Words, packed: Buffer, b: int) -> None:
    """Add the packed words of `packed`, as many as `total` has (a multiple of 16), to it; bits above b are undefined.

    Raises:
        PeerFault: ``chunk_size``.
    """
    if len(packed) * 8 != len(total) * b:
        raise PeerFault("chunk_size", f"a chunk of {len(total)} words of {b} bits has not {len(packed)} bytes")
    if b in {16, 32}:
        np.add(total, np.frombuffer(packed, f"<u{b // 8}"), out=total)
    elif b == 24:
        # Each word is read together with the first byte of the next one: bits above b never matter. Only the last word
        # has no next one.
        words: NDArray[np.uint32] = np.ndarray((len(total) - 1,), "<u4", packed, 0, (3,))
        np.add(total[:-1], words, out=total[:-1])
        total[-1:] += np.uint32(int.from_bytes(packed[-3:], "little"))
    else:
        np.add(total, unpack(packed, b, len(total)), out=total)


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
