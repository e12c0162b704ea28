"""The coordinator's one pass over the masked chunks: verify, sum, unmask, check (PROTOCOLS A8, A9).

Chunks are independent, so they may go through a pool of threads; memory grows with chunk size and threads, never with
the number of sites or of elements.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.crypto.keystream import KeystreamBlock, Words
from shared.errors import Misuse, PeerFault
from shared.secagg.checksum import Checksum
from shared.secagg.layout import BLOCK_ELEMENTS, VectorLayout
from shared.secagg.masking import open_streams
from shared.secagg.packing import Buffer, packed_sum
from shared.secagg.pair_secrets import in_order, mask_sign, self_key, stream_key
from shared.secagg.tail import CHECKSUM, SITE_COUNT, decode_tail, tail_words

HELD_CHUNKS = 4
ChunkSource = Callable[[str, int], Buffer]
"""Takes (site, chunk index), returns the packed chunk; up to 4 of them are in use at once in each thread."""
WordSink = Callable[[int, NDArray[np.int32]], None]
"""Takes (chunk index, main words of that chunk) in order of the chunks; the words are valid during the call only."""


@dataclass(frozen=True, slots=True)
class MaskedSum:
    """Everything that turns masked uploads into their sum.

    `survivors` (U) is a part of `cohort` (P), both ascending; `self_secrets` holds b_i for i in U, `pair_seeds` s_ik at
    (i, k) for i in U and k in P without U, `chunk_sha256` the hashes of each survivor's signed manifest.
    """

    ctx_hash: bytes
    layout: VectorLayout
    cohort: Sequence[str]
    survivors: Sequence[str]
    chunk_sha256: Mapping[str, Sequence[str]]
    self_secrets: Mapping[str, bytes] = field(repr=False)
    pair_seeds: Mapping[tuple[str, str], bytes] = field(repr=False)

    def __post_init__(self) -> None:
        """Check that the parts belong together.

        Raises:
            Misuse: ``unmask_inputs``.
            PeerFault: ``chunk_count`` naming the site whose manifest lists another number of chunks.
        """
        present = set(self.survivors)
        lost = [site for site in self.cohort if site not in present]
        needed = {(i, k) for i in self.survivors for k in lost}
        if (
            list(self.survivors) != [site for site in self.cohort if site in present]
            or not present
            or self.layout.n != len(self.cohort)
            or set(self.self_secrets) != present
            or set(self.pair_seeds) != needed
        ):
            raise Misuse("unmask_inputs", "secrets or sizes do not belong to these survivors of this cohort")
        for site in self.survivors:
            if len(self.chunk_sha256[site]) != self.layout.chunk_count:
                raise PeerFault("chunk_count", f"the manifest of {site} does not list {self.layout.chunk_count} chunks")

    def mask_keys(self) -> list[tuple[int, bytes]]:
        """Return (sign, key) of every stream that is left in the plain sum, with the sign that takes it out."""
        keys = [(-1, self_key(secret, self.ctx_hash, site)) for site, secret in self.self_secrets.items()]
        for (i, k), seed in self.pair_seeds.items():
            keys.append((-mask_sign(i, k), stream_key(seed, self.ctx_hash, *in_order(i, k))))
        return keys


def unmask(job: MaskedSum, source: ChunkSource, sink: WordSink, *, workers: int = 1) -> dict[str, list[int]]:
    """Sum the survivors' vectors, hand the main words (centred int32) to `sink` and return the tail's values.

    The words are the integer sum of the quantised vectors, bit for bit. When this raises, what `sink` has got must be
    thrown away. With `workers` above 1 `source` is called from that many threads.

    Raises:
        PeerFault: ``chunk_size``, ``chunk_hash`` naming the site and chunk; ``sa_checksum``, ``sa_site_count`` when the
            parts are as signed but the sum is not right.
    """
    layout = job.layout
    keys = job.mask_keys()
    units = [_ChunkUnmasker(job, keys, source) for _ in range(max(1, min(workers, layout.chunk_count)))]
    rest: Words = np.zeros(layout.padded - layout.d, layout.word)
    totals = [0] * len(Checksum(job.ctx_hash, layout).values())
    with closing(_in_order(units, layout.chunk_count)) as chunks:
        for index, chunk in enumerate(chunks):
            if len(chunk.main):
                sink(index, chunk.main)
            first = layout.chunk_start(index) + len(chunk.main) - layout.d
            rest[first : first + len(chunk.rest)] = chunk.rest
            totals = [total + part for total, part in zip(totals, chunk.checksum, strict=True)]
    return _checked_tail(job, rest, totals)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One unmasked chunk: centred main words, tail words with padding, partial checksums."""

    main: NDArray[np.int32]
    rest: Words
    checksum: list[int]


class _ChunkUnmasker:
    """Unmasks one chunk at a time in its own preallocated memory; one per thread."""

    def __init__(self, job: MaskedSum, keys: list[tuple[int, bytes]], source: ChunkSource) -> None:
        capacity = min(job.layout.chunk_elements, job.layout.padded)
        self._job = job
        self._keys = keys
        self._source = source
        self._sum = packed_sum(job.layout.b, capacity)
        self._main = np.empty(capacity, np.int32)
        self._scratch = KeystreamBlock(job.layout.word, min(BLOCK_ELEMENTS, capacity))

    def unmask(self, index: int) -> _Chunk:
        layout = self._job.layout
        start, size = layout.chunk_start(index), layout.chunk_size(index)
        self._add_up(index, size)
        plus, minus = open_streams(self._keys, start * layout.word.itemsize)
        checksum = Checksum(self._job.ctx_hash, layout, start)
        main = max(0, min(layout.d - start, size))
        rest: Words = np.empty(size - main, layout.word)
        for offset in range(0, size, BLOCK_ELEMENTS):
            words = self._sum.block(offset, min(BLOCK_ELEMENTS, size - offset))
            self._scratch.add_into(words, plus, minus)
            inner = words[: max(0, main - offset)]
            outer, first = words[len(inner) :], max(0, offset - main)
            np.bitwise_and(outer, (1 << layout.b) - 1, out=rest[first : first + len(outer)])
            checksum.add(inner, self._scratch)
            lift(inner, layout.b, self._main[offset : offset + len(inner)])
        return _Chunk(self._main[:main], rest, checksum.values())

    def _add_up(self, index: int, size: int) -> None:
        self._sum.reset(size)
        for first in range(0, len(self._job.survivors), HELD_CHUNKS):
            sites = self._job.survivors[first : first + HELD_CHUNKS]
            chunks = [self._source(site, index) for site in sites]
            for site, chunk in zip(sites, chunks, strict=True):
                if len(chunk) != self._job.layout.chunk_bytes(index):
                    raise PeerFault("chunk_size", f"chunk {index} of {site} has {len(chunk)} bytes")
                if hashlib.sha256(chunk).hexdigest() != self._job.chunk_sha256[site][index]:
                    raise PeerFault("chunk_hash", f"chunk {index} of {site} is not the one its manifest names")
            self._sum.add(chunks)


def _in_order(units: Sequence[_ChunkUnmasker], chunk_count: int) -> Generator[_Chunk]:
    """Yield the chunks in order; a unit starts its next chunk only after its last one has been consumed."""
    if len(units) == 1:
        for index in range(chunk_count):
            yield units[0].unmask(index)
        return
    with ThreadPoolExecutor(len(units)) as pool:
        free = deque(units)
        pending: deque[tuple[_ChunkUnmasker, Future[_Chunk]]] = deque()
        for index in range(chunk_count):
            if not free:
                unit, future = pending.popleft()
                yield future.result()
                free.append(unit)
            unit = free.popleft()
            pending.append((unit, pool.submit(unit.unmask, index)))
        while pending:
            yield pending.popleft()[1].result()


def lift(words: Words, b: int, out: NDArray[np.int32]) -> None:
    """Write `words` mod 2^b, centred into [-2^(b-1), 2^(b-1)), to `out`; `words` is overwritten."""
    shift = 8 * words.itemsize - b
    signed = words.view(f"i{words.itemsize}")
    if shift:
        np.left_shift(words, shift, out=words)
        np.right_shift(signed, shift, out=out)  # arithmetic: it brings the sign along
    else:
        np.copyto(out, signed)


def _checked_tail(job: MaskedSum, rest: Words, checksums: list[int]) -> dict[str, list[int]]:
    layout = job.layout
    length = tail_words(layout.tail)
    values = decode_tail(layout.tail, rest[:length], layout.b, layout.n)
    claimed = values.pop(CHECKSUM, [])
    if claimed != [total % (1 << layout.b) for total in checksums] or rest[length:].any():
        raise PeerFault("sa_checksum", "the unmasked sum does not fit the checksums in its tail")
    if values.get(SITE_COUNT, [len(job.survivors)]) != [len(job.survivors)]:
        raise PeerFault("sa_site_count", f"{values[SITE_COUNT]} sites added to a sum of {len(job.survivors)}")
    return values
