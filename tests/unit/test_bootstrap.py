"""The set-up script: it explains failures, does nothing when nothing is to be done, and shows every step's outcome."""

import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap
from tests.support.tree import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the script at an empty folder that has the three files it reads."""
    for name in ("pyproject.toml", "constraints.txt", "bootstrap.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    venv = tmp_path / ".venv"
    for name, value in (("ROOT", tmp_path), ("VENV", venv), ("STAMP", venv / "stamp"), ("LOG", venv / "log")):
        monkeypatch.setattr(bootstrap, name, value)
    return tmp_path


@pytest.fixture
def fake_pip(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the script find this interpreter with a pip that prints what the file `says` holds, and fails."""
    (checkout / ".venv").mkdir()
    (checkout / "pip").mkdir()
    (checkout / "pip/__init__.py").touch()
    (checkout / "pip/__main__.py").write_text("print(open('says').read())\nraise SystemExit(1)\n", encoding="utf-8")
    monkeypatch.setattr(bootstrap, "venv_program", lambda _: Path(sys.executable))
    says = checkout / "says"
    says.write_text("", encoding="utf-8")
    return says


def test_torch_is_pinned_exactly_and_a_missing_pin_is_named() -> None:
    assert bootstrap.pinned("torch").startswith("torch==2.")
    with pytest.raises(bootstrap.SetupError, match="names no version of nonesuch"):
        bootstrap.pinned("nonesuch")


def test_an_old_python_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(bootstrap.SetupError, match=r"3\.11 or newer[\s\S]*make demo PYTHON="):
        bootstrap.check_python()


def test_a_full_disk_is_noticed_before_anything_starts(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "FREE_BYTES_NEEDED", 2**60)
    with pytest.raises(bootstrap.SetupError, match="GB are free"):
        bootstrap.set_up(None)
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("printed", "advice"),
    [
        ("ERROR: OSError: [Errno 28] No space left on device", "The disk is full"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'", "PIP_CERT"),
        ("NewConnectionError: Failed to establish a new connection", "HTTPS_PROXY"),
        ("ERROR: No matching distribution found for torch (from versions: none)", "PIP_INDEX_URL"),
        ("(from versions: 2.14.0)\nERROR: No matching distribution found for torch==2.13.0", "Try another Python"),
        ("ERROR: something new", "The log has the cause"),
    ],
)
def test_a_failed_installation_says_what_to_do(printed: str, advice: str, fake_pip: Path) -> None:
    fake_pip.write_text(printed, encoding="utf-8")
    with pytest.raises(bootstrap.SetupError) as caught:
        bootstrap.pip_install("Installing torch", ["torch"])
    assert advice in str(caught.value)
    assert printed.splitlines()[-1] in str(caught.value)
    assert printed in bootstrap.LOG.read_text(encoding="utf-8")


def test_an_environment_that_is_up_to_date_is_left_alone(fake_pip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap.STAMP.write_text(bootstrap.fingerprint() + "\n", encoding="utf-8")
    bootstrap.set_up(None)  # the pip of this test always fails, so it was not asked
    (fake_pip.parent / "constraints.txt").write_text("torch==2.13.1\n", encoding="utf-8")
    monkeypatch.setattr(bootstrap, "make_venv", lambda: None)
    with pytest.raises(bootstrap.SetupError):
        bootstrap.set_up(None)
    assert not bootstrap.STAMP.exists()


def test_every_step_runs_and_one_failure_fails_the_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = []

    def run(name: str, *_: str) -> int:
        started.append(name)
        return int(name == "mypy")

    monkeypatch.setattr(bootstrap, "run_program", run)
    assert bootstrap.run_steps(bootstrap.LINT_STEPS) == 1
    assert started == ["ruff", "ruff", "mypy", "lint-imports"]
    assert "FAILED" in capsys.readouterr().out


def test_the_script_runs_without_anything_installed() -> None:
    bare = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "bootstrap.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert "python bootstrap.py demo" in bare.stdout
