"""Histories made by Hypothesis: short ones shrink to the few operations that matter."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fault.faults import KILLS, NETWORK, Fault
from tests.fault.simulation import Op

MOST_SITES = 5
_SITES = st.integers(0, MOST_SITES - 1)
# What an operation does on the way decides how many requests and points it has: `work` makes up to a dozen.
_FAULTS: SearchStrategy[Fault] = st.one_of(
    st.builds(Fault, st.sampled_from(NETWORK), st.integers(0, 7)),
    st.builds(Fault, st.sampled_from(KILLS), st.integers(0, 15)),
)
_MAYBE = st.none() | _FAULTS
_STEPS = st.builds(Op, st.sampled_from(["poll", "train", "deliver", "work"]), _SITES, st.just(0), _MAYBE)
_SWEEPS = st.builds(
    Op, st.just("sweep"), st.just(0), st.just(0), st.none() | st.builds(Fault, st.just("coordinator killed"), _SITES)
)
_EVERYBODY = st.builds(Op, st.just("everybody"), st.just(0), st.just(0), _MAYBE)
_LIFE = st.builds(Op, st.sampled_from(["kill", "leave", "return"]), _SITES)
_CLOCK = st.builds(Op, st.just("advance"), st.just(0), st.sampled_from([1, 6, 40, 65, 100, 210]))
_OLD = st.builds(Op, st.sampled_from(["answer old", "redeliver"]), _SITES, st.integers(0, 30), _MAYBE)
_CRASH = st.builds(Op, st.just("kill coordinator"))


def histories(longest: int) -> SearchStrategy[list[Op]]:
    """Return a strategy for histories of at most `longest` operations."""
    one = st.one_of(_STEPS, _STEPS, _STEPS, _EVERYBODY, _EVERYBODY, _SWEEPS, _LIFE, _CLOCK, _OLD, _CRASH)
    return st.lists(one, max_size=longest)
