"""The recording loop: soon when something happened, seldom when not, once a day a summary, and never a byte lost."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from shared.clock import FixedClock
from shared.errors import Unavailable
from site_agent import journal
from site_agent.journal import Entry
from site_agent.logs import make_log
from site_agent.recording import RecordLoop, record_command
from site_agent.storage.database import Database
from site_agent.traffic import Flow, Meter, Traffic
from tests.support.hospitals import Hospital, Hospitals

AT = datetime(2026, 11, 20, 22, tzinfo=UTC)


class Desk:
    """A loop over a clock that stands still, and the entries it wrote."""

    def __init__(self, site: Hospital, database: Database | None = None) -> None:
        self.site, self.clock, self.meter = site, FixedClock(AT), Meter("c:1")
        with site.database.reading("keeper") as tx:
            keeper = journal.read_keeper(tx)
        self.logged = io.StringIO()
        log = make_log("debug", stream=self.logged)
        self.loop = RecordLoop(database or site.database, keeper, [self.meter], self.clock, log)

    def wait(self, **time: float) -> None:
        self.clock.at += timedelta(**time)
        self.loop.look()

    def count(self, traffic: Traffic, sent: int) -> None:
        with self.meter.exchange(traffic):
            self.meter.sent(sent)

    def entries(self, *events: str) -> list[Entry]:
        with self.site.database.reading("look") as tx:
            return [entry for entry in journal.read_checked(tx) if entry.event in events]


@pytest.fixture
def desk(hospitals: Hospitals) -> Desk:
    return Desk(hospitals["site-a"])


def test_a_message_is_written_down_at_once_and_asking_for_work_every_ten_minutes(desk: Desk) -> None:
    desk.loop.begin("1")
    desk.count(Traffic.POLL, 100)
    desk.wait(seconds=599)
    assert desk.entries("traffic") == []
    desk.wait(seconds=1)
    assert [entry.flows for entry in desk.entries("traffic")] == [[Flow("poll", "c:1", 1, 100, 0)]]
    desk.count(Traffic.POLL, 1)
    desk.count(Traffic.MASKED_UPDATE, 5000)
    desk.wait(seconds=1)
    assert [flow.sent for flow in desk.entries("traffic")[1].flows] == [5000, 1]
    desk.wait(hours=1)
    assert len(desk.entries("traffic")) == 2, "nothing happened, nothing is written"


def test_a_run_that_was_closed_and_one_that_was_not(desk: Desk) -> None:
    desk.loop.begin("1")
    desk.count(Traffic.POLL, 100)
    desk.loop.finish()
    desk.loop.begin("2")
    desk.loop.begin("3")
    found = desk.entries("started", "stopped", "traffic")
    assert [entry.event for entry in found] == ["started", "traffic", "stopped", "started", "started"]
    assert [entry.facts["unclosed"] for entry in found if entry.event == "started"] == [False, False, True]


def test_what_cannot_be_written_is_counted_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.loop.begin("1")
    desk.count(Traffic.DECISION, 100)
    with monkeypatch.context() as patched:
        patched.setattr(journal, "append_traffic", raise_full)
        desk.wait(seconds=1)
    assert desk.entries("traffic") == []
    assert "disk_full" in desk.logged.getvalue()
    desk.count(Traffic.DECISION, 11)
    desk.wait(seconds=1)
    assert [entry.flows for entry in desk.entries("traffic")] == [[Flow("decision", "c:1", 2, 111, 0)]]


def raise_full(*_: object) -> None:
    raise Unavailable("disk_full", "no room")


def test_every_day_that_is_over_is_summed_up_once(desk: Desk) -> None:
    desk.loop.begin("1")
    desk.count(Traffic.MODEL, 10)
    desk.wait(hours=1)
    desk.count(Traffic.MODEL, 20)
    desk.count(Traffic.POLL, 3)
    desk.wait(hours=1.5)  # past midnight; it was counted before
    assert desk.entries("day")[0].facts == {
        "day": "2026-11-20",
        "after": 0,
        "through": desk.entries("traffic")[-1].head.number,
        "flows": [
            {"traffic": "poll", "destination": "c:1", "exchanges": 1, "sent": 3, "received": 0},
            {"traffic": "model", "destination": "c:1", "exchanges": 2, "sent": 30, "received": 0},
        ],
    }
    assert '"event": "daily summary"' in desk.logged.getvalue()
    desk.count(Traffic.MODEL, 40)
    desk.wait(hours=1)
    again = Desk(desk.site)  # a start on the same day sums up nothing twice
    again.clock.at = desk.clock.at
    again.wait(seconds=1)
    assert len(again.entries("day")) == 1
    again.wait(days=3)  # the machine was off meanwhile
    found = again.entries("day")
    assert [(entry.facts["day"], [flow.sent for flow in entry.flows]) for entry in found[1:]] == [("2026-11-21", [40])]
    assert found[1].facts["after"] == found[0].facts["through"]


def test_a_command_that_dials_out_writes_down_what_it_sent(desk: Desk) -> None:
    with desk.site.database.reading("keeper") as tx:
        keeper = journal.read_keeper(tx)
    desk.count(Traffic.IDENTITY, 700)
    record_command(desk.site.database, keeper, desk.meter, AT, AT)
    record_command(desk.site.database, keeper, desk.meter, AT, AT)
    assert [entry.flows for entry in desk.entries("traffic")] == [[Flow("identity", "c:1", 1, 700, 0)]]


def test_a_bug_is_logged_and_does_not_end_the_loop(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    desk.count(Traffic.MODEL, 10)
    with monkeypatch.context() as patched:
        patched.setattr(journal, "append_traffic", fail)
        desk.wait(seconds=1)
    assert "ZeroDivisionError" in desk.logged.getvalue()
    desk.wait(seconds=1)
    assert desk.entries("traffic")[0].flows[0].sent == 10
