"""The demo's screen: readable at 80 columns, without a terminal and without colours."""

import io
from typing import Literal

from rich.console import Console

from shared.canonical import JsonObject
from shared.protocol.study import RoundView, StudyView
from workbench.rehearsal.demo_screen import Screen, print_report
from workbench.study_picture import masked_bytes, study_picture

REPORT: JsonObject = {
    "dataset": "breast-cancer",
    "sites": ["north", "south", "east", "west"],
    "training_cases": {"north": 160, "south": 100, "east": 50, "west": 31},
    "test_cases": 114,
    "federated_auc": 0.99541,
    "pooled_auc": 0.99612,
    "local_auc": {"north": 0.99, "south": 0.98, "east": 0.97, "west": None},
    "difference_to_float64": -0.00004,
    "difference_allowed": 0.002,
    "rounds": 6,
    "survivors_per_round": [4, 3, 3, 4, 4, 4],
    "bytes_out": {"north": 1234567, "south": 2, "east": 3, "west": 4},
    "bytes_sent": {"north": 2234567, "south": 5, "east": 6, "west": None},
    "coordinator_saw": {"masked_vectors": 22, "masked_bytes": 1234576, "sums": 8, "updates_in_clear": 0},
    "log_entries": 150,
    "log_verified": True,
    "log_final": {"size": 150, "quorum": 3, "cosigned_by": ["a", "b", "c"]},
    "model_digest": "ab" * 32,
    "files": "the-results",
    "seconds": 41.2,
}


def a_round(state: str = "PUBLISHED") -> RoundView:
    return RoundView(
        study="s",
        index=1,
        kind="update",
        round=1,
        ctx_hash="cd" * 32,
        state=state,
        reason=None,
        invited=["a", "b", "c"],
        uploaded=["a", "b", "c"],
        refused={},
        survivors=["a", "b", "c"],
        opened_at="2026-11-21T10:00:00.000Z",
        closed_at="2026-11-21T10:00:01.000Z",
        published_at="2026-11-21T10:00:02.000Z",
        upload_bytes={"a": 100, "b": 100, "c": 100},
        model="ab" * 32,
        result_model="ef" * 32,
        metrics={"auc": "0.98765"},
    )


def a_view(*rounds: RoundView, state: Literal["running", "finished"] = "running") -> StudyView:
    return StudyView(
        study="s",
        title="A study",
        plan="ab" * 32,
        state=state,
        reason=None,
        sites=["a", "b", "c"],
        approved_by=["a", "b", "c"],
        model="ef" * 32,
        best_model=None,
        best_round=None,
        best_metrics=None,
        test_metrics=None,
        rounds=list(rounds),
    )


def printed(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=80, force_terminal=terminal, no_color=True, highlight=False), text


def test_the_report_fits_80_columns_and_holds_every_figure() -> None:
    console, text = printed()
    print_report(REPORT, console)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    together = " ".join(text.getvalue().split())
    for figure in ("0.9954", "0.9961", "114 test patients", "1,234,567", "2,234,567", "4, 3 (2 times), 4 (3 times)"):
        assert figure in together
    assert "150 entries, verified offline" in together
    assert "0.00004 (within the allowed 0.002)" in together
    assert "west alone 31 -" in together
    assert "ab" * 32 in together


def test_a_log_that_does_not_verify_and_a_model_that_differs_are_not_whispered() -> None:
    console, text = printed()
    print_report({**REPORT, "log_verified": False, "difference_to_float64": 0.01}, console)
    assert "NOT VERIFIED" in text.getvalue()
    assert "MORE THAN" in text.getvalue()


def test_without_a_terminal_every_event_is_one_line_and_none_comes_twice() -> None:
    console, text = printed()
    with Screen(console) as screen:
        screen.say("coordinator: two listeners over TLS")
        screen.show(a_view(a_round("OPEN")), {})
        screen.show(a_view(a_round()), {})
        screen.show(a_view(a_round()), {})
        screen.show(a_view(a_round(), state="finished"), {})
    lines = [line.split("s  ", 1)[1] for line in text.getvalue().splitlines()]
    assert lines == [
        "coordinator: two listeners over TLS",
        "round 1: PUBLISHED, 3/3 uploaded, survivors a, b, c, AUC of received model 0.9877",
        "study s: finished",
    ]


def test_in_a_terminal_steps_and_sites_are_redrawn_within_80_columns() -> None:
    console, text = printed(terminal=True)
    with Screen(console) as screen:
        screen.say("enrolling the sites")
        screen.show(a_view(a_round("OPEN")), {"a": {"online": True, "doing": "training"}})
    assert "training" in text.getvalue()
    assert "enrolling the sites" in text.getvalue()


def test_the_picture_counts_masked_bytes_over_all_rounds() -> None:
    view = a_view(a_round(), a_round())
    assert masked_bytes(view, "a") == 200
    console, text = printed()
    console.print(study_picture(view, {"a": {"online": True, "doing": "idle"}}))
    assert max(map(len, text.getvalue().splitlines())) <= 80
    assert "200" in text.getvalue()
