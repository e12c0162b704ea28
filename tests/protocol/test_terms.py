"""An approval's terms in a federation: what is not allowed is refused with its code, and the others' round goes on."""

import sqlite3
from datetime import timedelta
from typing import Any

import pytest

from shared.errors import Refusal
from site_agent import approvals, journal
from site_agent.terms import Terms, without_limits
from tests.support.hospitals import STUDY, Hospital, Hospitals, one_hot_sum

OTHERS = ["site-b", "site-c", "site-d"]


def approve(site: Hospital, **limits: Any) -> None:
    terms = Terms.check({**without_limits("Dr. Lind", "care").as_json(), **limits})
    with site.database.transaction("approve") as tx:
        approvals.approve(tx, site.session.identity, STUDY, "cases", None, site.clock.now(), terms)
    site.deliver()


def finish_without(hospitals: Hospitals, code: str, **opened: Any) -> None:
    """Run a round that site-a refuses to contribute to; it is published for the others."""
    ctx = hospitals.coordinator.open_round(STUDY, **opened)
    hospitals.run_round(ctx)
    assert hospitals["site-a"].refusal(ctx) == code
    assert hospitals.coordinator.rounds[ctx.ctx_hash].refusals["site-a"] == code
    assert one_hot_sum(hospitals, ctx, OTHERS)


def test_a_used_up_number_of_rounds_is_refused_and_the_others_go_on(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    approve(site, most_rounds=1)
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    assert one_hot_sum(hospitals, ctx, hospitals.sites)
    finish_without(hospitals, "approval_rounds")
    site.clock.at += timedelta(seconds=1)
    approve(site, most_rounds=2)
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    assert one_hot_sum(hospitals, ctx, hospitals.sites), "an approval counts its own rounds"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"kinds": ["metrics", "statistics"]}, "approval_kind"),
        ({"least_hospitals": 4}, "approval_hospitals"),
    ],
)
def test_limits_of_a_contribution_are_refused_and_the_others_go_on(
    hospitals: Hospitals, limits: dict[str, Any], code: str
) -> None:
    approve(hospitals["site-a"], **limits)
    finish_without(hospitals, code)


def test_an_approval_that_has_ended_is_refused(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    approve(site, until="2026-11-21T12:00:00.000Z")
    ctx = hospitals.coordinator.open_round(STUDY)
    site.clock.at += timedelta(days=1)
    site.step()
    assert site.refusal(ctx) == "approval_expired"


def test_a_narrower_approval_counts_before_the_next_piece_of_work(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    site.desk.held = True
    ctx = hospitals.coordinator.open_round(STUDY)
    site.step()
    assert site.state(ctx) == "BOUND"
    approve(site, kinds=["statistics"])
    site.desk.finish()
    assert site.refusal(ctx) == "approval_kind"
    assert site.trainer.runs == []


def test_outside_its_hours_a_hospital_waits_while_the_window_lasts(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    opening = site.clock.now()
    approve(site, hours=[f"{opening:%H:%M}-{opening + timedelta(hours=1):%H:%M}"])
    ctx = hospitals.coordinator.open_round(STUDY)
    site.clock.at -= timedelta(seconds=30)
    unfinished = site.step()
    assert unfinished is not None
    assert unfinished.retry_after_seconds == 30
    assert (site.state(ctx), site.refusal(ctx)) == (None, None)
    site.clock.at = opening
    site.step()
    assert site.state(ctx) == "SENT"


def test_outside_its_hours_a_hospital_refuses_what_it_cannot_make_and_still_helps_to_close(
    hospitals: Hospitals,
) -> None:
    site = hospitals["site-a"]
    later = site.clock.now() + timedelta(hours=12)
    approve(site, hours=[f"{later:%H:%M}-{later + timedelta(hours=1):%H:%M}"])
    finish_without(hospitals, "approval_hours")


def test_another_version_of_the_data_is_refused(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    with site.database.transaction("register anew") as tx:
        tx.run("UPDATE dataset SET digest = :digest", digest="2" * 64)
    finish_without(hospitals, "approval_data")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE study_approval SET entry = NULL",
        "UPDATE study_approval SET entry = 1",
        "UPDATE study_approval SET decided_at = '2020-01-01T00:00:00.000Z'",
    ],
)
def test_a_row_that_is_not_what_was_signed_approves_nothing(hospitals: Hospitals, sql: str) -> None:
    with sqlite3.connect(hospitals["site-a"].folder.database) as connection:
        connection.execute(sql)
    connection.close()
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals["site-a"].step()
    assert hospitals["site-a"].refusal(ctx) == "approval_unsigned"


def test_an_earlier_approval_does_not_come_back_after_a_withdrawal(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    with site.database.reading("look") as tx:
        before = tx.row("SELECT * FROM study_approval")
    with site.database.transaction("withdraw") as tx:
        approvals.withdraw(tx, site.session.identity, STUDY, site.clock.now(), "Dr. Lind")
    with site.database.transaction("put the row back") as tx:
        tx.run(
            "UPDATE study_approval SET decision = 'approve', entry = :entry, decided_at = :at",
            entry=before.entry,
            at=before.decided_at,
        )
    with site.database.reading("look") as tx, pytest.raises(Refusal, match=r"^approval_unsigned:"):
        approvals.read_consent(tx, STUDY, site.clock.now())


def test_decisions_stand_in_the_sites_own_log_and_names_leave_it_never(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    approve(site, most_rounds=7)
    approve(site, most_rounds=7)
    sent = len(hospitals.coordinator.messages["site-a"])
    with site.database.transaction("withdraw") as tx:
        approvals.withdraw(tx, site.session.identity, STUDY, site.clock.now(), "Dr. Vogt")
    site.deliver()
    with site.database.reading("look") as tx:
        found = [entry for entry in journal.read_checked(tx) if entry.event in {journal.APPROVED, journal.WITHDRAWN}]
    assert [entry.event for entry in found] == ["approved", "approved", "withdrawn"], (
        "saying it twice is saying it once"
    )
    assert found[1].facts["terms"]["approver"] == "Dr. Lind"
    assert (found[1].facts["data_version"], found[1].facts["terms"]["most_rounds"]) == ("1" * 64, 7)
    assert found[2].facts["by"] == "Dr. Vogt"
    messages = hospitals.coordinator.messages["site-a"]
    assert len(messages) == sent + 1
    assert all(name not in message.payload for message in messages for name in (b"Lind", b"Vogt", b"most_rounds"))
