"""Real processes of a rehearsal: started with a log file each, killed, suspended, stopped; nothing is left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

from shared.errors import Unavailable

STOP_SECONDS = 5.0  # both services promise to stop within this time on SIGTERM
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a rehearsal's processes: nothing of ours from the caller's shell, one thread each."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MITRAL_") and name.lower() not in _PROXIES
    }
    # Several processes share few cores; a pool of threads in each of them makes all of them slower.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**kept, **threads, "PYTHONUNBUFFERED": "1", **extra}


def program(name: str) -> list[str]:
    """Return how to start one of our console scripts, installed or not."""
    script = Path(sys.executable).with_name(name)
    if script.is_file():
        return [str(script)]
    package = {"mitral": "workbench", "mitral-site": "site_agent", "mitral-coordinator": "coordinator"}[name]
    return [sys.executable, "-c", f"import sys; from {package}.cli.main import main; sys.exit(main())"]


def free_ports(count: int) -> list[int]:
    """Return TCP ports of the loopback interface that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal like Ctrl-C: every way of stopping a rehearsal stops its processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Process:
    """One long-running process (a coordinator or an agent) that can be started again and again."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        """Describe the process; nothing is started."""
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process id of the newest start.

        Raises:
            Unavailable: ``rehearsal_failed`` when it was never started.
        """
        if self._running is None:
            raise Unavailable("rehearsal_failed", f"{self.name} was not started")
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """Answer whether the process lives (a suspended one does)."""
        return self._running is not None and self._running.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return how it ended: minus the signal's number, the exit status, or None while it runs."""
        return None if self._running is None else self._running.poll()

    def start(self) -> None:
        """Start it; its output is appended to its log."""
        if self.is_running:
            return
        with self.log.open("ab") as log:
            # Its own session, so that Ctrl-C in the terminal reaches the rehearsal alone, which then stops everything.
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would, and wait until it is gone."""
        if self._running is not None and self.is_running:
            self._running.kill()
            self._running.wait(10)

    def suspend(self) -> None:
        """Hold it still (SIGSTOP): its connections stay open and nothing answers."""
        psutil.Process(self.pid).suspend()

    def resume(self) -> None:
        """Let a suspended process go on."""
        if self.is_running:
            psutil.Process(self.pid).resume()

    def family(self) -> list[psutil.Process]:
        """Return the process and its children of any depth."""
        try:
            own = psutil.Process(self.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return at once."""
        if self._running is not None and self.is_running:
            self.resume()
            self._running.send_signal(signal.SIGTERM)

    def stop(self) -> float:
        """Send SIGTERM, wait, return the seconds it took; what does not stop in time is killed with its children."""
        if self._running is None or not self.is_running:
            return 0.0
        family, started = self.family(), time.monotonic()
        self.ask_to_stop()
        try:
            self._running.wait(STOP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self.kill()
        took = time.monotonic() - started
        for one in family:
            if one.is_running() and one.pid != self._running.pid:
                _kill(one)
        return took

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _kill(process: psutil.Process) -> None:
    try:
        process.wait(1)
    except psutil.TimeoutExpired:
        process.kill()
        psutil.wait_procs([process], 2)


def run_once(name: str, *arguments: str, environment: Mapping[str, str], log: Path, seconds: float = 120) -> str:
    """Run one of our commands to its end and return its standard output; the call and its messages go to `log`.

    Raises:
        Unavailable: ``rehearsal_failed`` or ``rehearsal_timeout`` with the command and the end of its messages.
    """
    shown = " ".join([name, *arguments])
    try:
        done = subprocess.run(
            [*program(name), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environment),
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable("rehearsal_timeout", f"{shown}: no end after {seconds:.0f} s") from error
    messages = done.stderr.decode(errors="replace")
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shown}\n{messages}[exit status {done.returncode}]\n")
    if done.returncode != 0:
        raise CommandFailedError(shown, done.returncode, messages)
    return done.stdout.decode(errors="replace")


class CommandFailedError(Unavailable):
    """``rehearsal_failed``: one of our commands ended with another status than 0."""

    def __init__(self, shown: str, status: int, messages: str) -> None:
        """Keep the status and the messages: tests look at them."""
        self.status = status
        self.messages = messages
        super().__init__("rehearsal_failed", f"{shown}: exit status {status}\n{messages[-2000:]}")
