"""The quickstart's commands, typed as they stand there: for three hospitals, with relative paths."""

import csv
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.test_command_examples import examples
from tests.support.tree import ROOT
from workbench.rehearsal.processes import child_environment, free_ports, program

SITES = ("a", "b", "c")
FINGERPRINT = re.compile(r"\b[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}\b")
PATIENCE_SECONDS = 120


class Terminal:
    """Types commands into a folder; what keeps running is started beside and ended by `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = child_environment({})
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, words: list[str]) -> str:
        """Run a command to its end; one that depends on what an agent has yet to hear is typed again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = subprocess.run(
                [*program(words[0]), *words[1:]],
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_SECONDS,
            )
            if done.returncode == 0:
                return done.stdout + done.stderr
            assert all(process.poll() in {None, 0} for process in self.running), (
                f"one of the services died: {self.logs()}"
            )
            assert time.monotonic() < deadline, f"{' '.join(words)}\n{done.stdout}{done.stderr}"

    def start(self, words: list[str], log: str) -> subprocess.Popen[bytes]:
        """Start a command that keeps running; its output goes to a file."""
        with (self.folder / log).open("wb") as file:
            process = subprocess.Popen(
                [*program(words[0]), *words[1:]], cwd=self.folder, env=self.environment, stdout=file, stderr=file
            )
        self.running.append(process)
        return process

    def logs(self) -> dict[str, str]:
        """Return the end of every log."""
        return {path.name: path.read_text(encoding="utf-8")[-1000:] for path in self.folder.glob("*.log")}

    def fingerprint_in(self, log: str) -> str:
        """Wait until a started command shows a fingerprint."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = FINGERPRINT.search((self.folder / log).read_text(encoding="utf-8"))
            if found:
                return found.group()
            time.sleep(0.1)
        raise AssertionError((self.folder / log).read_text(encoding="utf-8"))

    def close(self) -> None:
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            process.wait(10)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    numbers = random.Random(5)
    for site in SITES:
        with (tmp_path / f"cases-{site}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["age", "blood_pressure", "outcome"])
            for row in range(120):
                table.writerow([round(numbers.gauss(50 + 10 * (row % 2), 8)), round(numbers.gauss(130, 15)), row % 2])
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def of_site(words: list[str], site: str) -> list[str]:
    """Return a command for hospital-a as another hospital types it."""
    return [re.sub(r"(hospital|invitation|cases)-a\b", rf"\1-{site}", word) for word in words]


def block(after: str, commands: list[list[str]]) -> list[str]:
    """Return the one command of the quickstart that holds these words."""
    (found,) = [words for words in commands if after in " ".join(words)]
    return found


@pytest.mark.timeout(900)
def test_the_quickstart_can_be_typed_as_it_stands(terminal: Terminal) -> None:
    commands = examples(ROOT / "docs/quickstart.md")

    def type_(words: str, site: str = "a") -> str:
        return terminal.run(of_site(block(words, commands), site))

    agent_port, operator_port = free_ports(2)  # the only difference: the default ports may be taken on this machine
    init = block("coordinator init", commands)
    terminal.run([*init, "--agent-port", str(agent_port), "--operator-port", str(operator_port)])
    terminal.start(block("coordinator serve", commands), "serve.log")
    terminal.environment["MITRAL_ACCESS"] = str(Path("coordinator/administrator.access.json"))
    type_("operators add researcher")
    for site in SITES:
        type_("sites invite", site)
        enrolling = terminal.start(of_site(block(" enrol ", commands), site), f"enrol-{site}.log")
        approve = of_site(block("sites approve", commands), site)
        terminal.run([*approve[:-1], terminal.fingerprint_in(f"enrol-{site}.log")])
        assert enrolling.wait(PATIENCE_SECONDS) == 0
        type_("data add", site)
        terminal.start(of_site(block("hospital-a run", commands), site), f"run-{site}.log")
    proposed = FINGERPRINT.search(type_("rosters propose"))
    assert proposed
    for site in SITES:
        type_("roster show", site)
        terminal.run([*of_site(block("roster approve", commands), site)[:-1], proposed.group()])
    terminal.environment["MITRAL_ACCESS"] = "researcher.access.json"
    for words in ("study new", "study check", "study submit"):
        type_(words)
    for site in SITES:
        type_("studies list", site)
        type_("studies approve", site)
    for words in ("study start", "study watch", "study fetch"):
        type_(words)
    assert {path.name for path in (terminal.folder / "result").iterdir()} == {"model.safetensors", "card.json"}
    terminal.environment["MITRAL_ACCESS"] = str(Path("coordinator/administrator.access.json"))
    type_("audit export")
    assert "verified" in type_("audit verify")
