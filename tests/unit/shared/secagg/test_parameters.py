import dataclasses

import pytest

from shared.errors import Refusal
from shared.secagg.parameters import (
    Parameters,
    check_overflow,
    check_parameters,
    corrupt_bound,
    guarantee,
    largest_quantum,
    least_survivors,
    threshold,
)

SITES = [f"s{number:02d}" for number in range(20)]


def fitting(n: int, c: int, m: int | None = None) -> Parameters:
    t = threshold(n, c)
    return Parameters(n, t, c, least_survivors(n, t) if m is None else m, 8, 16, 1000)


def check(parameters: Parameters, cohort: list[str], *, roster: list[str] = SITES, roster_c: int | None = None) -> None:
    check_parameters(
        parameters,
        cohort,
        site=SITES[0],
        roster_sites=roster,
        members=SITES,
        roster_c=parameters.c if roster_c is None else roster_c,
    )


@pytest.mark.parametrize(
    ("n", "c", "honest", "dropouts"),
    [(3, 1, 2, 0), (4, 1, 2, 1), (5, 1, 3, 1), (7, 2, 3, 2), (10, 3, 4, 3), (20, 6, 8, 6), (50, 16, 18, 16)],
)
def test_the_guarantees_of_the_protocol(n: int, c: int, honest: int, dropouts: int) -> None:
    assert corrupt_bound(n) == c
    card = guarantee(n, c, least_survivors(n, threshold(n, c)))
    assert (card.honest_inputs, card.tolerated_dropouts) == (honest, dropouts)


@pytest.mark.parametrize("n", range(3, 21))
def test_the_defaults_pass_every_check(n: int) -> None:
    check(fitting(n, corrupt_bound(n)), SITES[:n], roster=SITES[:n])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"t": 6}, "sa_c1"),
        ({"t": 11}, "sa_c2"),
        ({"t": 8}, "sa_threshold"),
        ({"m": 4}, "sa_c3"),
        ({"m": 11}, "sa_c4"),
        ({"q": 13}, "sa_overflow"),
        ({"q": 21, "b": 32}, "sa_word_bits"),
        ({"b": 33}, "sa_word_bits"),
        ({"b": 7, "q": 3}, "sa_word_bits"),
        ({"q": 1}, "sa_word_bits"),
        ({"n": 9}, "sa_c6"),
    ],
)
def test_numbers_that_are_refused(change: dict[str, int], code: str) -> None:
    with pytest.raises(Refusal) as refused:
        check(dataclasses.replace(fitting(10, 3), **change), SITES[:10])
    assert refused.value.code == code


def test_fewer_than_three_survivors_are_refused_whatever_is_asked_of_them() -> None:
    with pytest.raises(Refusal) as refused:
        check_parameters(
            dataclasses.replace(fitting(3, 1), m=2),
            SITES[:3],
            site=SITES[0],
            roster_sites=SITES,
            members=SITES,
            roster_c=1,
            least_honest=1,
        )
    assert refused.value.code == "sa_c4"


def test_row_05_a_cohort_that_corrupt_sites_dominate() -> None:
    # Twenty sites tolerate six corrupt ones; with five invited all honest inputs but none could be theirs.
    with pytest.raises(Refusal) as refused:
        check(fitting(5, corrupt_bound(20), m=5), SITES[:5])
    assert refused.value.code in {"sa_c2", "sa_c3"}
    with pytest.raises(Refusal) as refused:
        check(fitting(5, corrupt_bound(5)), SITES[:5], roster_c=corrupt_bound(20))
    assert refused.value.code == "sa_c5"


@pytest.mark.parametrize(
    "cohort",
    [
        ["s00", "s00", "s01", "s02"],
        ["s01", "s00", "s02", "s03"],
        ["s00", "s01", "s02", "stranger"],
        ["s01", "s02", "s03", "s04"],
        ["s00", "s01", "s02"],
    ],
    ids=["repeated", "unsorted", "unknown", "without me", "not n"],
)
def test_row_05_cohorts_that_are_no_cohorts(cohort: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        check(fitting(4, 1), cohort)
    assert refused.value.code == "sa_c6"


def test_row_05_a_site_of_the_roster_that_is_not_of_the_study() -> None:
    parameters = fitting(4, 1)
    with pytest.raises(Refusal) as refused:
        check_parameters(
            parameters, SITES[:4], site="s00", roster_sites=SITES, members=SITES[:3], roster_c=parameters.c
        )
    assert refused.value.code == "sa_c6"


@pytest.mark.parametrize(
    ("q", "b", "most"), [(12, 16, 16), (16, 20, 16), (8, 16, 258), (12, 20, 256), (16, 24, 256), (16, 32, 65538)]
)
def test_row_19_overflow_is_refused_from_the_first_site_too_many(q: int, b: int, most: int) -> None:
    assert most * largest_quantum(q) <= 2 ** (b - 1) - 1 < (most + 1) * largest_quantum(q) or most in {16, 256}
    check_overflow(most, q, b)
    too_many = (2 ** (b - 1) - 1) // largest_quantum(q) + 1
    check_overflow(too_many - 1, q, b)
    with pytest.raises(Refusal) as refused:
        check_overflow(too_many, q, b)
    assert refused.value.code == "sa_overflow"
