"""Every request has a class; what was taken is counted once."""

import re
import threading

import pytest

from coordinator.api.routes import AGENT_ROUTES
from site_agent.traffic import MEANINGS, QUIET, Flow, Meter, Traffic, destination_of, traffic_of


@pytest.mark.parametrize("path", sorted({route.path for route in AGENT_ROUTES}))
def test_every_route_of_the_coordinator_has_a_class(path: str) -> None:
    assert traffic_of(re.sub(r"\{[^}]+\}", "x", path)) is not Traffic.OTHER


def test_every_class_says_what_it_means() -> None:
    assert set(MEANINGS) == set(Traffic)
    assert all(all(meaning) for meaning in MEANINGS.values())
    assert traffic_of("/v2/something/new") is Traffic.OTHER
    assert Traffic.OTHER not in QUIET, "what fits no class is written down at once"


def test_a_meter_counts_by_class_and_is_emptied_once() -> None:
    meter = Meter("c:1")
    with meter.exchange(Traffic.POLL):
        meter.sent(10)
        with meter.attributed(Traffic.CONNECTION):
            meter.sent(5)
        meter.received(7)
    meter.sent(1)
    assert meter.classes() == {"poll", "connection"}
    taken = meter.take()
    assert taken == [Flow("connection", "c:1", 0, 6, 0), Flow("poll", "c:1", 1, 10, 7)]
    assert meter.take() == []
    meter.give_back(taken)
    assert meter.take() == taken


def test_threads_lose_no_byte() -> None:
    meter = Meter("c:1")

    def count(traffic: Traffic) -> None:
        for _ in range(2000):
            with meter.exchange(traffic):
                meter.sent(1)

    threads = [threading.Thread(target=count, args=(traffic,)) for traffic in (Traffic.POLL, Traffic.MODEL) * 2]
    for thread in threads:
        thread.start()
    flows: list[Flow] = []
    while any(thread.is_alive() for thread in threads):
        flows += meter.take()
    flows += meter.take()
    for traffic in (Traffic.POLL, Traffic.MODEL):
        assert sum(flow.sent for flow in flows if flow.traffic == traffic) == 4000


@pytest.mark.parametrize(
    ("url", "proxy", "shown"),
    [
        ("https://c.example:9092", None, "c.example:9092"),
        ("https://c.example", None, "c.example:443"),
        (
            "https://c.example",
            "http://user:word@proxy.example:3128",
            "c.example:443 through the proxy proxy.example:3128",
        ),
    ],
)
def test_a_destination_holds_no_password(url: str, proxy: str | None, shown: str) -> None:
    assert destination_of(url, proxy) == shown
