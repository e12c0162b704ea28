"""Starts, watches and stops the training child of a study. The agent's side: no torch here (PROTOCOLS A12).

The child gets a scrubbed environment, a folder of its own and two pipes. It ends when this process ends, because its
standard input does. What it returns is checked as if a stranger had sent it.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import shared
from shared.canonical import JsonObject
from shared.errors import CODES, InputError, MitralError, PeerFault, Unavailable
from site_agent.training.job import Job
from site_agent.training.result_file import TrainingResult, read_result

OnProgress = Callable[[int, int], None]
START_SECONDS = 120  # importing torch from a cold, slow disk
STOP_SECONDS = 1
MAX_LINE = 64 * 2**20
MAX_NUMBER_DIGITS = 60
# What a process needs to start and to find its libraries and its GPU; everything else stays with the agent.
KEPT_VARIABLES = {
    "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NUMBER_OF_PROCESSORS",
}  # fmt: skip


class TrainingChild:
    """The warm child of one study. Not for two threads at a time, except `stop`, which may come from any."""

    def __init__(self, study: str, folder: Path, threads: int, command: list[str] | None = None) -> None:
        """Remember what to start: `folder` is the child's own; `command` stands in for the worker in tests."""
        self.study = study
        self.device: str | None = None
        self._folder = folder
        self._threads = threads
        self._command = command or [sys.executable, "-m", "site_agent.training.worker"]
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Return the child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the child unless it runs, and wait until torch is loaded.

        Raises:
            Unavailable: ``training_failed`` or ``training_timeout`` when it does not come up, ``training_stopped``.
        """
        if self.pid is not None:
            return
        if self._stopped:
            raise Unavailable("training_stopped", f"the training of {self.study} was stopped")
        self._end()  # closes the pipes of one that crashed
        self._folder.mkdir(parents=True, exist_ok=True)
        self._answers = queue.Queue()
        try:
            with (self._folder / "training.log").open("wb") as log:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env=child_environment(self._threads),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
        except OSError as error:
            raise Unavailable("training_failed", f"the training process does not start: {error}") from error
        threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()
        answer = self._next(time.monotonic() + START_SECONDS)
        self.device = str(answer.get("ready"))

    def run(
        self, job: Job | JsonObject, timeout_seconds: float, on_progress: OnProgress | None = None
    ) -> TrainingResult:
        """Do one job and return what it brought; a child that crashed before is started again.

        `on_progress` is told steps done and steps in all, about twice a second.

        Raises:
            Unavailable: ``training_timeout`` (the child is killed), ``training_failed``, ``training_stopped``.
            PeerFault: ``result_malformed``, ``update_not_finite``; ``message_malformed`` for a job out of form.
            InputError: what was wrong with the data or the model, under the codes of data sets and models.
        """
        job = job if isinstance(job, Job) else Job.check(job)
        self.start()
        path = Path(job.result)
        path.unlink(missing_ok=True)  # what an earlier job left must not pass for the result of this one
        deadline = time.monotonic() + timeout_seconds
        self._send(job)
        while True:
            answer = self._next(deadline)
            progress = answer.get("progress")
            if not isinstance(progress, dict):
                break
            done, steps = _integer(progress.get("done")), _integer(progress.get("steps"))
            if on_progress is not None:
                on_progress(done, steps)
        if answer.get("done") is not True:
            raise _failure(answer)
        result = read_result(path)
        if (result.update is None) != (job.job != "train"):
            raise PeerFault(
                "result_malformed", f"a job to {job.job} brought {'no' if result.update is None else 'an'} update"
            )
        report = answer.get("report")
        return replace(result, report=report if isinstance(report, dict) else {})

    def stop(self) -> None:
        """End the child within a second and start no other; a job that runs fails with ``training_stopped``."""
        self._stopped = True
        self._end()

    def _send(self, job: Job) -> None:
        process = self._process
        line = json.dumps(job.as_json()).encode() + b"\n"
        try:
            if process is None or process.stdin is None:
                raise BrokenPipeError
            process.stdin.write(line)
            process.stdin.flush()
        except OSError as error:
            self._end()
            raise self._gone() from error

    def _next(self, deadline: float) -> JsonObject:
        try:
            line = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self._end()
            raise Unavailable("training_timeout", f"the training of {self.study} was ended at its deadline") from None
        if line is None:
            self._end()
            raise self._gone()
        try:
            answer = json.loads(line)
        except ValueError as error:
            self._end()
            raise PeerFault("result_malformed", "the training process wrote a line that is not JSON") from error
        if not isinstance(answer, dict):
            self._end()
            raise PeerFault("result_malformed", "the training process wrote something else than an object")
        return answer

    def _gone(self) -> Unavailable:
        if self._stopped:
            return Unavailable("training_stopped", f"the training of {self.study} was stopped")
        code = None if self._process is None else self._process.returncode
        return Unavailable("training_failed", f"the training process of {self.study} ended with status {code}")

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            try:
                process.stdin.close()
            except OSError:
                process.kill()  # what was still to be written can no longer be; the child is of no use
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def child_environment(threads: int) -> dict[str, str]:
    """Return the environment of a child: no proxies, no tokens, no telemetry settings, and `threads` for arithmetic."""
    kept = {name: value for name, value in os.environ.items() if name.upper() in KEPT_VARIABLES}
    root = str(Path(shared.__path__[0]).resolve().parent)
    count = str(threads)
    return {
        **kept,
        "PYTHONPATH": root,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # CUDA's matrix products are reproducible only with it
    }


def _read(process: "subprocess.Popen[bytes]", answers: "queue.Queue[bytes | None]") -> None:
    """Queue the child's lines; None when it is gone. An endless line ends the child."""
    stream = process.stdout
    while stream is not None and (line := stream.readline(MAX_LINE)):
        if not line.endswith(b"\n"):
            process.kill()
            break
        answers.put(line)
    if stream is not None:
        stream.close()
    answers.put(None)


def _failure(answer: dict[str, Any]) -> MitralError:
    """Return the child's complaint as an error; a code that is not in the table is not taken from it."""
    code, detail = answer.get("code"), str(answer.get("detail", ""))[:500]
    if code == "update_not_finite":
        return PeerFault("update_not_finite", detail)
    if isinstance(code, str) and code in CODES and code != "training_failed":
        return InputError(code, detail)
    return Unavailable("training_failed", detail or "the training process gave no reason")


def _integer(value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_NUMBER_DIGITS):
        raise PeerFault("result_malformed", f"the training process wrote {text[:40]!r} where a count belongs")
    return int(text)
