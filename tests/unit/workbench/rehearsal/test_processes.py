"""Processes of a rehearsal: started, killed, suspended, stopped, and nothing of the caller's shell in them."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from shared.errors import Unavailable
from workbench.rehearsal.processes import (
    CommandFailedError,
    Process,
    child_environment,
    free_ports,
    run_once,
)

PATIENT = "import time, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('up', flush=True); "
WAIT = "[time.sleep(0.05) for _ in iter(int, 1)]"


def started(tmp_path: Path, code: str) -> Process:
    process = Process("one", [sys.executable, "-c", code], tmp_path / "one.log", child_environment({}))
    process.start()
    while process.is_running and "up" not in process.log_tail():
        pass
    return process


def test_a_process_is_stopped_with_a_signal_it_can_answer(tmp_path: Path) -> None:
    process = started(tmp_path, PATIENT + WAIT)
    assert process.is_running
    assert process.stop() < 5
    assert process.exit_code == 0
    assert process.stop() == 0.0


def test_a_killed_process_is_gone_and_can_be_started_again(tmp_path: Path) -> None:
    process = started(tmp_path, PATIENT + WAIT)
    first = process.pid
    process.kill()
    assert process.exit_code == -9
    process.start()
    assert process.is_running
    assert process.pid != first
    process.kill()


def test_a_suspended_process_lives_and_stops(tmp_path: Path) -> None:
    process = started(tmp_path, PATIENT + WAIT)
    process.suspend()
    deadline = time.monotonic() + 10  # the signal takes effect when the process is next scheduled
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    assert process.is_running
    assert process.stop() < 5


def test_children_go_with_their_parent(tmp_path: Path) -> None:
    code = f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)']); "
    process = started(tmp_path, code + PATIENT + WAIT)
    _, child = process.family()
    process.stop()
    # An orphan nobody reaps stays in the table as a zombie: dead all the same.
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_was_never_started_has_no_id(tmp_path: Path) -> None:
    process = Process("one", [sys.executable], tmp_path / "one.log", {})
    assert not process.is_running
    with pytest.raises(Unavailable, match="was not started"):
        _ = process.pid


def test_the_environment_leaves_proxies_and_settings_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("MITRAL_COORDINATOR_HOST", "0.0.0.0")
    environment = child_environment({"MITRAL_SITE_X": "1"})
    assert "HTTPS_PROXY" not in environment
    assert "MITRAL_COORDINATOR_HOST" not in environment
    assert environment["MITRAL_SITE_X"] == "1"
    assert environment["OMP_NUM_THREADS"] == "1"


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_a_command_that_fails_is_shown_with_its_messages(tmp_path: Path) -> None:
    log = tmp_path / "cli.log"
    environment = child_environment({})
    assert run_once("mitral", "--version", environment=environment, log=log).startswith("mitral ")
    with pytest.raises(CommandFailedError, match="stduy") as caught:
        run_once("mitral", "stduy", environment=environment, log=log)
    assert caught.value.status == 2
    assert "$ mitral stduy" in log.read_text()
