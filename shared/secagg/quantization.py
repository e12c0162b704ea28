"""Float32 updates to integers and back: clip, weight, stochastic rounding (PROTOCOLS A9).

The clip table of a flat update is a list of runs ``(end_index, clip)``: elements up to the first end index have
the first clip, and so on; the last end index is the length of the update.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from shared.crypto.keystream import Keystream, KeystreamBlock, Words
from shared.errors import InputError, Misuse
from shared.secagg.layout import BLOCK_ELEMENTS
from shared.secagg.parameters import largest_quantum

ClipRuns = Sequence[tuple[int, float]]

# Added to a number below 2^19, this leaves its floor in the upper half of the float64 (an integer in two's complement
# beside the bits of _SHIFT itself) and its fraction, to 32 bits, in the lower half: rounding down costs no operation.
_SHIFT = 1.5 * 2.0**20
_SHIFT_BITS = np.uint32(0x41380000)
_LEAST_CLIP, _LARGEST_CLIP = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


class RandomBits:
    """Uniform 32-bit words for stochastic rounding: AES-256-CTR under a key that is used for nothing else."""

    def __init__(self, key: bytes) -> None:
        """Start the stream of `key` (32 bytes); a given key always gives the same words, which tests rely on."""
        self._stream = Keystream(key)
        self._block = KeystreamBlock(np.dtype(np.uint32), 0)

    @classmethod
    def fresh(cls) -> "RandomBits":
        """Return a stream under a new key from the operating system."""
        return cls(os.urandom(32))

    def words(self, count: int) -> Words:
        """Return the next `count` words; valid until the next call."""
        if count > self._block.capacity:
            self._block = KeystreamBlock(np.dtype(np.uint32), count)
        return self._block.next_words(self._stream, count)


class _Scratch:
    """Memory for one block."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.finite = np.empty(capacity, np.bool_)
        self.value = np.empty(capacity, np.float64)
        # Each is _SHIFT + U: the 32 bits of U are written straight into the low half of the number.
        self.uniform = np.full(capacity, _SHIFT)


class Quantizer:
    """Quantises one site's update block by block; call `quantize` for the blocks in order."""

    def __init__(self, clips: ClipRuns, *, weight: int, w_cap: int, q: int, random: RandomBits) -> None:
        """Prepare for an update with these clips (all > 0), `weight` samples of at most `w_cap`, and q bits.

        Unweighted averaging is ``weight = w_cap = 1``.

        Raises:
            InputError: ``weight_out_of_range``; a site's own sample count does not fit the study's cap.
            Misuse: ``clip_table``.
        """
        check_clips(clips)
        if not 0 <= weight <= w_cap:
            raise InputError("weight_out_of_range", f"weight {weight} is not within 0 and the study's cap {w_cap}")
        self.clips = clips
        self._most = weight / w_cap * largest_quantum(q)
        self._random = random
        self._scratch = _Scratch(0)

    def quantize(self, update: NDArray[np.float32], start: int, words: Words) -> None:
        """Write the quantised elements `start` to ``start + len(words)`` of `update` to `words`.

        ``q = floor(v + U[0, 1))`` with ``v = (weight / w_cap) * clip(x) * Q / a`` in float64, as wrapping words. U has
        32 bits; clipping v at its bound instead of x keeps |v| <= Q, so the clamp of A9 holds by construction.

        Raises:
            InputError: ``update_not_finite`` naming the first such element.
        """
        count = len(words)
        if count > self._scratch.capacity:
            self._scratch = _Scratch(count)
        block = update[start : start + count]
        if not np.isfinite(block, out=self._scratch.finite[:count]).all():
            first = start + int(np.argmin(np.isfinite(block)))
            raise InputError("update_not_finite", f"element {first} of the update is {update[first]}")
        value, uniform = self._scratch.value[:count], self._scratch.uniform[:count]
        for low, high, clip in _runs_within(self.clips, start, start + count):
            np.multiply(block[low:high], self._most / clip, out=value[low:high], dtype=np.float64)
        np.clip(value, -self._most, self._most, out=value)
        np.copyto(_low_half(uniform), self._random.words(count))
        np.add(value, uniform, out=value)
        if words.itemsize == 2:
            np.copyto(words, value.view("<u2")[2::4])  # _SHIFT leaves these 16 bits alone
        else:
            np.copyto(words, value.view("<u4")[1::2])
            np.subtract(words, _SHIFT_BITS, out=words)


def quantize(
    update: NDArray[np.float32], clips: ClipRuns, *, weight: int, w_cap: int, q: int, random: RandomBits
) -> NDArray[np.int32]:
    """Return the quantised `update` as integers in -Q to Q.

    Raises:
        InputError: ``update_not_finite``, ``weight_out_of_range``.
        Misuse: ``clip_table``.
    """
    check_clips(clips, len(update))
    quantizer = Quantizer(clips, weight=weight, w_cap=w_cap, q=q, random=random)
    result = np.empty(len(update), np.int32)
    for start in range(0, len(update), BLOCK_ELEMENTS):
        quantizer.quantize(update, start, result[start : start + BLOCK_ELEMENTS].view(np.uint32))
    return result


def dequantize(
    words: NDArray[np.int32],
    clips: ClipRuns,
    *,
    q: int,
    w_cap: int,
    total_weight: int,
    start: int = 0,
    out: NDArray[np.float32] | NDArray[np.float64] | None = None,
) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return the weighted mean update ``words * a / Q * w_cap / total_weight`` for elements from `start` on.

    Every product is taken in float64 and rounded once to the type of `out` (float32 by default), so every site that
    repeats it gets the same bits.

    Raises:
        Misuse: ``clip_table`` when the clips end before the words do; ``weight_out_of_range`` for a total below 1.
    """
    check_clips(clips)
    if total_weight < 1 or not clips or clips[-1][0] < start + len(words):
        raise Misuse("weight_out_of_range" if total_weight < 1 else "clip_table", "nothing to divide by or no clip")
    result = np.empty(len(words), np.float32) if out is None else out
    for low, high, clip in _runs_within(clips, start, start + len(words)):
        factor = clip / largest_quantum(q) * w_cap / total_weight
        np.multiply(words[low:high], factor, out=result[low:high], dtype=np.float64, casting="same_kind")
    return result


def check_clips(clips: ClipRuns, length: int | None = None) -> None:
    """Check a clip table, and that it covers exactly `length` elements if that is given.

    Raises:
        Misuse: ``clip_table``.
    """
    ends = [end for end, _ in clips]
    if (
        any(end < 1 for end in ends)
        or sorted(set(ends)) != ends
        or any(not _LEAST_CLIP <= clip <= _LARGEST_CLIP for _, clip in clips)
    ):
        raise Misuse("clip_table", "end indexes rise and every clip is a positive number within float32")
    if length is not None and (ends[-1] if ends else 0) != length:
        raise Misuse("clip_table", f"the clips do not cover the {length} elements of the update exactly")


def _runs_within(clips: ClipRuns, start: int, stop: int) -> Iterator[tuple[int, int, float]]:
    """Yield (low, high, clip) of the runs that meet [start, stop), relative to `start`."""
    begin = start
    for number in range(bisect_right(clips, start, key=itemgetter(0)), len(clips)):
        if begin >= stop:
            return
        end, clip = clips[number]
        yield begin - start, min(end, stop) - start, clip
        begin = end


def _low_half(numbers: NDArray[np.float64]) -> NDArray[np.uint32]:
    return numbers.view("<u4")[0::2]
