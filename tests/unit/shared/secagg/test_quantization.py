from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError, Misuse
from shared.secagg.layout import BLOCK_ELEMENTS
from shared.secagg.parameters import largest_quantum
from shared.secagg.quantization import Quantizer, RandomBits, dequantize, quantize

KEY = bytes(range(32))


def quantized(values: list[float], clip: float = 1.0, weight: int = 1, w_cap: int = 1, q: int = 8) -> list[int]:
    update = np.array(values, np.float32)
    words = quantize(update, [(len(values), clip)], weight=weight, w_cap=w_cap, q=q, random=RandomBits(KEY))
    return list(map(int, words))


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    st.floats(1e-6, 1e6),
    st.integers(0, 50),
    st.integers(2, 20),
    st.binary(min_size=32, max_size=32),
)
def test_every_word_is_the_floor_of_its_value_plus_a_uniform_number(
    values: list[float], clip: float, weight: int, q: int, key: bytes
) -> None:
    update = np.array(values, np.float32)
    words = quantize(update, [(len(values), clip)], weight=weight, w_cap=50, q=q, random=RandomBits(key))
    uniform = RandomBits(key).words(len(values)).tolist()
    quantum = largest_quantum(q)
    for value, word, u in zip(update.tolist(), words.tolist(), uniform, strict=True):
        clipped = min(max(Fraction(value), -Fraction(clip)), Fraction(clip))
        exact = clipped * quantum * weight / (50 * Fraction(clip)) + Fraction(u, 2**32)
        # In exact arithmetic the floor may differ only where the value is within rounding of an integer.
        assert word == floor(exact) or abs(exact - round(exact)) <= Fraction(1, 2**31)
        assert abs(word) <= quantum


def test_the_rounding_is_unbiased() -> None:
    for value in (0.1, -0.1, 0.731, -0.999, 1e-5):
        update = np.full(400_000, value, np.float32)
        words = quantize(update, [(len(update), 1.0)], weight=3, w_cap=4, q=8, random=RandomBits(KEY))
        expected = float(np.float32(value)) * 127 * 0.75
        fraction = expected % 1
        deviation = (fraction * (1 - fraction)) ** 0.5 / len(update) ** 0.5
        assert abs(words.mean() - expected) < 4 * deviation + 1e-9
        assert set(words.tolist()) <= {floor(expected), floor(expected) + 1}


@pytest.mark.parametrize("q", [2, 8, 12, 16, 20])
def test_row_19_words_never_pass_the_largest_quantum(q: int) -> None:
    quantum = largest_quantum(q)
    extreme = [1e30, -1e30, 3.0, -3.0, 0.3, -0.3] * 50_000
    update = np.array(extreme, np.float32)
    words = quantize(update, [(len(update), 0.3)], weight=7, w_cap=7, q=q, random=RandomBits(KEY))
    assert set(np.abs(words).tolist()) <= {quantum, quantum - 1}
    assert (np.abs(words) == quantum).mean() > 0.99


def test_the_same_key_gives_the_same_words_and_a_fresh_one_others() -> None:
    values = [0.1 * number for number in range(-9, 9)] * 10
    assert quantized(values) == quantized(values)
    update = np.array(values, np.float32)
    fresh = [
        quantize(update, [(180, 1.0)], weight=1, w_cap=1, q=8, random=RandomBits.fresh()).tolist() for _ in range(2)
    ]
    assert fresh[0] != fresh[1]


def test_each_tensor_has_its_own_clip() -> None:
    update = np.array([5.0, 5.0, 5.0, 5.0], np.float32)
    words = quantize(update, [(1, 5.0), (3, 10.0), (4, 1.0)], weight=1, w_cap=1, q=9, random=RandomBits(KEY))
    assert words[0] in {254, 255}
    assert set(words[1:3].tolist()) <= {127, 128}
    assert words[3] in {254, 255}


def test_blocks_do_not_show_in_the_result() -> None:
    length = BLOCK_ELEMENTS + 1000
    update = np.random.default_rng(1).standard_normal(length, np.float32)
    clips = [(100, 0.5), (BLOCK_ELEMENTS - 3, 2.0), (BLOCK_ELEMENTS + 7, 1.0), (length, 3.0)]
    whole = quantize(update, clips, weight=1, w_cap=2, q=12, random=RandomBits(KEY))
    quantizer = Quantizer(clips, weight=1, w_cap=2, q=12, random=RandomBits(KEY))
    pieces = np.empty(length, np.uint16)
    for start in range(0, length, 999):
        quantizer.quantize(update, start, pieces[start : start + 999])
    np.testing.assert_array_equal(whole.astype(np.uint16), pieces)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused_and_the_element_named(bad: float) -> None:
    update = np.zeros(70_000, np.float32)
    update[69_321] = bad
    with pytest.raises(InputError) as refused:
        quantize(update, [(70_000, 1.0)], weight=1, w_cap=1, q=8, random=RandomBits(KEY))
    assert refused.value.code == "update_not_finite"
    assert "69321" in refused.value.detail


@pytest.mark.parametrize("weight", [-1, 51])
def test_weights_outside_the_cap_are_refused(weight: int) -> None:
    with pytest.raises(InputError) as refused:
        quantized([1.0], weight=weight, w_cap=50)
    assert refused.value.code == "weight_out_of_range"


@pytest.mark.parametrize(
    "clips",
    [
        [],
        [(1, 1.0)],
        [(3, 1.0)],
        [(2, 0.0)],
        [(2, -1.0)],
        [(2, float("inf"))],
        [(2, 1e39)],
        [(2, 1e-40)],
        [(1, 1.0)] * 2,
    ],
)
def test_clip_tables_that_do_not_fit(clips: list[tuple[int, float]]) -> None:
    with pytest.raises(Misuse) as refused:
        quantize(np.zeros(2, np.float32), clips, weight=1, w_cap=1, q=8, random=RandomBits(KEY))
    assert refused.value.code == "clip_table"


def test_an_empty_update_needs_no_clips() -> None:
    assert len(quantize(np.zeros(0, np.float32), [], weight=1, w_cap=1, q=8, random=RandomBits(KEY))) == 0


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_mean_comes_back_within_the_rounding_error(sites: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    clips = [(30, 0.5), (50, 2.0)]
    bounds = np.repeat(np.array([0.5, 2.0], np.float32), [30, 20])
    weights = generator.integers(1, 101, sites).tolist()
    updates = [generator.uniform(-1, 1, 50).astype(np.float32) * bounds for _ in range(sites)]
    total = np.zeros(50, np.int32)
    for update, weight in zip(updates, weights, strict=True):
        total += quantize(update, clips, weight=weight, w_cap=100, q=16, random=RandomBits.fresh())
    mean = dequantize(total, clips, q=16, w_cap=100, total_weight=sum(weights), out=np.empty(50))
    expected = sum(weight * update.astype(np.float64) for update, weight in zip(updates, weights, strict=True))
    worst = bounds / largest_quantum(16) * sites * 100 / sum(weights)
    assert (np.abs(mean - expected / sum(weights)) <= worst).all()
    # Any part of it has the same bits, in the narrower type too.
    part = dequantize(total[20:40], clips, q=16, w_cap=100, total_weight=sum(weights), start=20)
    np.testing.assert_array_equal(part, mean[20:40].astype(np.float32))


def test_a_mean_needs_a_weight_and_clips() -> None:
    words = np.zeros(3, np.int32)
    for clips, weight in (([(3, 1.0)], 0), ([(2, 1.0)], 1), ([], 1)):
        with pytest.raises(Misuse):
            dequantize(words, clips, q=8, w_cap=1, total_weight=weight)
