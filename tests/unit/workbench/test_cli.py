"""The command line: what it prints, which status it ends with, and that a missing extra is named."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from shared.errors import InputError, Misuse, MitralError, PeerFault, Refusal, Unavailable
from workbench.cli import main as cli
from workbench.cli import study
from workbench.study_fields import TASKS

NOT_IN_THE_BASE = (
    "alembic",
    "apscheduler",
    "fastapi",
    "httpx",
    "opacus",
    "PIL",
    "psutil",
    "sklearn",
    "sqlalchemy",
    "sqlmodel",
    "structlog",
    "torch",
    "uvicorn",
    "yaml",
)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["mitral", *arguments])
    return cli.main()


def run_with_the_base_alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mitral` in a process in which the packages of all extras look as if they were not installed."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({NOT_IN_THE_BASE!r}))"
    start = f"sys.argv = {['mitral', *arguments]!r}; from workbench.cli.main import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", f"{hidden}; {start}"], capture_output=True, text=True, check=False)


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"mitral {version('mitral')}\n"


def test_an_unknown_command_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "stduy") == 2
    assert "stduy" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_a_new_study_file_passes_check(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    assert run(monkeypatch, "study", "new", "--task", task, str(file)) == 0
    assert "Fill in: study, title, purpose, federation, sites" in capsys.readouterr().err
    assert run(monkeypatch, "study", "check", str(file), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"]
    assert "federation" in answer["to_fill_in"]


def test_new_prints_without_a_file_and_never_overwrites_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "study", "new") == 0
    assert "name: tabular" in capsys.readouterr().out
    file = tmp_path / "study.yaml"
    file.write_text("mine")
    assert run(monkeypatch, "study", "new", str(file)) == 2
    assert "study_file_exists" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert run(monkeypatch, "study", "new", "--force", str(file)) == 0
    assert "study: my-study" in file.read_text()


def test_check_prints_every_problem_as_text_and_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    assert run(monkeypatch, "study", "new", str(file)) == 0
    file.write_text(file.read_text().replace("rounds: 20", "roundz: 20"))
    capsys.readouterr()
    assert run(monkeypatch, "study", "check", str(file), "--json") == 2
    shown = capsys.readouterr()
    [problem] = json.loads(shown.out)["problems"]
    assert problem["key"] == "training.roundz"
    assert "nearest valid key is rounds" in problem["text"]
    assert f"line {problem['line']}: training.roundz" in shown.err
    assert "remedy:" in shown.err


def test_a_missing_access_file_is_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "study", "start", "heart-1") == 2
    assert "access_file_missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("id_malformed"), 2),
        (Refusal("data_changed"), 3),
        (PeerFault("signature_invalid"), 4),
        (Unavailable("suite_unavailable"), 5),
        (Misuse("not_canonical"), 70),
        (ValueError("what nobody expected"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_family_of_errors_has_its_exit_status(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(study, "_steer", fail)
    assert run(monkeypatch, "study", "start", "heart-1") == status
    shown = capsys.readouterr().err
    if isinstance(error, MitralError):
        assert error.diagnostics() in shown
        assert "Traceback" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "check", "study.yaml"),
        ("study", "submit", "study.yaml"),
        ("study", "watch", "heart-1"),
        ("study", "fetch", "heart-1"),
        ("demo",),
        ("bench", "round"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(arguments: tuple[str, ...]) -> None:
    done = run_with_the_base_alone(*arguments)
    assert done.returncode == 2
    assert "extra_missing" in done.stderr
    assert "pip install 'mitral[workbench]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("study", "new"), ("audit", "verify", "--help")])
def test_what_needs_no_extra_works_with_the_base_alone(arguments: tuple[str, ...]) -> None:
    done = run_with_the_base_alone(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_audit_verify_works_with_the_base_alone(tmp_path: Path) -> None:
    done = run_with_the_base_alone("audit", "verify", str(tmp_path / "none.zip"))
    assert done.returncode == 2
    assert "none.zip" in done.stderr
    assert "Traceback" not in done.stderr
