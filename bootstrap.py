#!/usr/bin/env python3
"""Set Mitral up in `.venv` and run its everyday commands. Needs Python 3.11 or newer and nothing else.

    python bootstrap.py setup            make .venv and install everything (the commands below do this first)
    python bootstrap.py demo [options]   four hospitals train one model on this machine; options go to `mitral demo`
    python bootstrap.py test             linters, types, import contracts, all tests with the coverage floor
    python bootstrap.py test -k name     only pytest, with these arguments
    python bootstrap.py lint             the same without the tests
    python bootstrap.py bench [options]  options go to `mitral bench`
    python bootstrap.py docs             write the generated reference pages again
    python bootstrap.py evidence         measure everything on the benchmark page again (half an hour)

`make demo` and `make test` call this file; on Windows, where there is no make, call it directly.

Package indexes and proxies are pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CERT, HTTPS_PROXY) and are passed
through. `--index-url URL`, given before the command, is for torch alone: on a Linux server without a GPU, PyTorch's CPU
index saves several gigabytes. torch is installed first and exactly, so that an index that offers both builds gives the
CPU build (a local version such as 2.13.0+cpu sorts above 2.13.0) and no other package can choose for us.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "mitral-setup.stamp"
LOG = VENV / "mitral-setup.log"
OLDEST_PYTHON = (3, 11)
FREE_BYTES_NEEDED = 3 * 1024**3  # a CPU build takes 1.5 GB installed, and pip unpacks next to it
HEARTBEAT_SECONDS = 10.0
MODULES = {"docs": "docs.generate", "evidence": "docs.evidence"}

# What pip prints when something is wrong, and what to do about it. The first match wins.
NETWORK_ADVICE = """Behind a proxy set HTTPS_PROXY; for a mirror set PIP_INDEX_URL; to install from a folder of
  wheels set PIP_NO_INDEX=1 and PIP_FIND_LINKS=FOLDER."""
REMEDIES = (
    (r"No space left on device|Errno 28", "The disk is full. Free 3 GB (6 GB for a CUDA build of torch)."),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "The package index's certificate is not trusted. Behind an inspecting proxy, point PIP_CERT at its CA file.",
    ),
    (
        r"(NewConnection|NameResolution|Timeout|Proxy|ConnectionReset)Error|ead timed out|Connection refused",
        f"The package index cannot be reached. {NETWORK_ADVICE}",
    ),
    (
        r"from versions: none",
        f"The package index cannot be reached, or has nothing for this Python and system. {NETWORK_ADVICE}",
    ),
    (
        r"No matching distribution found",
        "The package index has no build for this Python and system. Try another Python (3.11 to 3.14) or index.",
    ),
    (r"Permission denied|WinError 5|Errno 13", "A file cannot be written. Is another Mitral still running from .venv?"),
)


class SetupError(Exception):
    """Something the person at the keyboard has to put right; the text says what."""


def venv_program(name: str) -> Path:
    """Return the path of an installed program: `Scripts` on Windows, `bin` elsewhere."""
    return VENV / ("Scripts" if os.name == "nt" else "bin") / (f"{name}.exe" if os.name == "nt" else name)


def say(text: str) -> None:
    """Print one line at once, so that it stands before what a child process prints."""
    print(text, flush=True)


def fingerprint() -> str:
    """Return what the environment depends on; another value means it has to be installed again."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt", "bootstrap.py"):
        digest.update((ROOT / name).read_bytes())
    digest.update(f"{ROOT}|{platform.python_version()}|{sys.platform}".encode())
    return digest.hexdigest()


def pinned(package: str) -> str:
    """Return `package==version` as constraints.txt has it."""
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.lower().startswith(package.lower() + "=="):
            return line.strip()
    message = f"constraints.txt names no version of {package}; the checkout is damaged."
    raise SetupError(message)


def check_python() -> None:
    """Refuse an interpreter that is too old, and say how to name another."""
    if sys.version_info < OLDEST_PYTHON:
        message = (
            f"Mitral needs Python 3.11 or newer; this is {platform.python_version()} ({sys.executable}).\n"
            "  Name another one: `python3.12 bootstrap.py ...` or `make demo PYTHON=python3.12`."
        )
        raise SetupError(message)


def check_disk() -> None:
    """Refuse to start an installation that cannot end well."""
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES_NEEDED and not STAMP.exists():
        message = (
            f"Only {free / 1024**3:.1f} GB are free here; the installation needs {FREE_BYTES_NEEDED / 1024**3:.0f} GB."
        )
        raise SetupError(message)


def make_venv() -> None:
    """Make `.venv`, or make it anew when its Python is gone or another version."""
    python = venv_program("python")
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python.exists():
        asked = [str(python), "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if found == wanted:
            return
        say(f"The environment in .venv is of Python {found or '(broken)'}; making it anew with {wanted}.")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        message = (
            f"Making .venv failed:\n{made.stdout}{made.stderr}\n"
            "  On Debian and Ubuntu the module is a package of its own: `apt install python3-venv`."
        )
        raise SetupError(message)


def pip_install(title: str, arguments: list[str]) -> None:
    """Run one pip installation with its output in the log, a sign of life on the screen, and a remedy on failure."""
    say(f"{title} ...")
    command = [str(venv_program("python")), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    started = last_sign = time.monotonic()
    lines: list[str] = []
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as pip:
            for line in pip.stdout or ():
                log.write(line)
                lines.append(line)
                step = re.match(r"\s*(Collecting|Downloading|Building|Installing) \S+", line)
                if step and time.monotonic() - last_sign > HEARTBEAT_SECONDS:
                    last_sign = time.monotonic()
                    say(f"  {last_sign - started:4.0f} s  {step.group().strip()[:100]}")
    if pip.returncode == 0:
        say(f"  done in {time.monotonic() - started:.0f} s")
        return
    telling = "".join(line for line in lines if not line.startswith("WARNING: Location"))
    remedy = next((advice for pattern, advice in REMEDIES if re.search(pattern, telling)), "The log has the cause.")
    shown = "".join(telling.splitlines(keepends=True)[-12:])
    message = f"{title} failed.\n{shown}\n  {remedy}\n  Whole log: {LOG}\n  The same command goes on from here."
    raise SetupError(message)


def set_up(torch_index_url: str | None) -> None:
    """Bring `.venv` up to date; does nothing, and starts nothing, when it already is."""
    check_python()
    wanted = fingerprint()
    if STAMP.exists() and venv_program("python").exists() and STAMP.read_text(encoding="utf-8").strip() == wanted:
        return
    check_disk()
    STAMP.unlink(missing_ok=True)
    say("Setting Mitral up in .venv (once; about 1.5 GB, a minute or two on a fast connection)")
    make_venv()
    LOG.write_text("", encoding="utf-8")
    torch = pinned("torch")
    source = ["--index-url", torch_index_url] if torch_index_url else []
    pip_install(f"Installing {torch}", [*source, torch])
    pip_install("Installing Mitral and its tools", ["-c", "constraints.txt", "-e", ".[dev]"])
    STAMP.write_text(wanted + "\n", encoding="utf-8")
    say("Set-up is complete.\n")


def run_program(name: str, *arguments: str) -> int:
    """Run an installed program from the root of the checkout and return its exit status."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.run([str(venv_program(name)), *arguments], cwd=ROOT, env=environment, check=False).returncode


LINT_STEPS = (
    ("Style (ruff check)", ("ruff", "check", ".")),
    ("Format (ruff format)", ("ruff", "format", "--check", ".")),
    ("Types (mypy --strict)", ("mypy",)),
    ("Import contracts (lint-imports)", ("lint-imports",)),
)
TEST_STEPS = (
    ("Tests (pytest)", ("coverage", "run", "-m", "pytest", "--durations=15")),
    ("Coverage: collect", ("coverage", "combine", "--quiet")),
    ("Coverage: floor", ("coverage", "report")),
)


def run_steps(steps: tuple[tuple[str, tuple[str, ...]], ...]) -> int:
    """Run every step, also after a failure, so that one run shows all there is to mend; return 0 when all passed."""
    outcomes = []
    for title, command in steps:
        say(f"=== {title}")
        started = time.monotonic()
        status = run_program(*command)
        outcomes.append((title, status, time.monotonic() - started))
        say("")
    for title, status, seconds in outcomes:
        outcome = "ok    " if status == 0 else "FAILED"
        say(f"{outcome}  {seconds:6.1f} s  {title}" + (f" (exit status {status})" if status else ""))
    return 0 if all(status == 0 for _, status, _ in outcomes) else 1


def run_tests(rest: list[str]) -> int:
    """Run everything, or only pytest when it is given arguments: a selection of tests has no coverage floor."""
    if rest:
        return run_program("python", "-m", "pytest", *rest)
    for stale in ROOT.glob(".coverage*"):
        if stale.is_file():
            stale.unlink()
    return run_steps((*LINT_STEPS, *TEST_STEPS))


def run_command(command: str, rest: list[str]) -> int:
    """Run one of the commands of this file's docstring and return its exit status."""
    if command in {"demo", "bench"}:
        return run_program("mitral", command, *rest)
    if command in MODULES:
        return run_program("python", "-m", MODULES[command], *rest)
    if command == "lint":
        return run_steps(LINT_STEPS)
    return run_tests(rest) if command == "test" else 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, set up, run; errors of the environment become text and status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index-url", metavar="URL", help="package index for torch alone, e.g. PyTorch's CPU index")
    parser.add_argument("command", choices=["setup", "demo", "test", "lint", "bench", *MODULES])
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments for the command")
    given = parser.parse_args(arguments)
    try:
        set_up(given.index_url)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return 130
    try:
        return run_command(given.command, given.rest)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
