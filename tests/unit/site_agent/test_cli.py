"""`mitral-site`, verb by verb, on the state directory of a hospital."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from shared.errors import InputError, Misuse, MitralError, PeerFault, Refusal, Unavailable
from shared.secagg.roster import roster_hash
from site_agent.cli import main as cli
from site_agent.coordinator_client import CoordinatorClient
from site_agent.rosters import roster_fingerprint
from tests.support.fake_coordinator import reply
from tests.support.hospitals import STUDY, Hospital, Hospitals

Run = Callable[..., Result]


@pytest.fixture
def site(hospitals: Hospitals) -> Hospital:
    return hospitals["site-a"]


@pytest.fixture
def run(site: Hospital) -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["--state", str(site.folder.root), *arguments])

    return call


def shown(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.output)
    return found


def write_table(path: Path, rows: int = 60) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["age", "pressure", "outcome"])
        table.writerows([20 + row, 100 + row % 7, row % 2] for row in range(rows))
    return path


def test_status_shows_who_and_what(hospitals: Hospitals, run: Run) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step()
    found = shown(run("status", "--json"))
    assert found["site"] == "site-a"
    assert found["roster"] == {"version": 1, "sites": 4}
    assert found["outbox"] == 0
    study = found["studies"][0]  # type: ignore[index]
    assert (study["study"], study["approval"], study["outcomes"]) == (STUDY, "approve", 1)
    assert study["own_figures"][0]["training_cases"] == 100
    assert study["own_figures"][0]["loss"] == "1.000000"
    text = run("status").output
    assert "roster version 1, 4 sites" in text
    assert "(this hospital alone)" in text


def test_own_figures_never_leave(hospitals: Hospitals, site: Hospital) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step()
    assert site.query("SELECT metrics FROM own_metric")
    sent = b"".join(message.payload for messages in hospitals.coordinator.messages.values() for message in messages)
    assert b"training_cases" not in sent
    assert b"loss" not in sent


def test_data_is_looked_at_before_it_is_registered(run: Run, tmp_path: Path) -> None:
    path = write_table(tmp_path / "cases.csv")
    added = run("data", "add", str(path), "--name", "cohort", "--label", "outcome", "--split", "60/20/20")
    assert added.exit_code == 0, added.output
    assert "cohort: 60 cases" in added.output
    again = run("data", "add", str(path), "--name", "cohort", "--label", "outcome", "--split", "60/20/20")
    assert again.exit_code == 0
    listed = shown(run("data", "list", "--json"))["data"]
    assert [one["name"] for one in listed] == ["cases", "cohort"]  # type: ignore[attr-defined]
    assert str(path) in run("data", "list").output
    write_table(path, rows=80)
    other = run("data", "add", str(path), "--name", "cohort", "--label", "outcome", "--split", "60/20/20")
    assert isinstance(other.exception, InputError)
    assert other.exception.code == "dataset_exists"


def test_a_missing_file_is_an_error_with_a_code(run: Run, tmp_path: Path) -> None:
    failed = run("data", "add", str(tmp_path / "nothing.csv"), "--name", "cohort", "--label", "outcome")
    assert getattr(failed.exception, "code", "") == "data_missing"


def test_the_roster_is_shown_and_signed_by_fingerprint(hospitals: Hospitals, site: Hospital, run: Run) -> None:
    hospitals.coordinator.propose_roster(list(hospitals.coordinator.roster["sites"]), c=2)
    site.step("roster")
    picture = shown(run("roster", "show", "--json"))
    fingerprint = roster_fingerprint(roster_hash(hospitals.coordinator.roster))
    assert (picture["version"], picture["fingerprint"], picture["approved_here"]) == (2, fingerprint, False)
    text = run("roster", "show").output
    assert all(site in text for site in hospitals.sites)
    assert len(re.findall(r"\b[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}\b", text)) == 5
    refused = run("roster", "approve")
    assert getattr(refused.exception, "code", "") == "confirmation_missing"
    wrong = run("roster", "approve", "--fingerprint", "00000-00000-00000-00000")
    assert getattr(wrong.exception, "code", "") == "fingerprint_mismatch"
    done = run("roster", "approve", "--fingerprint", fingerprint.lower().replace("-", " "))
    assert done.exit_code == 0, done.output
    site.step()
    assert "site-a" in hospitals.coordinator.roster_approvals[2]
    assert run("roster", "approve", "--fingerprint", fingerprint).exit_code == 0, "twice is once"


def test_studies_are_listed_approved_and_withdrawn(
    hospitals: Hospitals, site: Hospital, run: Run, tmp_path: Path
) -> None:
    listed = shown(run("studies", "list", "--json"))["studies"][0]  # type: ignore[index]
    assert (listed["study"], listed["decision"], listed["plan"]) == (STUDY, "approve", hospitals.plan.plan_hash)
    assert hospitals.plan.plan_hash in run("studies", "list").output
    assert run("studies", "withdraw", STUDY).exit_code == 0
    site.step()
    assert "site-a" not in hospitals.coordinator.studies[STUDY].approvals
    path = write_table(tmp_path / "cases.csv")
    assert run("data", "add", str(path), "--name", "cohort", "--label", "outcome").exit_code == 0
    other_plan = run("studies", "approve", STUDY, "--data", "cohort", "--plan", "0" * 64)
    assert getattr(other_plan.exception, "code", "") == "plan_hash_mismatch"
    assert getattr(run("studies", "approve", STUDY, "--data", "none").exception, "code", "") == "dataset_unknown"
    assert getattr(run("studies", "approve", "no-such", "--data", "cohort").exception, "code", "") == "study_unknown"
    done = run("studies", "approve", STUDY, "--data", "cohort", "--plan", hospitals.plan.plan_hash)
    assert done.exit_code == 0, done.output
    site.step()
    assert "site-a" in hospitals.coordinator.studies[STUDY].approvals


def test_an_approval_shows_its_terms_and_replaces_earlier_ones(
    hospitals: Hospitals, site: Hospital, run: Run, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "cases.csv")
    assert run("data", "add", str(path), "--name", "cohort", "--label", "outcome").exit_code == 0
    approve = ("studies", "approve", STUDY, "--data", "cohort")
    limits = ("--until", "2027-01-31", "--hours", "mon-fri 18:00-06:00, sat 00:00-24:00", "--timezone", "Europe/Berlin")
    more = ("--approver", "Dr. Lind", "--contribute", "metrics,update", "--most-rounds", "20", "--least-hospitals", "4")
    done = run(*approve, *limits, *more)
    assert done.exit_code == 0, done.output
    listed = shown(run("studies", "list", "--json"))["studies"][0]["terms"]  # type: ignore[index]
    assert listed == {
        "approver": "Dr. Lind", "purpose": hospitals.plan.purpose, "until": "2027-02-01T00:00:00.000Z",
        "hours": ["mon-fri 18:00-06:00", "sat 00:00-24:00"], "timezone": "Europe/Berlin",
        "kinds": ["update", "metrics"], "most_rounds": 20, "most_epochs": None, "least_hospitals": 4, "epsilon": None,
    }  # fmt: skip
    text = run("studies", "list").output
    assert "approved by Dr. Lind; until 2027-02-01" in text
    assert "hospitals in a sum at least 4" in text
    protocol = shown(run("studies", "show", STUDY))["protocol"]
    assert protocol == hospitals.plan.as_json()
    assert run(*approve).exit_code == 0
    assert shown(run("studies", "list", "--json"))["studies"][0]["terms"]["most_rounds"] is None  # type: ignore[index]
    with site.database.transaction("meddle") as tx:
        tx.run("UPDATE study_approval SET entry = 1")
    assert "! the approval does not count: approval_unsigned" in run("studies", "list").output


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--until", "tomorrow"), "period_malformed"),
        (("--until", "2020-01-01"), "approval_expired"),
        (("--hours", "at night"), "hours_malformed"),
        (("--contribute", "everything"), "contribution_unknown"),
        (("--epsilon", "1.5"), "approval_budget"),
        (("--epsilon", "much"), "field_invalid"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused_before_anything_is_signed(
    site: Hospital, run: Run, tmp_path: Path, option: tuple[str, str], code: str
) -> None:
    path = write_table(tmp_path / "cases.csv")
    assert run("data", "add", str(path), "--name", "cohort", "--label", "outcome").exit_code == 0
    signed = site.seq()
    failed = run("studies", "approve", STUDY, "--data", "cohort", *option)
    assert getattr(failed.exception, "code", "") == code
    assert site.seq() == signed


def test_data_that_does_not_fit_the_study_is_refused_before_anything_is_signed(
    site: Hospital, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "other.csv"
    path.write_text("weight,outcome\n" + "".join(f"{row},{row % 2}\n" for row in range(60)))
    assert run("data", "add", str(path), "--name", "other", "--label", "outcome").exit_code == 0
    signed = site.seq()
    failed = run("studies", "approve", STUDY, "--data", "other")
    assert isinstance(failed.exception, MitralError)
    assert site.seq() == signed


def test_an_empty_directory_is_no_site(tmp_path: Path) -> None:
    for arguments in (["status"], ["run"], ["data", "list"]):
        failed = CliRunner().invoke(cli.app, ["--state", str(tmp_path / "nothing"), *arguments])
        assert getattr(failed.exception, "code", "") == "not_enrolled"
        assert not (tmp_path / "nothing").exists()


def test_an_invitation_that_cannot_be_read(tmp_path: Path) -> None:
    failed = CliRunner().invoke(cli.app, ["--state", str(tmp_path / "s"), "enrol", str(tmp_path / "missing.json")])
    assert getattr(failed.exception, "code", "") == "invitation_invalid"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("not_enrolled"), 2),
        (Refusal("fingerprint_mismatch"), 3),
        (PeerFault("enrolment_answer"), 4),
        (Unavailable("coordinator_unreachable"), 5),
        (Misuse("round_transition"), 70),
    ],
)
def test_exit_codes(
    error: MitralError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(cli, "guard_process", lambda: None)  # it is for a process, and this one runs on
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    printed = capsys.readouterr().err
    assert error.code in printed
    assert error.meaning.remedy in printed


def test_revoking_this_site_wants_its_id_and_is_remembered(
    hospitals: Hospitals, site: Hospital, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def script(_site: str, method: str, path: str) -> httpx.Response | None:
        asked.append(f"{method} {path}")
        return reply({"nonce": "abc"} if path == "/v1/nonce" else {"site": "site-a", "state": "revoked"})

    hospitals.coordinator.script = script

    def connect(_state: object, _clock: object) -> CoordinatorClient:
        return CoordinatorClient(hospitals.coordinator.transport("site-a"), "https://c.example", site.clock)

    monkeypatch.setattr("site_agent.cli.revoke.connect_anonymously", connect)
    assert "confirmation_missing" in str(run("revoke").exception)
    assert "confirmation_missing" in str(run("revoke", "--confirm", "site-b").exception)
    assert asked == []
    assert "site-a is out of alpha" in run("revoke", "--confirm", "site-a", "--reason", "leaving").output
    assert asked == ["GET /v1/nonce", "POST /v1/revoke"]
    assert shown(run("status", "--json"))["enrolment"] == "revoked"
    assert "took itself out" in str(run("run").exception)
