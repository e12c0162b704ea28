"""A roster is active when everybody signed, and its successor when a quorum of the former did too (PROTOCOLS A4)."""

from datetime import datetime, timedelta

import pytest

from shared.errors import InputError, PeerFault
from shared.secagg.roster import roster_hash
from site_agent import rosters
from site_agent.storage import rosters as stored
from tests.support.hospitals import Hospital, Hospitals


def active(site: Hospital) -> int | None:
    with site.database.reading("look") as tx:
        found = stored.read_active(tx)
    return None if found is None else found.version


def approve(site: Hospital) -> None:
    with site.database.transaction("approve") as tx:
        picture = rosters.picture(tx)
        rosters.approve(tx, site.session.identity, picture.fingerprint, site.clock.now())
    site.deliver()


def test_the_first_roster_waits_for_the_last_signature(hospitals: Hospitals) -> None:
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    hospitals.step("roster")
    for site in hospitals.each()[:3]:
        approve(site)
    hospitals.step("roster")
    assert [active(site) for site in hospitals.each()] == [1, 1, 1, 1]
    approve(hospitals["site-d"])
    hospitals.step("roster")
    assert [active(site) for site in hospitals.each()] == [2, 2, 2, 2]


def test_a_complete_roster_is_not_active_where_nobody_approved_it(hospitals: Hospitals) -> None:
    """The coordinator shows site a every signature but its own administrator's act: that one counts here."""
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    hospitals.step("roster")
    for site in hospitals.each():
        approve(site)
    site = hospitals["site-a"]
    with site.database.transaction("forget the approval") as tx:
        tx.run("UPDATE roster SET approved = 0, state = 'known' WHERE version = 2")
        tx.run("UPDATE roster SET state = 'active' WHERE version = 1")
    site.step("roster")
    assert active(site) == 1


def test_a_member_may_leave_when_a_quorum_agrees(hospitals: Hospitals) -> None:
    entries = [entry for entry in hospitals.coordinator.roster["sites"] if entry["id"] != "site-d"]
    hospitals.coordinator.propose_roster(entries)
    rest = hospitals.each()[:3]
    for site in rest:
        site.step("roster")
        approve(site)
    for site in rest:
        site.step("roster")
    # N = 4, c = 1: three of the four former members are a quorum.
    assert [active(site) for site in rest] == [2, 2, 2]
    gone = hospitals["site-d"]
    gone.step("roster")
    assert active(gone) == 1
    assert "roster_own_entry" in gone.notices()


def test_an_older_version_never_becomes_active_again(hospitals: Hospitals) -> None:
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    for _ in range(2):
        hospitals.step("roster")
        for site in hospitals.each():
            approve(site)
    hospitals.step("roster")
    site = hospitals["site-a"]
    assert active(site) == 2
    first = hospitals.coordinator.rosters[1]
    value = {"kind": "roster", "version": 1, "roster": roster_hash(first), "approved_by": hospitals.sites}
    site.give(value)
    assert active(site) == 2


def test_a_roster_that_is_not_the_announced_one_is_not_stored(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    value = {"kind": "roster", "version": 2, "roster": "0" * 64, "approved_by": []}
    with pytest.raises(PeerFault, match=r"^roster_equivocation:"):
        site.give(value)
    with site.database.reading("look") as tx:
        assert stored.read_roster(tx, 2) is None


def test_there_is_nothing_to_approve_before_a_roster_came(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    with site.database.transaction("forget") as tx:
        tx.run("DELETE FROM roster")
    with site.database.reading("look") as tx, pytest.raises(InputError, match=r"^roster_unknown:"):
        rosters.picture(tx)


def test_a_roster_runs_out(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    last_day = datetime.fromisoformat(hospitals.coordinator.roster["not_after"] + "T12:00:00+00:00")
    hospitals.coordinator.now = site.clock.at = last_day + timedelta(days=2)
    ctx = hospitals.coordinator.open_round("study-1")
    site.give({"kind": "open", "ctx": ctx.as_json(), "upload_until": ctx.expires})
    assert site.refusal(ctx) == "roster_expired"
