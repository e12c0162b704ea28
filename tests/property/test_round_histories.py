"""Any schedule, any faults: the invariants hold after every operation, and without faults the study finishes (A18)."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fault.histories import histories
from tests.fault.simulation import Op, simulation

# A failure is a history of a dozen operations, each a second: it is shrunk a little, not for hours.
_HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large]


def hold(history: list[Op], count: int) -> None:
    with simulation(count) as made:
        made.run(*history)
        made.finish()


@given(histories(12), st.sampled_from([3, 4]))
@settings(max_examples=10, suppress_health_check=_HEALTH)
def test_invariants_hold_in_every_history(history: list[Op], count: int) -> None:
    hold(history, count)


@pytest.mark.slow
@given(histories(40), st.sampled_from([3, 4, 5]))
@settings(max_examples=400, suppress_health_check=_HEALTH, phases=set(Phase) - {Phase.explain})
def test_invariants_hold_in_long_histories(history: list[Op], count: int) -> None:
    hold(history, count)
