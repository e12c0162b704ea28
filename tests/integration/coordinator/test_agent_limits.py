"""Rate limits on the agent plane: one site that floods waits, the others and its own rounds do not."""

import json
from datetime import timedelta

import pytest

from coordinator.rate_limits import RATES, Pace
from tests.support.coordinator_scene import Scene
from tests.support.fake_site import FakeSite


def code_at(site: FakeSite, method: str, path: str, body: bytes = b"") -> str:
    """Return the code of the problem, or nothing when there was none."""
    status, answer = site.transport.request(method, path, body, {}, site)
    return "" if status == 200 else str(json.loads(answer)["code"])


def poll_as(site: FakeSite, instance: str) -> str:
    return code_at(site, "GET", f"/v1/agent/poll?wait=0&instance={instance}")


def test_polls_with_random_instances_cost_few_commits_and_few_entries(scene: Scene) -> None:
    flooding, other = scene.sites["site-a"], scene.sites["site-b"]
    flooding.poll(cursor="")
    before = len(scene.entries())
    codes = [poll_as(flooding, f"random-{number}") for number in range(50)]
    burst = RATES["instance"].burst
    assert codes[: burst - 1] == ["instance_conflict"] * (burst - 1)
    assert set(codes[burst:]) == {"rate_limited"}
    alerts = [one for one in scene.entries()[before:] if one["type"] == "alert.instance_conflict"]
    assert len(alerts) <= burst
    other.poll(cursor="")
    flooding.poll(cursor="")  # the real agent goes on: it holds the lease and asks under its own instance
    scene.clock.at += timedelta(seconds=RATES["instance"].seconds)
    assert [poll_as(flooding, f"later-{number}") for number in range(2)] == ["instance_conflict", "rate_limited"]


@pytest.mark.parametrize(
    ("pace", "path"),
    [
        ("approval", "/v1/rosters/1/approvals/site-a"),
        ("approval", "/v1/studies/unknown/approvals/site-a"),
        ("complaint", "/v1/complaints/site-a/" + "0" * 64),
    ],
)
def test_floods_of_approvals_and_complaints_wait(scene: Scene, pace: Pace, path: str) -> None:
    site, other = scene.sites["site-a"], scene.sites["site-b"]
    burst = RATES[pace].burst
    codes = [code_at(site, "PUT", path, b"{}") for _ in range(burst + 3)]
    assert codes[-3:] == ["rate_limited"] * 3
    assert "rate_limited" not in codes[: burst - 2]
    assert code_at(other, "PUT", path.replace("site-a", "site-b"), b"{}") not in {"", "rate_limited"}
    site.poll(cursor="")  # polls have nothing to do with it
