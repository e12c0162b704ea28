"""`mitral-site egress`: figures that add up, as text, JSON and a page that loads nothing."""

import json
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shared.errors import InputError
from site_agent import approvals, journal
from site_agent.cli import main as cli
from site_agent.cli.egress import read_since
from site_agent.egress import in_words
from site_agent.traffic import MEANINGS, Flow, Traffic
from tests.support.hospitals import STUDY, Hospital, Hospitals

COORDINATOR = "coordinator.example:9092"
NOW = datetime.now(UTC)
Run = Callable[..., Result]


@pytest.fixture
def site(hospitals: Hospitals) -> Hospital:
    site = hospitals["site-a"]
    with site.database.transaction("write") as tx:
        keeper = journal.read_keeper(tx)
        journal.append(tx, keeper, journal.STARTED, {"instance": "1", "unclosed": False}, NOW - timedelta(days=40))
        for days in (40, 3, 2):
            at = NOW - timedelta(days=days)
            flows = [Flow("poll", COORDINATOR, 10, 1000, 2000), Flow("masked_update", COORDINATOR, 1, 5_000_000, 300)]
            journal.append_traffic(tx, keeper, flows, at, at + timedelta(minutes=10))
        journal.append(tx, keeper, journal.STARTED, {"instance": "2", "unclosed": True}, NOW - timedelta(days=1))
    return site


@pytest.fixture
def run(site: Hospital) -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["--state", str(site.folder.root), "egress", *arguments])

    return call


def found(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    shown: dict[str, object] = json.loads(result.output)
    return shown


def test_the_figures_add_up(run: Run) -> None:
    shown = found(run("--json"))
    assert (shown["sent"], shown["received"]) == (2 * 5_001_000, 2 * 2300)
    assert shown["flows"] == [
        {"traffic": "poll", "destination": COORDINATOR, "exchanges": 20, "sent": 2000, "received": 4000},
        {"traffic": "masked_update", "destination": COORDINATOR, "exchanges": 2, "sent": 10_000_000, "received": 600},
    ]
    days = shown["days"]
    assert isinstance(days, list)
    assert [day["sent"] for day in days] == [5_001_000] * 2
    assert shown["studies"] == [
        {
            "study": STUDY, "title": "A study", "decision": "approve", "approver": "the data steward",
            "until": "2031-01-01T00:00:00Z", "data": "cases",
        }
    ]  # fmt: skip
    assert len(shown["unclosed"]) == 1  # type: ignore[arg-type]
    assert found(run("--json", "--since", "all"))["sent"] == 3 * 5_001_000
    assert found(run("--json", "--since", "1h"))["sent"] == 0
    assert found(run("--json", "--since", (NOW - timedelta(days=2)).date().isoformat()))["sent"] == 5_001_000


def test_the_text_names_classes_destinations_and_the_head(run: Run, site: Hospital) -> None:
    text = run().output
    assert "10 MB left, 4.6 kB entered" in text
    assert f"  {COORDINATOR}: 10 MB left" in text
    assert re.search(r"Masked updates +2 times +10000000 left +600 entered", text)
    assert "! " in text
    head = re.findall(r"^head (\d+:[0-9a-f]{64})$", text, re.MULTILINE)[0]
    verified = run("--verify", "--head", head)
    assert verified.exit_code == 0, verified.output
    assert "7 entries verify" in verified.output
    assert site.session.identity.fingerprint in verified.output
    assert found(run("--verify", "--json"))["head"] == head
    other = run("--verify", "--head", f"{head[:-1]}{'0' if head[-1] != '0' else '1'}")
    assert getattr(other.exception, "code", "") == "journal_broken"
    assert len(run("--daily").output.splitlines()) == 2


class Reader(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in {"src", "href", "action", "onclick"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_that_loads_nothing(run: Run, site: Hospital, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert run("--html", "--out", str(file)).exit_code == 0
    reader = Reader()
    html = file.read_text(encoding="utf-8")
    reader.feed(html)
    assert reader.loaded == []
    assert {"script", "link", "img", "iframe", "form"}.isdisjoint(reader.tags)
    assert "default-src 'none'" in html
    assert "url(" not in html
    for expected in ("What left Hospital site-a", "10 MB", COORDINATOR, MEANINGS[Traffic.MASKED_UPDATE].title,
                     site.session.identity.fingerprint, "without closing its log"):  # fmt: skip
        assert expected in reader.text


def test_a_name_cannot_put_anything_into_the_page(site: Hospital, run: Run) -> None:
    with site.database.transaction("rename") as tx:
        tx.run("UPDATE enrolment SET name = :name", name="<script>alert(1)</script>")
    html = run("--html").output
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_the_page_says_what_stands_decided(site: Hospital, run: Run) -> None:
    assert "approved by the data steward until 2031-01-01 00:00 UTC" in run("--html").output
    with site.database.transaction("meddle") as tx:
        tx.run("UPDATE study_approval SET entry = NULL")
    assert "the approval does not count: approval_unsigned" in run("--html").output
    with site.database.transaction("withdraw") as tx:
        approvals.withdraw(tx, site.session.identity, STUDY, NOW)
    assert "the approval was withdrawn" in run("--html").output


def test_an_empty_log_says_so(hospitals: Hospitals) -> None:
    runner, root = CliRunner(), str(hospitals["site-b"].folder.root)
    with sqlite3.connect(hospitals["site-b"].folder.database) as connection:
        connection.execute("UPDATE study_approval SET entry = NULL")
        connection.execute("DROP TRIGGER journal_no_delete")
        connection.execute("DELETE FROM journal")
    connection.close()
    assert "The log begins at the first start" in runner.invoke(cli.app, ["--state", root, "egress"]).output
    assert "The log is empty" in runner.invoke(cli.app, ["--state", root, "egress", "--html"]).output
    assert runner.invoke(cli.app, ["--state", root, "egress", "--verify"]).exit_code == 0


def test_periods() -> None:
    assert read_since("2w", NOW) == NOW - timedelta(days=14)
    assert read_since("2026-11-01", NOW) == datetime(2026, 11, 1, tzinfo=UTC)
    assert read_since("all", NOW) is None
    for text in ("", "yesterday", "12", "2026-13-01"):
        with pytest.raises(InputError, match=r"^period_malformed:"):
            read_since(text, NOW)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (12_340, "12.3 kB"), (5e6, "5 MB"), (469e6, "469 MB")],
)
def test_bytes_in_words(count: int, text: str) -> None:
    assert in_words(int(count)) == text
