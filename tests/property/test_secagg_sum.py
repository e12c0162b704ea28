"""PROTOCOLS A18.1: whatever drops out and whatever the sizes, the result is the integer sum or there is none."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import PeerFault
from shared.secagg.parameters import least_survivors
from tests.support.masked_round import MaskedRound


@dataclass(frozen=True)
class Course:
    """Who drops out when."""

    survivors: list[str]
    late: list[str]
    responders: list[str]


@st.composite
def rounds(draw: st.DrawFn) -> MaskedRound:
    n = draw(st.integers(3, 9))
    b = draw(st.sampled_from([16, 20, 24, 32]) | st.integers(8, 32))
    q = draw(st.integers(2, min(16, b - (n - 1).bit_length())))
    d = draw(st.integers(1, 40) | st.integers(41, 700))
    chunk = draw(st.sampled_from([16, 64, 256, 2**20]))
    return MaskedRound(n, d, b, q, draw(st.integers(0, 2**32)), chunk, draw(st.integers(1, 20)))


@st.composite
def courses(draw: st.DrawFn, masked: MaskedRound) -> Course:
    least = least_survivors(masked.n, masked.t)
    size = draw(st.integers(least, masked.n))
    survivors = sorted(draw(st.permutations(masked.cohort))[:size])
    late = (
        draw(st.lists(st.sampled_from(sorted(set(masked.cohort) - set(survivors))), unique=True))
        if (len(survivors) < masked.n)
        else []
    )
    responders = draw(st.lists(st.sampled_from(masked.cohort), unique=True))
    return Course(survivors, late, responders)


@given(st.data())
@settings(max_examples=120)
def test_the_sum_is_exact_or_absent(data: st.DataObject) -> None:
    masked = data.draw(rounds())
    course = data.draw(courses(masked))
    for site in [*course.survivors, *course.late]:
        masked.add_upload(site)
    opening = masked.open_all(course.survivors, course.responders)
    assert opening.is_complete == (len(course.responders) >= masked.t)
    assert not opening.false_dealers | set(opening.false_responders)
    if opening.is_complete:
        words, tail = masked.unmask(course.survivors, opening, workers=data.draw(st.integers(1, 3)))
        plain, plain_tail = masked.plain_sum(course.survivors)
        np.testing.assert_array_equal(words, plain)
        assert tail == plain_tail


@given(st.data())
@settings(max_examples=40)
def test_a_damaged_part_gives_an_error_and_never_a_sum(data: st.DataObject) -> None:
    masked = data.draw(rounds())
    survivors = masked.cohort[:-1] if masked.n > least_survivors(masked.n, masked.t) else masked.cohort
    for site in survivors:
        masked.add_upload(site)
    opening = masked.open_all(survivors, masked.cohort[-masked.t :])
    victim = data.draw(st.sampled_from(survivors))
    damage = data.draw(st.sampled_from(["chunk", "short", "swapped", "secret", "seed"]))
    upload = masked.uploads[victim]
    index = data.draw(st.integers(0, len(upload.chunks) - 1))
    codes = {"chunk_hash"}
    if damage == "chunk":
        changed = bytearray(upload.chunks[index])
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        upload.chunks[index] = bytes(changed)
    elif damage == "short":
        upload.chunks[index] = upload.chunks[index][:-1]
        codes = {"chunk_size"}
    elif damage == "swapped":
        other = next(site for site in survivors if site != victim)
        upload.chunks[index] = masked.uploads[other].chunks[index]
    elif damage == "seed" and opening.pair_seeds:
        edge = data.draw(st.sampled_from(sorted(opening.pair_seeds)))
        opening.pair_seeds[edge] = bytes(31) + b"\x01"
        codes = {"sa_checksum"}
    else:
        opening.self_secrets[victim] = bytes(31) + b"\x01"
        codes = {"sa_checksum"}
    with pytest.raises(PeerFault) as caught:
        masked.unmask(survivors, opening)
    assert caught.value.code in codes


def test_several_chunks_of_the_real_size() -> None:
    masked = MaskedRound(4, 2**20 + 21, 20, 16, chunk_elements=2**20, bins=1)
    for site in masked.cohort[:3] + masked.cohort[3:]:
        masked.add_upload(site)
    words, tail = masked.unmask(masked.cohort, masked.open_all(masked.cohort, masked.cohort), workers=2)
    plain, plain_tail = masked.plain_sum(masked.cohort)
    np.testing.assert_array_equal(words, plain)
    assert tail == plain_tail
    assert [len(chunk) for chunk in masked.uploads["s00"].chunks] == [2**20 * 5 // 2, 80]


@pytest.mark.parametrize("b", [16, 24])
def test_a_vector_without_main_words(b: int) -> None:
    masked = MaskedRound(3, 0, b, bins=40, chunk_elements=16)
    for site in masked.cohort:
        masked.add_upload(site)
    words, tail = masked.unmask(masked.cohort, masked.open_all(masked.cohort, masked.cohort))
    assert len(words) == 0
    assert tail == masked.plain_sum(masked.cohort)[1]
