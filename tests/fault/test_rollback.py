"""Backups put back, and copies that run beside the original: noticed, reset, nobody else concerned (PROTOCOLS A10)."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from site_agent.state_reset import read_last_accepted
from tests.fault import invariants
from tests.fault.network import SiteTransport
from tests.fault.simulated_site import SimulatedSite
from tests.fault.simulation import Simulation, letters, simulation


def back_up(site: SimulatedSite, folder: Path) -> Path:
    """Copy the state directory of a site whose agent is not running, and start it again."""
    site.close()
    shutil.copytree(site.folder.root, folder)
    site.start()
    return folder


def put_back(site: SimulatedSite, folder: Path) -> None:
    """Replace the state directory by the copy, and start the agent on it."""
    site.close()
    shutil.rmtree(site.folder.root)
    shutil.copytree(folder, site.folder.root)
    site.start()


def entries(made: Simulation, type_: str) -> list[dict[str, Any]]:
    """Return the log's entries of one type."""
    with made.reading() as tx:
        rows = tx.rows("SELECT leaf FROM log_leaf WHERE type = :type ORDER BY idx", type=type_)
    return [json.loads(row.leaf) for row in rows]


def go_on(made: Simulation, until: int, *, seconds: float = 2.0) -> None:
    """Let everybody work until so many contexts have ended."""
    for _ in range(80):
        if sum(one.state in invariants.ENDED for one in made.rounds()) >= until:
            return
        made.everybody()
        made.advance(seconds)
        made.scene.coordinator.driver.drain()
    raise AssertionError(made.story())


def check_sums(made: Simulation) -> None:
    """Check on the wire and in the results that nobody was counted twice and nothing more was opened."""
    invariants.check_wire(made)
    for one in made.rounds():
        invariants.check_sum(made, one)
    for site in made.sites.values():
        assert site.failure is None, site.failure


@pytest.mark.parametrize("steps", range(5))
def test_row_10_a_backup_put_back_at_any_time_costs_its_site_a_round_and_nobody_anything(
    steps: int, tmp_path: Path
) -> None:
    with simulation(4, updates=5) as made:
        site = made.sites["site-b"]
        copy = back_up(site, tmp_path / "copy")
        for _ in range(steps):
            made.everybody()
        signed = site.query("SELECT MAX(seq) AS seq FROM signed_message")[0].seq
        made.advance(100)  # restoring takes its time: the process that held the lease is gone for good
        put_back(site, copy)
        known = site.query("SELECT MAX(seq) AS seq FROM signed_message")[0].seq
        ended = sum(one.state in invariants.ENDED for one in made.rounds())
        go_on(made, ended + 3)
        resets = entries(made, "state.reset")
        assert [one["data"]["site"] for one in resets] == (["site-b"] if signed > known else [])
        if resets:
            assert resets[0]["data"]["knew"] == known
            assert resets[0]["data"]["reason"] == "rollback"
        later = [letters(one.survivors) for one in made.rounds()[ended:] if one.state == "PUBLISHED"]
        assert "abcd" in later, made.story()
        check_sums(made)


def test_row_10_a_second_agent_gets_nothing_while_the_first_one_is_at_work(tmp_path: Path) -> None:
    with simulation(4, updates=3) as made:
        site = made.sites["site-b"]
        copy = back_up(site, tmp_path / "copy")
        made.everybody()
        second = SimulatedSite(made, "site-b", site.index, copy)
        second.certificate = site.certificate
        second.start()
        made.everybody()
        second.work()
        assert second.failure is not None
        assert second.failure.code == "instance_conflict"
        go_on(made, 2)
        assert entries(made, "state.reset") == []
        check_sums(made)
        second.close()


def test_row_10_a_copy_takes_over_only_when_the_first_agent_is_gone_and_then_for_good(tmp_path: Path) -> None:
    with simulation(4, updates=4) as made:
        site = made.sites["site-b"]
        copy = back_up(site, tmp_path / "copy")
        for _ in range(4):
            site.poll()  # it holds the lease now, and has signed nothing that the copy does not know of
        site.is_away = True
        for _ in range(3):
            made.everybody()
            made.advance(50)
        second = SimulatedSite(made, "site-b", site.index, copy)
        second.certificate = site.certificate
        second.start()
        for _ in range(4):
            second.work()
        assert second.failure is None, second.failure
        assert [one["data"]["site"] for one in entries(made, "state.reset")] == ["site-b"]
        site.poll()
        assert site.failure is not None
        assert site.failure.code == "instance_conflict"
        second.close()


def test_row_29_a_site_that_resets_again_and_again_holds_up_nobody(tmp_path: Path) -> None:
    with simulation(4, updates=4) as made:
        site = made.sites["site-d"]
        copy = back_up(site, tmp_path / "copy")
        go_on(made, 1)
        bundles = {name: made.sites[name].query("SELECT MAX(serial) AS s FROM pairing")[0].s for name in made.sites}
        for _ in range(6):
            made.advance(100)
            put_back(site, copy)
            site.poll()  # reset, and lost once more before anything else
        assert 1 <= len(entries(made, "state.reset")) < 4
        assert made.network.failures == []
        site.is_away = True
        go_on(made, 3)
        published = [one for one in made.rounds() if one.kind == "update" and one.state == "PUBLISHED"]
        assert letters(published[-1].survivors) == "abc"
        for name in ("site-a", "site-b", "site-c"):
            assert made.sites[name].query("SELECT MAX(serial) AS s FROM pairing")[0].s == bundles[name]
        check_sums(made)


def test_the_end_of_a_chain_is_shown_to_its_site_only() -> None:
    with simulation(4) as made:
        transport = SiteTransport(made, "site-a")
        client = made.sites["site-a"].session.client
        own = read_last_accepted(client, "site-a", 0)
        assert own.seq > 0
        assert own.newest is not None
        import httpx

        answer = transport.handle_request(httpx.Request("GET", "https://c/v1/statements/site-b?after=0"))
        assert (answer.status_code, json.loads(answer.read())["code"]) == (403, "site_mismatch")
        answer = transport.handle_request(httpx.Request("GET", "https://c/v1/statements/site-a?after=x"))
        assert (answer.status_code, json.loads(answer.read())["code"]) == (400, "number_malformed")
