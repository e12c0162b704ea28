import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto.keystream import Words
from shared.errors import Misuse
from shared.secagg.layout import word_type
from shared.secagg.tail import (
    CHECKSUM_ITEM,
    TailItem,
    check_tail,
    decode_tail,
    encode_tail,
    limb_bits,
    limbs_for,
    tail_words,
)

ITEMS = (TailItem("weight", 2, 1), TailItem("n_sites", 1, 1), TailItem("score_histogram", 3, 4), CHECKSUM_ITEM)


@given(st.data())
def test_the_sum_of_tails_decodes_to_the_sums(data: st.DataObject) -> None:
    b, n = data.draw(st.sampled_from([8, 12, 16, 20, 24, 32])), data.draw(st.integers(1, 60))
    room = 2 ** (3 * limb_bits(b, n))
    numbers = st.lists(st.integers(0, room - 1), min_size=4, max_size=4)
    rows = [data.draw(numbers) for _ in range(data.draw(st.integers(1, n)))]
    items = (TailItem("score_histogram", 3, 4),)
    total: Words = np.zeros(12, word_type(b))
    for row in rows:
        total = total + encode_tail(items, {"score_histogram": row}, b, n)
    sums = [sum(column) for column in zip(*rows, strict=True)]
    assert decode_tail(items, total, b, n) == {"score_histogram": sums}


def test_row_19_a_tail_filled_to_its_bound_comes_back() -> None:
    # 40950 = 10 sites at 4095, the most that 12-bit limbs of 16-bit words hold; as a signed word it would be negative.
    items = (TailItem("n_sites", 1, 1),)
    assert limb_bits(16, 10) == 12
    total = np.zeros(1, np.uint16)
    for _ in range(10):
        total += encode_tail(items, {"n_sites": [4095]}, 16, 10)
    assert decode_tail(items, total, 16, 10) == {"n_sites": [40950]}
    with pytest.raises(Misuse) as refused:
        encode_tail(items, {"n_sites": [4096]}, 16, 10)
    assert refused.value.code == "tail_overflow"


@pytest.mark.parametrize(("maximum", "limbs"), [(0, 1), (4095, 1), (4096, 2), (2**24 - 1, 2), (2**24, 3)])
def test_limbs_are_as_few_as_hold_the_maximum(maximum: int, limbs: int) -> None:
    assert limbs_for(maximum, 16, 10) == limbs
    item = TailItem("weight", limbs, 1)
    assert decode_tail([item], encode_tail([item], {"weight": [maximum]}, 16, 10), 16, 10) == {"weight": [maximum]}


def test_order_and_place_of_every_word() -> None:
    values = {"weight": [0x1234], "n_sites": [1], "score_histogram": [1, 2, 3, 0x45678], "checksum": [65535, 0, 7, 8]}
    words = encode_tail(ITEMS, values, 16, 10)
    assert words.tolist() == [0x234, 1, 1, 1, 0, 0, 2, 0, 0, 3, 0, 0, 0x678, 0x45, 0, 65535, 0, 7, 8]
    assert tail_words(ITEMS) == len(words)
    assert decode_tail(ITEMS, words, 16, 10) == values


@pytest.mark.parametrize(
    "items",
    [
        (CHECKSUM_ITEM, TailItem("weight", 1, 1)),
        (TailItem("checksum", 2, 4),),
        (TailItem("checksum", 1, 3),),
        (TailItem("weight", 1, 1), TailItem("weight", 1, 1)),
        (TailItem("weight", 0, 1),),
        (TailItem("weight", 1, 0),),
    ],
)
def test_layouts_that_are_refused(items: tuple[TailItem, ...]) -> None:
    with pytest.raises(Misuse) as refused:
        check_tail(items, 16, 10)
    assert refused.value.code == "tail_layout"


def test_words_without_room_for_a_limb() -> None:
    with pytest.raises(Misuse):
        check_tail((TailItem("weight", 1, 1),), 8, 257)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"weight": [-1]}, "tail_overflow"),
        ({"weight": [2**12]}, "tail_overflow"),
        ({"weight": [1, 2]}, "tail_layout"),
        ({}, "tail_layout"),
        ({"weight": [1], "extra": [1]}, "tail_layout"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, list[int]], code: str) -> None:
    with pytest.raises(Misuse) as refused:
        encode_tail((TailItem("weight", 1, 1),), values, 16, 10)
    assert refused.value.code == code


def test_a_tail_of_another_length() -> None:
    with pytest.raises(Misuse):
        decode_tail(ITEMS, np.zeros(3, np.uint16), 16, 10)
