from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError, PeerFault
from shared.protocol.vector_layout import vector_layout
from shared.secagg.tail import TailItem, decode_tail, encode_tail
from shared.statistics import MAX_SUM, decimal_text, encode_sum, site_sums, square_root, statistics_from_sums
from tests.support.plans import plan_with


def added(parts: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    return {name: [sum(column) for column in zip(*(part[name] for part in parts), strict=True)] for name in parts[0]}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_statistics_of_sites_equal_those_of_all_patients(scale: float) -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(3, 2, size=(300, 2)) * scale
    values[generator.random(values.shape) < 0.2] = np.nan
    labels = generator.integers(0, 2, 300)
    parts = [site_sums(values[rows], labels[rows], 2) for rows in (slice(0, 50), slice(50, 60), slice(60, 300))]
    found = statistics_from_sums(added(parts), 3)
    np.testing.assert_allclose([float(text) for text in found["mean"]], np.nanmean(values, axis=0), rtol=1e-7)
    np.testing.assert_allclose([float(text) for text in found["std"]], np.nanstd(values, axis=0), rtol=1e-3)
    assert found["count"] == (~np.isnan(values)).sum(axis=0).tolist()
    assert found["class_count"] == np.bincount(labels).tolist()


def test_the_sums_pass_through_the_masked_tail() -> None:
    layout = vector_layout(plan_with(), "statistics", 3, None)
    items = [TailItem(entry.name, entry.limbs, entry.length) for entry in layout.tail]
    values = np.array([[1.5, -2e6], [np.nan, 3e6]])
    sums = {**site_sums(values, np.array([0, 1]), 2), "n_sites": [1], "checksum": [0, 0, 0, 0]}
    assert decode_tail(items, encode_tail(items, sums, 32, 3), 32, 3) == sums


def test_a_column_nobody_has_is_harmless() -> None:
    found = statistics_from_sums(site_sums(np.array([[np.nan], [np.nan]]), np.array([0, 1]), 2), 1)
    assert (found["mean"], found["std"], found["count"]) == (["0"], ["1"], [0])


@pytest.mark.parametrize("constant", [0.0, 0.1, 123456.789])
def test_a_constant_column_gets_the_deviation_one(constant: float) -> None:
    found = statistics_from_sums(site_sums(np.full((77, 1), constant), np.zeros(77, np.int64), 2), 1)
    assert found["std"] == ["1"]
    assert float(found["mean"][0]) == pytest.approx(constant)


def test_values_without_a_sum_are_refused() -> None:
    with pytest.raises(InputError, match="statistics_overflow"):
        site_sums(np.array([[1e30], [1.0]]), np.array([0, 1]), 2)


@given(st.floats(-(2.0**61), 2.0**61))
def test_an_encoded_sum_fits_and_comes_back(value: float) -> None:
    code = encode_sum(value)
    assert 0 < code < MAX_SUM
    assert abs(Fraction(code - 2**111, 2**48) - Fraction(value)) <= Fraction(1, 2**49)


def test_sums_that_no_data_can_have_are_refused() -> None:
    sums = site_sums(np.array([[5.0], [6.0]]), np.array([0, 1]), 2)
    with pytest.raises(PeerFault, match="negative"):
        statistics_from_sums({**sums, "feature_square_sum": [encode_sum(0.0)]}, 1)
    with pytest.raises(PeerFault, match="differ in length"):
        statistics_from_sums({**sums, "feature_square_sum": []}, 1)
    with pytest.raises(PeerFault, match="class_count"):
        statistics_from_sums({name: sums[name] for name in sums if name != "class_count"}, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(1, 3), "3.33333333333e-1"),
        (Fraction(-200), "-2e2"),
        (Fraction(5), "5"),
        (Fraction(999999999999.9), "1e12"),
        (Fraction(1, 10**15), "1e-15"),
    ],
)
def test_decimals_have_twelve_digits(value: Fraction, text: str) -> None:
    assert decimal_text(value) == text


@given(st.fractions(max_denominator=10**30).filter(bool))
def test_decimals_are_close_to_what_they_stand_for(value: Fraction) -> None:
    assert abs(Fraction(Decimal(decimal_text(value))) / value - 1) <= Fraction(5, 10**12)


@given(st.fractions(min_value=Fraction(1, 10**30), max_value=10**30))
def test_the_square_root_is_exact_beyond_the_digits_shown(value: Fraction) -> None:
    assert abs(square_root(value) ** 2 / value - 1) < Fraction(1, 10**15)
