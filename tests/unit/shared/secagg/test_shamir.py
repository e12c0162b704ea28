import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Misuse, PeerFault
from shared.secagg import shamir
from shared.secagg.shamir import PRIME, decode_element, encode_element, lagrange_at_zero, random_element
from tests.support.masked_round import random_source

elements = st.integers(0, PRIME - 1)


@given(elements, st.integers(1, 12), st.data())
def test_any_t_shares_give_the_secret(secret: int, n: int, data: st.DataObject) -> None:
    t = data.draw(st.integers(1, n))
    shares = shamir.split(secret, t, n, random_source(data.draw(st.integers(0, 2**32))))
    chosen = data.draw(st.permutations(range(1, n + 1)))[: data.draw(st.integers(t, n))]
    assert shamir.reconstruct({x: shares[x - 1] for x in chosen}, t) == secret


def test_two_hundred_sites() -> None:
    shares = shamir.split(PRIME - 1, 134, 200, random_source(1))
    assert shamir.reconstruct({x: shares[x - 1] for x in range(67, 201)}, 134) == PRIME - 1


def small_shares(secret: int, coefficients: tuple[int, ...], n: int) -> list[int]:
    draws = iter(coefficients)
    shares = shamir.split(secret, len(coefficients) + 1, n, lambda size: next(draws).to_bytes(size, "big"))
    return [int.from_bytes(share, "big") for share in shares]


@pytest.mark.parametrize(("t", "n"), [(2, 3), (3, 4)])
def test_row_14_fewer_than_t_shares_say_nothing(t: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Over a field of 7 elements every polynomial can be looked at: whatever the secret, t - 1 shares take every value
    # equally often.
    monkeypatch.setattr(shamir, "PRIME", 7)
    for held in itertools.combinations(range(n), t - 1):
        seen = [
            Counter(
                tuple(shares[place] for place in held)
                for coefficients in itertools.product(range(7), repeat=t - 1)
                for shares in [small_shares(secret, coefficients, n)]
            )
            for secret in range(7)
        ]
        assert all(counts == seen[0] for counts in seen)
        assert set(seen[0].values()) == {1}


@pytest.mark.parametrize(
    "raw", [b"", bytes(31), bytes(33), PRIME.to_bytes(32, "big"), b"\xff" * 32], ids=["0", "31", "33", "p", "max"]
)
def test_row_14_elements_have_one_spelling(raw: bytes) -> None:
    with pytest.raises(PeerFault) as refused:
        decode_element(raw)
    assert refused.value.code == "share_malformed"
    good = shamir.split(5, 2, 3, random_source(2))
    for shares in ({1: good[0], 2: raw}, {1: good[0], 2: good[1], 3: raw}):
        with pytest.raises(PeerFault):
            shamir.reconstruct(shares, 2)


def test_row_14_bad_positions() -> None:
    good = shamir.split(5, 2, 3, random_source(3))
    for x in (0, -1):
        with pytest.raises(PeerFault):
            shamir.reconstruct({x: good[0], 2: good[1]}, 2)
    for xs in ((1, 1), (0, 1), (), (PRIME, 1)):
        with pytest.raises(PeerFault):
            lagrange_at_zero(xs)


def test_row_14_too_few_shares() -> None:
    shares = shamir.split(5, 3, 5, random_source(4))
    with pytest.raises(PeerFault) as refused:
        shamir.reconstruct({1: shares[0], 2: shares[1]}, 3)
    assert refused.value.code == "shares_missing"


@pytest.mark.parametrize(("secret", "t", "n"), [(PRIME, 2, 3), (-1, 2, 3), (1, 4, 3), (1, 0, 3)])
def test_what_cannot_be_shared(secret: int, t: int, n: int) -> None:
    with pytest.raises(Misuse):
        shamir.split(secret, t, n, random_source(5))


def test_values_above_the_prime_are_drawn_again() -> None:
    draws = iter([PRIME.to_bytes(32, "big"), b"\xff" * 32, (7).to_bytes(32, "big")])
    assert random_element(lambda _: next(draws)) == 7


def test_the_prime_is_prime_and_encoding_is_strict() -> None:
    assert PRIME == 2**256 - 189
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))
    assert decode_element(encode_element(PRIME - 1)) == PRIME - 1
    with pytest.raises(Misuse):
        encode_element(PRIME)
