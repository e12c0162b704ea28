"""The demo in its shortest form: its report, its screen, and no secret in any file that is not meant to hold it."""

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.canonical import sha256_hex
from tests.support.known_secrets import known_secrets
from workbench.rehearsal.processes import child_environment, program

LONGEST_SECONDS = 540  # on a busy machine; it takes about a minute on two idle cores
pytestmark = pytest.mark.timeout(LONGEST_SECONDS + 60)


@dataclass(frozen=True)
class Finished:
    """A demo that has ended, with everything kept."""

    folder: Path
    report: dict[str, Any]
    screen: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("demo")
    arguments = ["--rounds", "12", "--kill", "south", "--json", str(root / "report.json"), "--keep", str(root / "kept")]
    with subprocess.Popen(
        [*program("mitral"), "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment({"COLUMNS": "80"}),
    ) as process:
        try:
            screen, messages = process.communicate(timeout=LONGEST_SECONDS)
        finally:
            process.terminate()  # it stops what it started; nothing when it has ended
    assert process.returncode == 0, screen[-2000:] + messages[-4000:]
    return Finished(root / "kept", json.loads((root / "report.json").read_text()), screen)


def test_the_report_holds_what_it_promises(demo: Finished) -> None:
    report = demo.report
    assert 0.9 < report["federated_auc"] <= 1
    assert 0.9 < report["pooled_auc"] <= 1
    assert set(report["local_auc"]) == set(report["sites"])
    assert len(report["sites"]) == 4
    assert 5 <= report["rounds"] <= 12  # it may converge before
    assert len(report["survivors_per_round"]) == report["rounds"]
    assert 0 < report["seconds"] < LONGEST_SECONDS
    assert set(report["bytes_out"]) == set(report["sites"])
    assert all(count > 0 for count in report["bytes_out"].values())
    assert report["log_entries"] > 50
    assert report["log_verified"] is True
    assert len(report["log_final"]["cosigned_by"]) >= report["log_final"]["quorum"]
    assert report["log_final"]["size"] >= report["log_entries"]
    assert abs(report["difference_to_float64"]) <= 0.002


def test_the_killed_site_is_missed_in_its_rounds_and_comes_back(demo: Finished) -> None:
    survivors = demo.report["survivors_per_round"]
    assert survivors[0] == 4
    assert 3 in survivors[1:3]  # killed with -9 in round 2
    assert 4 in survivors[4:]  # started again in round 4
    assert "south: agent killed with -9 in round 2" in demo.screen


def test_the_model_on_disk_is_the_one_in_the_report(demo: Finished) -> None:
    raw = (demo.folder / "results" / "model.safetensors").read_bytes()
    assert sha256_hex(raw) == demo.report["model_digest"]
    card = json.loads((demo.folder / "results" / "card.json").read_text())
    assert card["model"]["digest"] == demo.report["model_digest"]


def test_the_screen_is_readable_without_a_terminal(demo: Finished) -> None:
    for text in ("All models on the same", "What left each hospital", "The coordinator saw", "verified offline"):
        assert text in demo.screen
    assert "\x1b" not in demo.screen


def test_the_kept_log_verifies_with_the_command_line(demo: Finished) -> None:
    export = demo.folder / "results" / "audit-log.zip"
    done = subprocess.run(
        [*program("mitral"), "audit", "verify", str(export)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "verified" in done.stdout


def test_no_log_holds_a_secret(demo: Finished) -> None:
    secrets = known_secrets(demo.folder / "federation")
    assert len(secrets) > 20
    logs = sorted((demo.folder / "federation" / "logs").glob("*.log"))
    assert len(logs) >= 9
    written = {path.name: path.read_bytes() for path in logs} | {"screen": demo.screen.encode()}
    found = [
        f"{what} in {name}"
        for name, content in written.items()
        for what, secret in secrets.items()
        for form in forms(secret)
        if form in content
    ]
    assert found == []


def test_the_logs_of_the_services_are_json_lines(demo: Finished) -> None:
    for name in ("coordinator", *demo.report["sites"]):
        lines = (demo.folder / "federation" / "logs" / f"{name}.log").read_text().splitlines()
        assert lines
        assert all(isinstance(json.loads(line), dict) for line in lines)


def test_nothing_keeps_running(demo: Finished) -> None:
    kept = str(demo.folder)
    assert [one.pid for one in psutil.process_iter(["cmdline"]) if kept in " ".join(one.info["cmdline"] or [])] == []


def forms(secret: bytes) -> set[bytes]:
    """Return how a secret might stand in a text: as it is, in hex, in either base64."""
    stripped = {base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")}
    return {secret, secret.hex().encode(), secret.hex().upper().encode()} | stripped
