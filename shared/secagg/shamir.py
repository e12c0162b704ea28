"""Shamir's t-of-n secret sharing over the prime 2^256 - 189, with big integers (PROTOCOLS A7)."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from shared.errors import Misuse, PeerFault

PRIME = 2**256 - 189
RandomBytes = Callable[[int], bytes]
"""A cryptographic source such as `os.urandom`: takes a number of bytes, returns that many."""


def encode_element(value: int) -> bytes:
    """Return a field element as 32 bytes, big-endian.

    Raises:
        Misuse: ``share_malformed`` outside 0 to PRIME - 1.
    """
    if not 0 <= value < PRIME:
        raise Misuse("share_malformed", "a value is not a field element")
    return value.to_bytes(32, "big")


def decode_element(raw: bytes) -> int:
    """Return the field element of 32 big-endian bytes; there is one spelling per element.

    Raises:
        PeerFault: ``share_malformed`` for another length or a value of PRIME and above.
    """
    value = int.from_bytes(raw, "big")
    if len(raw) != 32 or value >= PRIME:
        raise PeerFault("share_malformed", "a share is not 32 bytes below the field's prime")
    return value


def random_element(random: RandomBytes) -> int:
    """Return a uniform field element; values of PRIME and above (189 in 2^256) are drawn again."""
    while True:
        value = int.from_bytes(random(32), "big")
        if value < PRIME:
            return value


def split(secret: int, t: int, n: int, random: RandomBytes) -> list[bytes]:
    """Return the shares for x = 1 to n; any `t` of them give `secret` back, fewer say nothing about it.

    The coefficients of x^1, x^2, ... are drawn from `random` in this order.

    Raises:
        Misuse: ``share_malformed`` for a secret outside the field or t outside 1 to n.
    """
    if not 0 <= secret < PRIME or not 1 <= t <= n:
        raise Misuse("share_malformed", f"cannot share a field element {t} of {n}")
    highest_first = [random_element(random) for _ in range(t - 1)][::-1]
    shares = []
    for x in range(1, n + 1):
        # x is small, so the numbers grow by a byte a step: one reduction at the end is cheaper than one per step.
        total = 0
        for coefficient in highest_first:
            total = (total + coefficient) * x
        shares.append(((total + secret) % PRIME).to_bytes(32, "big"))
    return shares


@lru_cache(maxsize=1024)
def lagrange_at_zero(xs: tuple[int, ...]) -> tuple[int, ...]:
    """Return the Lagrange coefficients at 0 for distinct positive `xs`; computed once per set of responders.

    Raises:
        PeerFault: ``share_malformed`` for x = 0, negative or repeated x.
    """
    if len(set(xs)) != len(xs) or any(not 0 < x < PRIME for x in xs) or not xs:
        raise PeerFault("share_malformed", "shares need distinct positive x")
    coefficients = []
    for x in xs:
        numerator, denominator = 1, 1
        for other in xs:
            if other != x:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - x) % PRIME
        coefficients.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return tuple(coefficients)


def combine(coefficients: Sequence[int], shares: Sequence[bytes]) -> int:
    """Return the secret from decoded-strictly `shares` and the `lagrange_at_zero` coefficients of their x.

    Raises:
        PeerFault: ``share_malformed``.
    """
    pairs = zip(coefficients, shares, strict=True)
    return sum(coefficient * decode_element(share) for coefficient, share in pairs) % PRIME


def reconstruct(shares: Mapping[int, bytes], t: int) -> int:
    """Return the secret from at least `t` shares {x: 32 bytes}; the t smallest x are used.

    Raises:
        PeerFault: ``shares_missing`` for fewer than t, ``share_malformed`` for x = 0 or a bad element in any of them.
    """
    if len(shares) < t or t < 1:
        raise PeerFault("shares_missing", f"{len(shares)} shares were released, {t} are needed")
    if min(shares) < 1:
        raise PeerFault("share_malformed", "shares need distinct positive x")
    for share in shares.values():
        decode_element(share)
    xs = tuple(sorted(shares)[:t])
    return combine(lagrange_at_zero(xs), [shares[x] for x in xs])
