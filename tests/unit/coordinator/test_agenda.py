"""What a study asks for next, as a function of what has happened."""

from dataclasses import replace
from typing import Any

from coordinator.rounds.agenda import Finished, Next, Pause, Progress, next_step
from coordinator.storage.model_versions import ModelVersion
from coordinator.storage.rounds import Round
from shared.protocol.round_context import Context
from shared.protocol.vector_layout import vector_layout
from tests.support.plans import plan_with


def figures(auc: str) -> dict[str, Any]:
    return {"auc": auc, "loss": "0.5"}


def version(number: int, auc: str | None = None) -> ModelVersion:
    return ModelVersion("s", str(number) * 64, number, "", None if auc is None else figures(auc), None)


def round_of(
    purpose: str, state: str = "PUBLISHED", model: int = 0, *, scored: bool = True, closed: bool = True
) -> Round:
    kind = "metrics" if purpose in {"validation", "test"} else purpose
    part = {"validation": "validation", "test": "test", "update": "validation" if scored else None}.get(purpose)
    layout = vector_layout(plan_with(), kind, 3, part)  # type: ignore[arg-type]
    ctx = Context.check(
        {
            "v": "SA1", "kind": kind, "group": 0, "study": "s", "roster": "0" * 64, "round": 1,
            "model": str(model) * 64, "plan": "0" * 64, "prev": None, "P": [], "t": 3, "c": 1, "m": 3, "d": layout.d,
            "tail": [entry.as_json() for entry in layout.tail], "b": layout.b, "q": layout.q, "w_cap": 1,
            "clip": "0" * 64, "dp": "0" * 64, "expires": "2027-01-01T00:00:00Z",
        }
    )  # fmt: skip
    values: dict[str, Any] = dict.fromkeys(Round.__dataclass_fields__)
    values |= {
        "id": 1,
        "study": "s",
        "kind": kind,
        "purpose": purpose,
        "number": 1,
        "position": 1,
        "state": state,
        "model": str(model) * 64,
        "ctx_hash": ctx.ctx_hash,
        "ctx_json": ctx.canonical().decode(),
        "closed_at": "now" if closed else None,
    }
    return Round(**values)


def progress(versions: list[ModelVersion], rounds: list[Round], failed: int = 0, **changes: Any) -> Progress:
    changes.setdefault("preprocessing", {"normalise": "none"})
    return Progress(plan_with(**changes), versions, rounds, versions[-1].sha256, failed)


def test_statistics_come_first_where_the_plan_asks_for_them() -> None:
    federated = {"normalise": "federated"}
    assert next_step(progress([version(0)], [], preprocessing=federated)) == Next("statistics", "0" * 64)
    assert next_step(progress([version(0)], [])) == Next("update", "0" * 64)
    done = [round_of("statistics")]
    assert next_step(progress([version(0)], done, preprocessing=federated)) == Next("update", "0" * 64)


def test_statistics_that_failed_are_asked_again_only_if_nobody_can_have_answered() -> None:
    federated = {"normalise": "federated"}
    untouched = [round_of("statistics", "ABANDONED", closed=False)]
    assert isinstance(next_step(progress([version(0)], untouched, preprocessing=federated)), Next)
    sealed = [round_of("statistics", "LOST")]
    assert isinstance(next_step(progress([version(0)], sealed, preprocessing=federated)), Pause)


def test_updates_validation_test_end() -> None:
    versions = [version(0, "0.5"), version(1, "0.6"), version(2, "0.7"), version(3)]
    updates = [round_of("update", model=number) for number in range(3)]
    assert next_step(progress(versions[:3], updates[:2])) == Next("update", "2" * 64)
    assert next_step(progress(versions, updates)) == Next("validation", "3" * 64)
    versions[3] = version(3, "0.65")
    validated = [*updates, round_of("validation", model=3)]
    assert next_step(progress(versions, validated)) == Next("test", "2" * 64)
    tested = [*validated, round_of("test", model=2)]
    assert next_step(progress(versions, tested)) == Finished("all rounds done")


def test_a_version_that_cannot_be_scored_again_is_not_asked_again() -> None:
    """Its validation histogram was asked in a context that was opened and lost: once is once."""
    versions = [version(0, "0.5"), version(1, "0.6"), version(2, "0.7"), version(3)]
    updates = [round_of("update", model=number) for number in range(3)]
    lost = [*updates, round_of("validation", "LOST", model=3)]
    assert next_step(progress(versions, lost)) == Next("test", "2" * 64)
    lost_test = [*lost, round_of("test", "LOST", model=2)]
    assert next_step(progress(versions, lost_test)) == Finished("all rounds done")


def test_convergence_stops_early_and_the_last_version_was_scored_by_the_lost_update() -> None:
    versions = [version(0, "0.9"), version(1, "0.8"), version(2, "0.7")]
    updates = [round_of("update", model=0), round_of("update", model=1), round_of("update", "LOST", model=2)]
    step = next_step(progress(versions, updates, selection={"patience": 2}))
    assert step == Next("test", "0" * 64)
    done = [*updates, round_of("test", model=0)]
    assert next_step(progress(versions, done, selection={"patience": 2})) == Finished("converged")


def test_three_failures_on_one_model_need_a_person() -> None:
    assert isinstance(next_step(progress([version(0)], [], failed=2)), Next)
    step = next_step(progress([version(0)], [], failed=3))
    assert step == Pause("3 rounds failed on the same model version")


def test_a_round_that_moved_nothing_is_the_last_one() -> None:
    """Another update from the same digest would be refused by the hospitals (R5), and lead nowhere."""
    still = replace(round_of("update", scored=False), result_model="0" * 64)
    moved = replace(still, result_model="1" * 64)
    assert next_step(progress([version(0)], [still])) == Next("validation", "0" * 64)
    assert next_step(progress([version(0), version(1)], [moved])) == Next("update", "1" * 64)
    tested = round_of("test")
    measured = round_of("validation")
    assert next_step(progress([version(0)], [still, measured, tested])) == Finished("converged")
