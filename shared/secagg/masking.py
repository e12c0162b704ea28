"""The site's one pass over its update: quantise, checksum, mask, pack, hash (PROTOCOLS A8, A9).

A block of elements goes through every step, with the streams of all neighbours, before the next one is touched, so
it never leaves the processor's cache; a chunk is handed over as soon as it is full.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shared.crypto.keystream import Keystream, KeystreamBlock, Words
from shared.errors import Misuse
from shared.secagg.checksum import Checksum
from shared.secagg.layout import BLOCK_ELEMENTS, VectorLayout
from shared.secagg.packing import pack_into
from shared.secagg.pair_secrets import in_order, mask_sign, self_key, stream_key
from shared.secagg.quantization import Quantizer, check_clips
from shared.secagg.tail import CHECKSUM, encode_tail

ChunkSink = Callable[[int, memoryview], None]
"""Takes (chunk index, packed bytes); the bytes are valid during the call only."""


@dataclass(frozen=True, slots=True)
class MaskedVector:
    """What the manifest says about an upload: its length without padding and the hex SHA-256 of every chunk."""

    elements: int
    chunk_sha256: tuple[str, ...]


class MaskingContext:
    """The mask secrets of one site in one context; they mask one vector, once (attack table row 18)."""

    __slots__ = ("_keys", "_lock", "cohort", "ctx_hash", "site")

    def __init__(
        self, ctx_hash: bytes, site: str, cohort: Sequence[str], *, self_secret: bytes, seeds: Mapping[str, bytes]
    ) -> None:
        """Derive the keys of `site`'s own mask and of the mask it shares with every other member of `cohort` (P).

        Raises:
            Misuse: ``mask_inputs`` when the seeds are not exactly those of the others.
            PeerFault: ``share_malformed`` for a secret that is not a field element.
        """
        others = [peer for peer in cohort if peer != site]
        if len(others) + 1 != len(cohort) or set(seeds) != set(others):
            raise Misuse("mask_inputs", f"{site} needs a seed with each of the other {len(cohort) - 1} invited sites")
        self.ctx_hash, self.site, self.cohort = ctx_hash, site, tuple(cohort)
        self._lock = Lock()
        self._keys: list[tuple[int, bytes]] | None = [(1, self_key(self_secret, ctx_hash, site))]
        for peer in others:
            key = stream_key(seeds[peer], ctx_hash, *in_order(site, peer))
            self._keys.append((mask_sign(site, peer), key))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: the copy would mask a second vector.

        Raises:
            Misuse: ``mask_reuse``.
        """
        raise Misuse("mask_reuse", f"the masks of {self.site} cannot be copied")

    def take_streams(self) -> tuple[list[Keystream], list[Keystream]]:
        """Return the streams to add and those to subtract, the first time; the keys are forgotten.

        Raises:
            Misuse: ``mask_reuse`` for the second vector: two vectors under one mask give away their difference.
        """
        with self._lock:
            keys, self._keys = self._keys, None
        if keys is None:
            raise Misuse("mask_reuse", f"{self.site} has already masked a vector in this context")
        return open_streams(keys, 0)


def mask_update(
    context: MaskingContext,
    layout: VectorLayout,
    update: NDArray[np.float32],
    quantizer: Quantizer,
    *,
    tail: Mapping[str, Sequence[int]],
    sink: ChunkSink,
) -> MaskedVector:
    """Mask the one vector of `context` and hand its packed chunks to `sink` in order.

    `update` is flat, float32, `layout.d` long. `tail` has the values of every item but the checksum. When
    this raises, what `sink` has got must be thrown away; the context stays used.

    Raises:
        InputError: ``update_not_finite``.
        Misuse: ``mask_reuse``, ``mask_inputs`` (sizes do not fit), ``tail_layout``, ``tail_overflow``.
    """
    if update.shape != (layout.d,) or update.dtype != np.float32 or layout.n != len(context.cohort):
        raise Misuse("mask_inputs", f"{layout.n} sites mask flat float32 updates of {layout.d} words")
    check_clips(quantizer.clips, layout.d)
    _check_values(layout, tail)
    words = _PlainWords(context.ctx_hash, layout, update, quantizer, tail)
    plus, minus = context.take_streams()
    block: Words = np.empty(min(BLOCK_ELEMENTS, layout.chunk_elements), layout.word)
    packed = np.empty(min(layout.chunk_elements, layout.padded) * layout.b // 8, np.uint8)
    hashes = []
    for index in range(layout.chunk_count):
        start, size = layout.chunk_start(index), layout.chunk_size(index)
        for offset in range(0, size, BLOCK_ELEMENTS):
            masked = block[: min(BLOCK_ELEMENTS, size - offset)]
            words.fill(start + offset, masked)
            words.scratch.add_into(masked, plus, minus)
            pack_into(masked, layout.b, packed[offset * layout.b // 8 :])
        chunk = packed.data[: layout.chunk_bytes(index)]
        hashes.append(hashlib.sha256(chunk).hexdigest())
        sink(index, chunk)
    return MaskedVector(layout.elements, tuple(hashes))


def open_streams(keys: Sequence[tuple[int, bytes]], start_byte: int) -> tuple[list[Keystream], list[Keystream]]:
    """Return the streams of (sign, key) pairs from `start_byte` on: those to add, those to subtract."""
    plus = [Keystream(key, start_byte) for sign, key in keys if sign > 0]
    return plus, [Keystream(key, start_byte) for sign, key in keys if sign < 0]


class _PlainWords:
    """Makes the words before masking, block by block in order: main words, then the tail with its checksums, zeros."""

    def __init__(
        self,
        ctx_hash: bytes,
        layout: VectorLayout,
        update: NDArray[np.float32],
        quantizer: Quantizer,
        tail: Mapping[str, Sequence[int]],
    ) -> None:
        self._layout = layout
        self._update = update
        self._quantizer = quantizer
        self._tail = tail
        self._tail_words: Words | None = None
        self._checksum = Checksum(ctx_hash, layout)
        self.scratch = KeystreamBlock(layout.word, min(BLOCK_ELEMENTS, layout.chunk_elements))

    def fill(self, start: int, words: Words) -> None:
        main = max(0, min(self._layout.d - start, len(words)))
        if main:
            self._quantizer.quantize(self._update, start, words[:main])
            self._checksum.add(words[:main], self.scratch)
        if main < len(words):
            first = start + main - self._layout.d
            rest = self._whole_tail()[first : first + len(words) - main]
            words[main : main + len(rest)] = rest
            words[main + len(rest) :] = 0

    def _whole_tail(self) -> Words:
        # Asked for only after the last main word: by then the checksums are complete.
        if self._tail_words is None:
            checksum = {CHECKSUM: self._checksum.values()} if self._layout.has_checksum else {}
            self._tail_words = encode_tail(
                self._layout.tail, {**self._tail, **checksum}, self._layout.b, self._layout.n
            )
        return self._tail_words


def _check_values(layout: VectorLayout, tail: Mapping[str, Sequence[int]]) -> None:
    """Refuse tail values that do not fit before a mask is used up."""
    if CHECKSUM in tail:
        raise Misuse("tail_layout", "the checksum is computed here, never given")
    checksum = {CHECKSUM: [0] * 4} if layout.has_checksum else {}
    encode_tail(layout.tail, {**tail, **checksum}, layout.b, layout.n)
