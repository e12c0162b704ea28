import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Misuse, PeerFault
from shared.secagg.layout import VectorLayout, word_type
from shared.secagg.packing import pack, pack_into, packed_bytes, packed_sum, unpack
from shared.secagg.tail import TailItem


@given(st.integers(8, 32), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=70))
def test_packing_keeps_the_low_bits_in_little_endian_order(b: int, numbers: list[int]) -> None:
    words = np.array(numbers, np.uint32).astype(word_type(b))
    low = [number & ((1 << b) - 1) for number in words.tolist()]
    packed = pack(words, b)
    assert len(packed) == packed_bytes(len(words), b)
    assert int.from_bytes(packed, "little") == sum(word << b * place for place, word in enumerate(low))
    assert unpack(packed, b, len(words)).tolist() == low


@given(st.integers(8, 32), st.integers(1, 6), st.lists(st.integers(1, 5), max_size=4), st.integers(0, 2**32 - 1))
def test_packed_vectors_add_up_without_unpacking(b: int, groups: int, batches: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    total = packed_sum(b, 16 * groups + 64)
    for count in (16 * groups + 64, 16 * groups):  # the second sum must not remember the first
        total.reset(count)
        expected = np.zeros(count, np.uint64)
        for batch in batches:
            rows = [generator.integers(0, 2**32, count, np.uint32).astype(word_type(b)) for _ in range(batch)]
            total.add([memoryview(pack(row, b)) for row in rows])
            for row in rows:
                expected = expected + row.astype(np.uint64)
        for start, size in ((0, count), (16, count - 16), (0, 16)):
            words = total.block(start, size).copy() & ((1 << b) - 1)
            np.testing.assert_array_equal(words, expected[start : start + size] & np.uint64((1 << b) - 1))


def test_a_sum_of_24_bit_words_over_many_pieces() -> None:
    count = 3 * 2**15 + 48
    rows = [np.random.default_rng(seed).integers(0, 2**32, count, np.uint32) for seed in range(3)]
    total = packed_sum(24, count)
    total.reset(count)
    total.add([pack(row, 24) for row in rows])
    expected = (rows[0] + rows[1] + rows[2]) & 0xFFFFFF
    for start in range(0, count, 2**15):
        size = min(2**15, count - start)
        np.testing.assert_array_equal(total.block(start, size) & 0xFFFFFF, expected[start : start + size])


@pytest.mark.parametrize("b", [16, 20, 24, 32])
def test_chunks_of_the_wrong_size_are_refused(b: int) -> None:
    packed = pack(np.zeros(32, word_type(b)), b)
    total = packed_sum(b, 64)
    total.reset(32)
    for wrong in (packed[:-1], packed + b"\0", b""):
        with pytest.raises(PeerFault) as refused:
            total.add([packed, wrong])
        assert refused.value.code == "chunk_size"
        with pytest.raises(PeerFault):
            unpack(wrong, b, 32)


def test_blocks_that_cannot_be_packed() -> None:
    with pytest.raises(Misuse):
        pack_into(np.zeros(15, np.uint32), 24, np.zeros(100, np.uint8))
    with pytest.raises(Misuse):
        pack_into(np.zeros(16, np.uint32), 24, np.zeros(47, np.uint8))


@pytest.mark.parametrize(
    ("d", "b", "chunks"),
    [
        (1, 16, [32]),
        (14, 16, [32]),
        (15, 24, [96]),
        (2**20 - 2, 24, [3 * 2**20]),
        (2**20 - 1, 20, [5 * 2**19, 40]),
        (2 * 2**20 + 1, 32, [2**22, 2**22, 64]),
    ],
)
def test_only_the_last_chunk_is_padded_and_only_to_16_elements(d: int, b: int, chunks: list[int]) -> None:
    layout = VectorLayout(d, (TailItem("weight", 2, 1),), b, 3)
    assert layout.elements == d + 2
    assert [layout.chunk_bytes(index) for index in range(layout.chunk_count)] == chunks
    assert layout.upload_bytes == sum(chunks)
    with pytest.raises(Misuse):
        layout.chunk_bytes(len(chunks))


@pytest.mark.parametrize(("d", "b", "chunk"), [(-1, 16, 16), (0, 16, 16), (1, 7, 16), (1, 33, 16), (1, 16, 24)])
def test_vectors_that_do_not_exist(d: int, b: int, chunk: int) -> None:
    with pytest.raises(Misuse):
        VectorLayout(d, (), b, 3, chunk)


def test_an_upload_is_half_or_three_quarters_of_float32() -> None:
    tail = (TailItem("weight", 2, 1),)
    assert VectorLayout(10_000_000, tail, 16, 10).upload_bytes <= 0.5001 * 40_000_000
    assert VectorLayout(10_000_000, tail, 24, 10).upload_bytes <= 0.7501 * 40_000_000
