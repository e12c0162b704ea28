"""Two sums over survivor sets that differ by one site differ by about its update (PROTOCOLS A12, A13 row 22)."""

from collections.abc import Collection


def set_apart(before: Collection[str], after: Collection[str]) -> str | None:
    """Return the one site by which two survivor sets differ, None when it is no site or several."""
    different = set(before) ^ set(after)
    return different.pop() if len(different) == 1 else None
