"""The numbers of one round and the checks every site makes on them itself (PROTOCOLS A3, A9)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shared.errors import Refusal

SMALLEST_WORD_BITS = 8
LARGEST_WORD_BITS = 32
LARGEST_QUANTIZATION_BITS = 20  # above it, v + U would no longer be exact in float64 (A9), and float32 has 24 bits
DEFAULT_LEAST_HONEST = 2


@dataclass(frozen=True, slots=True)
class Parameters:
    """n invited sites, threshold t, corrupt bound c of the roster, least survivors m, word sizes q, b, weight cap."""

    n: int
    t: int
    c: int
    m: int
    q: int
    b: int
    w_cap: int


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The security card of a study: what holds for every sum that is ever revealed (A3)."""

    honest_inputs: int
    tolerated_dropouts: int


def corrupt_bound(N: int) -> int:
    """Return the default c for a roster of `N` sites: ``max(1, floor((N - 1) / 3))``."""
    return max(1, (N - 1) // 3)


def threshold(n: int, c: int) -> int:
    """Return t, for shares and for certificates: ``floor((n + c) / 2) + 1``."""
    return (n + c) // 2 + 1


def least_survivors(n: int, t: int) -> int:
    """Return the default m, ``max(3, t)``; with fewer than 3 sites invited it stays out of reach on purpose."""
    del n  # the bound does not depend on it; the argument keeps call sites honest about which t they pass
    return max(3, t)


def largest_quantum(q: int) -> int:
    """Return ``Q = 2^(q-1) - 1``: every quantised word lies in -Q to Q."""
    return (1 << (q - 1)) - 1


def guarantee(n: int, c: int, m: int) -> Guarantee:
    """Return the least number of honest inputs in a sum and how many of `n` sites may drop out."""
    return Guarantee(honest_inputs=m - c, tolerated_dropouts=n - max(m, threshold(n, c)))


def check_parameters(
    parameters: Parameters,
    cohort: Sequence[str],
    *,
    site: str,
    roster_sites: Collection[str],
    members: Collection[str],
    roster_c: int,
    least_honest: int = DEFAULT_LEAST_HONEST,
) -> None:
    """Check C1 to C6, the formula of t and A9's overflow rule for the invited `cohort`, as `site` sees them.

    `roster_sites` and `members` (of the study) come from what this site has verified, never from the coordinator.

    Raises:
        Refusal: ``sa_c1`` to ``sa_c6``, ``sa_threshold``, ``sa_word_bits``, ``sa_overflow``.
    """
    n, t, c, m = parameters.n, parameters.t, parameters.c, parameters.m
    if c != roster_c:
        raise Refusal("sa_c5", f"the context says c = {c}, the roster says {roster_c}")
    if list(cohort) != sorted(set(cohort)):
        raise Refusal("sa_c6", "the invited sites are not strictly ascending")
    outside = sorted(set(cohort) - (set(roster_sites) & set(members)))
    if outside or len(cohort) != n:
        raise Refusal("sa_c6", f"invited but not of the roster and the study: {outside}" if outside else "n is not |P|")
    if site not in cohort:
        raise Refusal("sa_c6", f"{site} is not among the invited sites")
    if 2 * t <= n + c:
        raise Refusal("sa_c1", f"2t > n + c fails for t = {t}, n = {n}, c = {c}")
    if not c < t <= n:
        raise Refusal("sa_c2", f"c < t <= n fails for c = {c}, t = {t}, n = {n}")
    if m - c < least_honest:
        raise Refusal("sa_c3", f"m - c = {m - c} honest inputs in a sum, at least {least_honest} are asked for")
    if not 3 <= m <= n:
        raise Refusal("sa_c4", f"3 <= m <= n fails for m = {m}, n = {n}")
    if t != threshold(n, c):
        raise Refusal("sa_threshold", f"t = {t} is not floor((n + c) / 2) + 1 = {threshold(n, c)}")
    check_overflow(n, parameters.q, parameters.b)


def check_overflow(n: int, q: int, b: int) -> None:
    """Check that the sum of `n` honest words of q bits fits a signed b-bit word: ``n * Q <= 2^(b-1) - 1`` (A9).

    Raises:
        Refusal: ``sa_word_bits`` for widths SA1 does not have, ``sa_overflow``.
    """
    if not SMALLEST_WORD_BITS <= b <= LARGEST_WORD_BITS or not 2 <= q <= min(b, LARGEST_QUANTIZATION_BITS):
        raise Refusal("sa_word_bits", f"b = {b} must lie in 8 to 32 and q = {q} in 2 to 20 and at most b")
    if n < 1 or n * largest_quantum(q) > 2 ** (b - 1) - 1:
        raise Refusal("sa_overflow", f"{n} words of {q} bits can overflow {b} bits")
