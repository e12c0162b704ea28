"""Certificates renew themselves, whatever the network does and wherever the agent dies (PROTOCOLS C2)."""

from typing import Any

import pytest

from shared.crypto.x509 import read_site_certificate
from shared.errors import MitralError
from site_agent.state_reset import read_last_accepted
from tests.fault.faults import Armed, Fault, Saboteur
from tests.fault.simulated_site import SimulatedSite
from tests.fault.simulation import Op, Simulation, simulation
from tests.fault.test_rollback import entries

DAY = 86_400.0


def serial(site: SimulatedSite) -> str:
    assert site.certificate is not None
    return read_site_certificate(site.certificate).serial


def renewed(made: Simulation) -> list[Any]:
    return [entry["data"]["site"] for entry in entries(made, "cert.renewed")]


def poll(site: SimulatedSite) -> str | None:
    """Poll once; return the code of what went wrong."""
    try:
        site._ask.ask_once()
    except MitralError as error:
        site._ask._failed(error)
        return error.code
    return None


def test_a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_before() -> None:
    with simulation(4) as made:
        before = {name: serial(site) for name, site in made.sites.items()}
        made.everybody()
        made.advance(4.5 * DAY)
        made.everybody()
        assert renewed(made) == []
        made.advance(0.3 * DAY)
        made.everybody()
        assert sorted(renewed(made)) == list(made.sites)
        assert all(serial(site) != before[name] for name, site in made.sites.items())
        for entry in entries(made, "cert.renewed"):
            site = made.sites[entry["data"]["site"]]
            assert entry["data"]["serial"] == serial(site)
            own = [row.sha256 for row in site.query("SELECT sha256 FROM own_certificate")]
            assert entry["data"]["sha256"] in own
            assert entry["evidence"], "the site's own signature says that it asked"


def test_requests_under_way_are_not_cut_off_and_the_old_certificate_ends_soon() -> None:
    with simulation(4) as made:
        site = made.sites["site-a"]
        old = site.certificate
        made.advance(5 * DAY)
        assert poll(site) is None
        new, site.certificate = site.certificate, old
        read_last_accepted(site.session.client, "site-a", 0)
        made.advance(601)
        with pytest.raises(MitralError, match=r"^certificate_superseded:"):
            read_last_accepted(site.session.client, "site-a", 0)
        site.certificate = new
        read_last_accepted(site.session.client, "site-a", 0)


def test_a_start_renews_a_certificate_that_is_not_quite_new() -> None:
    with simulation(4) as made:
        site = made.sites["site-a"]
        site.restart()
        assert poll(site) in {None, "instance_conflict"}
        assert renewed(made) == []
        made.advance(2 * 3600)
        site.restart()
        poll(site)
        assert renewed(made) == ["site-a"]
        for _ in range(3):
            poll(site)
        assert renewed(made) == ["site-a"]


@pytest.mark.parametrize("kind", ["response lost", "request lost", "duplicated"])
def test_a_lost_answer_costs_nothing_and_makes_no_second_certificate(kind: Any) -> None:
    with simulation(4) as made:
        site = made.sites["site-a"]
        made.advance(5 * DAY)
        made.armed = Saboteur(kind)
        for _ in range(6):
            poll(site)
            made.advance(61)
            made.scene.clock.elapsed_seconds += 61
        assert poll(site) is None
        assert renewed(made) == ["site-a"]
        assert site.query("SELECT * FROM renewal") == []
        assert site.query("SELECT COUNT(*) AS n FROM own_certificate")[0].n == 2


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["begin a renewal", "POST renew", "certificate renewed"])
def test_killed_anywhere_it_goes_on_with_the_same_key(when: str, point: str) -> None:
    with simulation(4) as made:
        made.advance(5 * DAY)
        made.apply(Op("poll", 0, fault=Fault("site killed", point=f"{when} {point}")))
        assert made.deaths == 1
        site = made.sites["site-a"]
        for _ in range(8):
            poll(site)
        assert poll(site) is None
        assert renewed(made) == ["site-a"]
        assert serial(site) == entries(made, "cert.renewed")[0]["data"]["serial"]


def test_after_it_ran_out_the_identity_key_gets_the_next_one_and_rounds_go_on() -> None:
    with simulation(4, updates=2) as made:
        made.advance(60 * DAY)
        made.everybody()
        assert sorted(renewed(made)) == list(made.sites)
        assert {entry["actor"]["authn"] for entry in entries(made, "cert.renewed")} == {"idk"}
        made.finish()


def test_an_answer_that_was_lost_before_a_long_absence_is_made_good() -> None:
    with simulation(4) as made:
        site = made.sites["site-a"]
        made.advance(5 * DAY)
        made.armed = Saboteur("response lost")
        poll(site)
        made.armed = Armed(None)
        made.advance(3600)  # the old certificate is not taken any more, the new one never came
        for _ in range(3):
            poll(site)
        assert poll(site) is None
        assert renewed(made) == ["site-a"]
        made.advance(30 * DAY)
        poll(site)
        assert poll(site) is None
        assert renewed(made) == ["site-a", "site-a"]


def test_ninety_days_after_it_ran_out_an_invitation_is_needed() -> None:
    with simulation(4) as made:
        made.advance(98 * DAY)
        assert poll(made.sites["site-a"]) == "renewal_too_late"
        assert renewed(made) == []


def test_a_revoked_site_renews_nothing() -> None:
    with simulation(4) as made:
        made.scene.operator("POST", "/v1/sites/site-a/revoke", {"reason": "left"}, role="administrator")
        made.advance(5 * DAY)
        site = made.sites["site-a"]
        assert poll(site) == "site_revoked"
        assert site.failure is not None
        made.advance(30 * DAY)
        assert poll(site) == "site_revoked"
        assert renewed(made) == []
