"""The training children of this agent, and the desk where long work is done beside the loops."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from shared.canonical import JsonObject
from shared.errors import Unavailable
from site_agent.backoff import Backoff
from site_agent.logs import Log
from site_agent.rounds.session import Trainer
from site_agent.state_folder import StateFolder
from site_agent.training.launcher import TrainingChild
from site_agent.training.result_file import TrainingResult, read_result

WARMING = "warming"  # stands where a context's hash would


class TrainingChildren(Trainer, Protocol):
    """A trainer whose processes can all be ended."""

    def stop_all(self) -> None:
        """Kill all children."""
        ...


class Children:
    """One warm child per study, started when it is first needed."""

    def __init__(self, folder: StateFolder, threads: int, log: Log) -> None:
        """Remember how to start them."""
        self._folder = folder
        self._threads = threads
        self._log = log
        self._children: dict[str, TrainingChild] = {}
        self._lock = threading.Lock()

    def warm(self, study: str) -> None:
        """Start the study's child if it does not run.

        Raises:
            Unavailable: ``training_failed``, ``training_timeout``, ``training_stopped``.
        """
        self._ready(study)

    def run(self, study: str, job: JsonObject, timeout_seconds: float) -> TrainingResult:
        """Run one job in the study's child.

        Raises:
            Unavailable: ``training_failed``, ``training_timeout``, ``training_stopped``.
            PeerFault: ``result_malformed``, ``update_not_finite``.
            InputError: what was wrong with the data.
        """
        return self._ready(study).run(job, timeout_seconds)

    def read_result(self, job: JsonObject) -> TrainingResult:
        """Read the result that an earlier run left.

        Raises:
            PeerFault: ``result_malformed``, ``update_not_finite``.
        """
        return read_result(Path(job["result"]))

    def stop(self, study: str) -> None:
        """Kill the child of a study; the next job starts another."""
        with self._lock:
            child = self._children.pop(study, None)
        if child is not None:
            child.stop()

    def _ready(self, study: str) -> TrainingChild:
        with self._lock:
            child = self._children.get(study)
            if child is None:
                child = self._children[study] = TrainingChild(study, self._folder.child(study), self._threads)
        started = child.pid is None
        child.start()
        if started:
            self._log.info("training child started", study=study, device=child.device, pid=child.pid)
        return child

    def stop_all(self) -> None:
        """Kill all children."""
        studies = list(self._children)
        with ThreadPoolExecutor(max(1, len(studies))) as pool:
            list(pool.map(self.stop, studies))


class TrainingDesk:
    """A thread per study that carries out one context at a time and tries again what could not be done now."""

    def __init__(self, trainer: Trainer, log: Log) -> None:
        """Start with nothing to do."""
        self._trainer = trainer
        self._log = log
        self._lock = threading.Lock()
        self._current: dict[str, tuple[str, threading.Event, threading.Thread]] = {}
        self._closed = False

    def start(self, study: str, ctx_hash: str, work: Callable[[], None]) -> None:
        """Start `work` unless the same context is being worked on; another context of the study is given up."""
        with self._lock:
            if self._closed:
                return
            current = self._current.get(study)
            if current is not None and current[0] == ctx_hash and current[2].is_alive():
                return
            before = None if current is None else current[2]
            if current is not None and before is not None and before.is_alive() and current[0] != WARMING:
                current[1].set()
                self._trainer.stop(study)
            given_up = threading.Event()
            thread = threading.Thread(
                target=self._carry_out,
                args=(study, ctx_hash, work, given_up, before),
                name=f"train-{study}",
                daemon=True,
            )
            self._current[study] = (ctx_hash, given_up, thread)
            thread.start()

    def warm(self, study: str) -> None:
        """Start the study's child, unless something was done for the study before."""
        with self._lock:
            known = study in self._current
        if not known:
            self.start(study, WARMING, lambda: self._warm_once(study))

    def give_up(self, study: str, ctx_hash: str) -> None:
        """Stop working on a context, if that is what is being done."""
        with self._lock:
            current = self._current.get(study)
            if current is None or current[0] != ctx_hash or not current[2].is_alive():
                return
            if current[2] is threading.current_thread():
                return
            current[1].set()
        self._trainer.stop(study)

    def close(self) -> None:
        """Give everything up; results that are not stored yet are made again after the next start."""
        with self._lock:
            self._closed = True
            current = list(self._current.values())
        for _, given_up, _ in current:
            given_up.set()

    def join(self, seconds: float) -> None:
        """Wait for the threads, at most `seconds` each."""
        for _, _, thread in list(self._current.values()):
            thread.join(seconds)

    def _warm_once(self, study: str) -> None:
        try:
            self._trainer.warm(study)
        except Unavailable as error:  # the first job tries again, and says so
            self._log.warning("training child not ready", study=study, code=error.code, detail=error.detail)

    def _carry_out(
        self,
        study: str,
        ctx_hash: str,
        work: Callable[[], None],
        given_up: threading.Event,
        before: threading.Thread | None,
    ) -> None:
        if before is not None:
            before.join()
        backoff = Backoff()
        while not given_up.is_set():
            try:
                work()
            except Unavailable as error:
                self._log.info("put off", study=study, ctx_hash=ctx_hash, code=error.code, detail=error.detail)
                backoff.wait(given_up, getattr(error, "retry_after_seconds", None))
            except Exception as error:  # noqa: BLE001 (a bug in one study's work must not end the others')
                self._log.critical("unexpected failure", study=study, ctx_hash=ctx_hash, error=error)
                backoff.wait(given_up)
            else:
                return
