"""The training child: reads jobs from standard input, writes one file and one line per job, ends when its parent does.

It is given the paths of data and weights and nothing else: no keys, no tokens, no configuration. Whatever a library
prints goes to standard error, because standard output carries the answers. What the process can give up by itself (core
dumps, sockets) it gives up here; this guards against accidents, not against hostile code.
"""

import errno
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from shared.canonical import JsonObject, parse_strict
from shared.cases import DataPart
from shared.errors import InputError, MitralError
from shared.model_state import ModelState, from_bytes
from shared.task_catalogue import task_spec
from site_agent.datasets.registry import load_part
from site_agent.training.job import Job, Score
from site_agent.training.result_file import write_result

Emit = Callable[[JsonObject], None]
PROGRESS_SECONDS = 0.5
SOCKET_EVENTS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")


class Worker:
    """Keeps what is expensive between jobs: torch, the cases of each part as tensors, the network."""

    def __init__(self) -> None:
        """Start with nothing loaded; torch is imported by the first job or by `device`."""
        self._tensors: dict[tuple[str, ...], Any] = {}
        self._models: dict[str, Any] = {}

    def device(self) -> str:
        """Import torch and return the device that jobs use."""
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def run(self, job: Job, emit: Emit) -> JsonObject:
        """Do one job, write its result, and return a report for the site's log.

        Raises:
            MitralError: whatever was wrong with the data, the model or the result.
        """
        if job.job == "statistics":
            from shared.tasks.registry import build_task

            cases = load_part(job.manifest, "training", task_spec(job.task))
            write_result(Path(job.result), None, build_task(job.task).sums(cases))
            return {"cases": len(cases)}
        if job.model is None or (job.job == "evaluate" and not job.score):
            raise InputError("training_failed", f"a job to {job.job} names no model or no part")
        received = from_bytes(Path(job.model).read_bytes())
        values: dict[str, list[int]] = {}
        for part in job.score:
            values |= self._score(job, received, part)
        if job.job == "train":
            return self._train(job, received, values, emit)
        write_result(Path(job.result), None, values)
        return {"cases": values["cases"][0]}

    def _score(self, job: Job, received: ModelState, part: Score) -> dict[str, list[int]]:
        from shared.tasks.weights import load_into
        from site_agent.training.evaluation import score

        task, model = self._network(job)
        inputs, labels = self._part(job, part)
        load_into(model, received)
        item = "score_histogram" if part == "validation" else "test_histogram"
        return score(model, inputs, labels, bins=job.metrics["bins"], classes=task.classes, item=item)

    def _train(self, job: Job, received: ModelState, values: dict[str, list[int]], emit: Emit) -> JsonObject:
        from site_agent.training.local_steps import local_steps, update_of

        if job.training is None:
            raise InputError("training_failed", "a job to train has no training settings")
        task, model = self._network(job)
        inputs, labels = self._part(job, "training")
        started = last = time.monotonic()

        def progress(done: int, steps: int) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_SECONDS:
                last = time.monotonic()
                emit({"progress": {"done": done, "steps": steps}})

        trained = local_steps(
            model,
            received,
            task=task,
            inputs=inputs,
            labels=labels,
            training=job.training,
            seed=job.seed,
            progress=progress,
        )
        _, update = update_of(received, trained)
        write_result(Path(job.result), update, {"weight": [len(labels)], **values})
        return {"milliseconds": round((time.monotonic() - started) * 1000), "cases": len(labels)}

    def _network(self, job: Job) -> tuple[Any, Any]:
        import torch

        from shared.tasks.registry import build_model, build_task

        key = json.dumps(job.task, sort_keys=True)
        if key not in self._models:
            torch.use_deterministic_algorithms(mode=True, warn_only=True)
            self._models[key] = (build_task(job.task), build_model(job.task).to(self.device()))
        task, model = self._models[key]
        return task, model

    def _part(self, job: Job, part: DataPart) -> tuple[Any, Any]:
        import torch

        key = (
            job.manifest.digest,
            part,
            json.dumps(job.task, sort_keys=True),
            json.dumps(job.statistics, sort_keys=True),
        )
        if key not in self._tensors:
            cases = load_part(job.manifest, part, task_spec(job.task))
            task, _ = self._network(job)
            device = self.device()
            inputs = task.inputs(cases, job.statistics).to(device)
            self._tensors[key] = (inputs, torch.from_numpy(cases.labels).to(device))
        inputs, labels = self._tensors[key]
        return inputs, labels


def serve(worker: Worker, lines: "queue.Queue[str]", emit: Emit) -> None:
    """Answer jobs until an empty line arrives."""
    while line := lines.get():
        try:
            emit({"done": True, "report": worker.run(Job.check(parse_strict(line.encode())), emit)})
        except MitralError as error:
            emit({"done": False, "code": error.code, "detail": error.detail})
        except Exception as error:  # noqa: BLE001 (a job may fail in any way torch can; the child stays, the agent is told)
            # The message of a foreign exception may quote data, so only its type and place leave the child.
            emit({"done": False, "code": "training_failed", "detail": _where(error)})


def _where(error: BaseException) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = "" if frame is None else f" in {Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"
    return f"{type(error).__name__}{place}"


def _read_lines(stream: TextIO, lines: "queue.Queue[str]") -> None:
    """Pass lines on; when the parent is gone the pipe ends, and so does this process, even in the middle of a step."""
    for line in stream:
        lines.put(line)
    os._exit(0)


def _confine() -> None:
    """Give up what training does not need: a crash leaves no patients in a core file, nothing opens a connection."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def refuse_sockets(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in SOCKET_EVENTS:
            raise PermissionError(errno.EACCES, "the training process has no network")

    sys.addaudithook(refuse_sockets)


def main() -> None:
    """Run the child until its standard input ends."""
    _confine()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(message: JsonObject) -> None:
        with lock:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_lines, args=(sys.stdin, lines), daemon=True).start()
    worker = Worker()
    emit({"ready": worker.device()})
    serve(worker, lines, emit)


if __name__ == "__main__":
    main()
