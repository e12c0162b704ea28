"""Who is invited: only sites that cover each other, only cohorts every site would accept."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import cohort
from coordinator.presence import Presence
from coordinator.storage.pairings import Pairing
from coordinator.storage.rosters import StoredRoster
from coordinator.storage.studies import Study
from tests.support.plans import plan_with

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SITES = [f"site-{letter}" for letter in "abcdefg"]


def bundle(site: str, members: set[str], **changes: Any) -> Pairing:
    values: dict[str, Any] = {
        "study": "s",
        "site": site,
        "serial": 1,
        "pairing_hash": site,
        "roster_hash": "r",
        "members": frozenset(members - {site}),
        "blob": "",
        "received_at": "2026-11-21T08:00:00.000Z",
        "renew": False,
        "uses": 0,
    }
    return Pairing(**{**values, **changes})


def full(sites: list[str]) -> dict[str, Pairing]:
    return {site: bundle(site, set(sites)) for site in sites}


def roster(sites: list[str], c: int = 1) -> StoredRoster:
    return StoredRoster(1, "r", {"c": c, "sites": [{"id": site} for site in sites]}, "active", "", "")


def study(sites: list[str], **changes: Any) -> Study:
    plan = plan_with(sites=sites, **changes)
    values: dict[str, Any] = dict.fromkeys(Study.__dataclass_fields__)
    return Study(**{**values, "study": "s", "plan_json": plan.canonical().decode(), "state": "running"})


def choose(
    sites: list[str],
    online: list[str],
    bundles: Mapping[str, Pairing] | None = None,
    *,
    seconds: float = 60,
    c: int = 1,
    **changes: Any,
) -> cohort.Cohort:
    there = Presence(90, 5, NOW - timedelta(seconds=seconds))
    for site in online:
        there.saw(site, NOW)
    return cohort.choose(
        sites,
        full(sites) if bundles is None else bundles,
        roster(sites, c),
        there,
        study=study(sites, **changes),
        kind="update",
        waiting_since=NOW - timedelta(seconds=seconds),
        gather_seconds=5,
        now=NOW,
    )


def test_everybody_who_is_there_and_covered() -> None:
    assert choose(SITES, SITES).sites == SITES
    assert choose(SITES, SITES[:5]).sites == SITES[:5]


def test_too_few_wait_with_a_reason_that_names_everybody() -> None:
    chosen = choose(SITES[:4], SITES[:2])
    assert chosen.sites == []
    assert chosen.waiting_for == (
        "2 of at least 3 sites are online and paired (4 of 4 sites are members; offline: site-c, site-d)"
    )


def test_who_may_still_come_is_waited_for_but_not_for_long() -> None:
    early = choose(SITES[:4], SITES[:3], seconds=1)
    assert (early.sites, early.waiting_for) == ([], "waiting a moment for site-d")
    assert early.look_again_at == NOW + timedelta(seconds=4)
    assert choose(SITES[:4], SITES[:3], seconds=5).sites == SITES[:3]


def test_who_is_here_without_a_bundle_is_waited_for_but_not_for_long() -> None:
    bundles = full(SITES[:3])
    early = choose(SITES[:4], SITES[:4], bundles, seconds=1)
    assert (early.sites, early.waiting_for) == ([], "waiting a moment for site-d")
    late = choose(SITES[:4], SITES[:4], bundles, seconds=6)
    assert late.sites == SITES[:3]


@pytest.mark.parametrize("change", [{"roster_hash": "old"}, {"renew": True}])
def test_an_outdated_bundle_covers_nobody(change: dict[str, Any]) -> None:
    bundles = full(SITES[:4])
    bundles["site-d"] = bundle("site-d", set(SITES[:4]), **change)
    assert choose(SITES[:4], SITES[:4], bundles).sites == SITES[:3]


def test_of_an_uncovered_pair_at_most_one_is_invited() -> None:
    bundles = full(SITES[:5])
    bundles["site-b"] = bundle("site-b", set(SITES[:5]) - {"site-d"})
    chosen = choose(SITES[:5], SITES[:5], bundles).sites
    assert len(chosen) == 4
    assert not {"site-b", "site-d"} <= set(chosen)


def test_a_cohort_that_the_sites_would_refuse_is_not_invited() -> None:
    """Attack row 5: c is the roster's, however small P is."""
    chosen = choose(SITES, SITES[:3], c=3)
    assert chosen.sites == []
    assert "online and paired" in (chosen.waiting_for or "")
    assert choose(SITES[:3], SITES[:3], secure_aggregation={"b": 17, "q": 16}).sites == []


def test_the_plans_least_survivors_are_needed() -> None:
    assert choose(SITES[:4], SITES[:3], secure_aggregation={"least_survivors": 4}).sites == []
    assert choose(SITES[:4], SITES[:4], secure_aggregation={"least_survivors": 4}).sites == SITES[:4]


@given(st.sets(st.tuples(st.sampled_from(SITES), st.sampled_from(SITES))), st.sets(st.sampled_from(SITES)))
def test_the_chosen_cover_each_other_and_no_outsider_could_join(gaps: set[tuple[str, str]], here: set[str]) -> None:
    bundles = {site: bundle(site, set(SITES) - {other for one, other in gaps if one == site}) for site in SITES}

    def covers(one: str, other: str) -> bool:
        return other in bundles[one].members and one in bundles[other].members

    chosen = cohort.mutually_covering(here, bundles, "round 1")
    assert set(chosen) <= here
    assert chosen == sorted(chosen)
    assert all(covers(one, other) for one in chosen for other in chosen if one != other)


def test_of_two_that_do_not_cover_each_other_neither_always_stays() -> None:
    bundles = {site: bundle(site, set(SITES)) for site in SITES}
    bundles["site-a"] = bundle("site-a", set(SITES) - {"site-b"})
    chosen = [cohort.mutually_covering(SITES, bundles, f"round {number}") for number in range(32)]
    assert {tuple(sorted(set(SITES) - set(one))) for one in chosen} == {("site-a",), ("site-b",)}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, True),
        (bundle("site-a", set(SITES)), False),
        (bundle("site-a", set(SITES[:3])), True),
        (bundle("site-a", set(SITES), renew=True), True),
        (bundle("site-a", set(SITES), roster_hash="old"), True),
        (bundle("site-a", set(SITES), uses=119), False),
        (bundle("site-a", set(SITES), uses=120), True),
        (bundle("site-a", set(SITES), received_at="2026-10-23T09:00:01.000Z"), False),
        (bundle("site-a", set(SITES), received_at="2026-10-23T08:59:59.000Z"), True),
    ],
)
def test_when_a_new_bundle_is_due(found: Pairing | None, expected: bool) -> None:
    """PROTOCOLS A6: new members, a new roster; a little before 128 contexts and 30 days."""
    assert cohort.needs_bundle("site-a", SITES, found, "r", NOW) is expected
