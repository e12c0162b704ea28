"""Federated mean and standard deviation: signed sums as unsigned integers, and exact figures from them.

A signed sum travels as ``round(value * 2^48) + 2^111`` per site, so that it fits the unsigned limbs of the masked tail
(PROTOCOLS A9). Decoding takes one offset off per site that was counted.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from shared.canonical import JsonObject
from shared.errors import InputError, PeerFault

SCALE = 2**48
OFFSET = 2**111
MAX_SUM = 2**112
MAX_COUNT = 2**40
SIGNIFICANT_DIGITS = 12


def site_sums(values: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> dict[str, list[int]]:
    """Return one site's ``statistics`` items from `values` (cases, features; NaN = missing) and `labels` (cases).

    Raises:
        InputError: ``statistics_overflow`` names the column's position.
    """
    sums: dict[str, list[int]] = {"feature_count": [], "feature_sum": [], "feature_square_sum": []}
    for index in range(values.shape[1]):
        column = values[:, index]
        present = column[~np.isnan(column)]
        sums["feature_count"].append(len(present))
        sums["feature_sum"].append(encode_sum(math.fsum(present), index))
        sums["feature_square_sum"].append(encode_sum(math.fsum(present * present), index))
    sums["class_count"] = [int(count) for count in np.bincount(labels, minlength=classes)]
    return sums


def encode_sum(value: float, index: int = 0) -> int:
    """Return a signed sum as an unsigned fixed-point integer of at most `MAX_SUM`.

    Raises:
        InputError: ``statistics_overflow``.
    """
    if not math.isfinite(value) or abs(value) >= 2**62:
        raise InputError("statistics_overflow", f"the sum over column {index + 1} is {value:.3g}")
    return round(Fraction(value) * SCALE) + OFFSET


def statistics_from_sums(values: Mapping[str, Sequence[int]], site_count: int) -> JsonObject:
    """Return ``{"mean": [..], "std": [..], "count": [..], "class_count": [..]}`` from the sums of `site_count` sites.

    Mean and (population) standard deviation are decimal strings of 12 significant digits, the same on every machine. A
    column nobody has counts 0, with mean 0 and deviation 1; a constant column gets the deviation 1, so that dividing by
    it is harmless.

    Raises:
        PeerFault: ``aggregate_malformed`` when the sums cannot have come from data.
    """
    try:
        counts, sums, squares = (values[f"feature_{name}"] for name in ("count", "sum", "square_sum"))
        class_count = list(values["class_count"])
    except KeyError as error:
        raise PeerFault("aggregate_malformed", f"the statistics have no item {error}") from error
    if not len(counts) == len(sums) == len(squares):
        raise PeerFault("aggregate_malformed", "the statistics' items differ in length")
    means, deviations = [], []
    for index, (count, total, square) in enumerate(zip(counts, sums, squares, strict=True)):
        mean, variance = Fraction(0), Fraction(1)
        if count:
            mean = Fraction(total - site_count * OFFSET, SCALE * count)
            variance = Fraction(square - site_count * OFFSET, SCALE * count) - mean * mean
            # Squares are float64 and sums are rounded once per site: what lies below this is rounding, not variation.
            blur = mean * mean / 2**44 + Fraction(4 * site_count, SCALE * count)
            if variance < -blur:
                raise PeerFault("aggregate_malformed", f"the variance of column {index + 1} is negative")
            variance = variance if variance > blur else Fraction(1)
        means.append(decimal_text(mean))
        deviations.append(decimal_text(square_root(variance)))
    return {"mean": means, "std": deviations, "count": list(counts), "class_count": class_count}


def square_root(value: Fraction) -> Fraction:
    """Return the square root of `value` >= 0, rounded down beyond any digit that is shown."""
    shift = 2 * (SIGNIFICANT_DIGITS + 8 + max(0, len(str(value.denominator)) - len(str(value.numerator))))
    return Fraction(math.isqrt(value.numerator * 10**shift // value.denominator), 10 ** (shift // 2))


def decimal_text(value: Fraction) -> str:
    """Return `value` rounded half to even at 12 significant digits, as plain or scientific decimal text."""
    if not value:
        return "0"
    magnitude = abs(value)
    exponent = len(str(magnitude.numerator)) - len(str(magnitude.denominator))
    if magnitude < Fraction(10) ** exponent:
        exponent -= 1
    digits = round(magnitude / Fraction(10) ** (exponent - SIGNIFICANT_DIGITS + 1))
    if digits == 10**SIGNIFICANT_DIGITS:
        digits, exponent = 10 ** (SIGNIFICANT_DIGITS - 1), exponent + 1
    text = str(digits)
    mantissa = f"{text[0]}.{text[1:]}".rstrip("0").rstrip(".")
    return f"{'-' if value < 0 else ''}{mantissa}" + (f"e{exponent}" if exponent else "")
