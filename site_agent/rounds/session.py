"""What the phases work with: database, keys, network, folder, time and randomness, all given from outside."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.canonical import JsonObject
from shared.clock import Clock, timestamp
from shared.errors import Unavailable
from shared.model_state import Layout, from_bytes, layout_of
from shared.protocol.wire import seconds_until
from site_agent.coordinator_client import CoordinatorClient
from site_agent.identity import SiteIdentity
from site_agent.logs import Log
from site_agent.rounds.machine import Event, next_state
from site_agent.state_folder import StateFolder, write_whole
from site_agent.storage import notices, rounds
from site_agent.storage.database import Database, Transaction
from site_agent.storage.rounds import StoredRound
from site_agent.training.result_file import TrainingResult


class Trainer(Protocol):
    """Runs jobs in the training child of a study; raises what went wrong, with a code."""

    def run(self, study: str, job: JsonObject, timeout_seconds: float) -> TrainingResult:
        """Run one job to its end. The result stays, on disk, in the file that ``job["result"]`` names."""
        ...

    def read_result(self, job: JsonObject) -> TrainingResult:
        """Read the result that an earlier run left, as strictly as the first time."""
        ...

    def warm(self, study: str) -> None:
        """Start the child of a study ahead of its first job."""
        ...

    def stop(self, study: str) -> None:
        """Kill the child of a study; a `run` under way raises ``training_stopped``."""
        ...


class Desk(Protocol):
    """Where long work is done beside the loops: one piece per study at a time."""

    def start(self, study: str, ctx_hash: str, work: Callable[[], None]) -> None:
        """Start `work` unless the same context is being worked on; another context of the study is given up."""
        ...

    def warm(self, study: str) -> None:
        """Start the study's child beside the loops, so that the first round does not wait for it."""
        ...

    def give_up(self, study: str, ctx_hash: str) -> None:
        """Stop working on a context, if that is what is being done."""
        ...


@dataclass(slots=True)
class Skew:
    """How far this site's clock is ahead of the coordinator's, as the asking loop last saw it."""

    seconds: float = 0.0


@dataclass(slots=True)
class Watched:
    """When this process looked for its receipts in the log last."""

    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One running agent, as the phases see it."""

    database: Database
    identity: SiteIdentity
    client: CoordinatorClient
    folder: StateFolder
    trainer: Trainer
    desk: Desk
    clock: Clock
    random: Callable[[int], bytes]
    log: Log
    queued: Callable[[], None] = field(default=lambda: None)  # wakes the delivering loop
    skew: Skew = field(default_factory=Skew)
    watched: Watched = field(default_factory=Watched)
    checked_models: dict[str, tuple[int, int]] = field(default_factory=dict)  # whose file this process has hashed
    layouts: dict[str, Layout] = field(default_factory=dict)  # study -> its model's tensors: the same in every version
    sealed_here: set[int] = field(
        default_factory=set
    )  # numbers of manifests this process sealed: nothing was sent before

    @property
    def site(self) -> str:
        """Return this site's id."""
        return self.identity.site

    def move(self, tx: Transaction, stored: StoredRound, event: Event) -> None:
        """Move a context along its state machine.

        Raises:
            Misuse: ``round_transition``.
        """
        rounds.set_state(tx, stored.ctx_hash, next_state(stored.state, event))

    def notice(self, code: str, subject: str, detail: str) -> None:
        """Show something to a person: in the log and in `mitral-site status`, if the disk has room for it.

        It is called where something went wrong already; a second failure here must not end the loop that tells of it.
        """
        self.log.warning("notice", code=code, subject=subject, detail=detail)
        try:
            with self.database.transaction("add notice") as tx:
                notices.add_notice(tx, code, subject, detail, timestamp(self.clock.now()))
        except Unavailable as error:
            self.log.warning("notice not kept", code=error.code, detail=error.detail)

    def model_file(self, model: str) -> Path:
        """Return the file of a model version, fetched if it is not here or not what its name says.

        Raises:
            Retry: the network failed.
            PeerFault: ``blob_damaged``.
        """
        path = self.folder.model(model)
        if path.exists():
            if self.checked_models.get(model) == _identity(path):
                return path
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == model:
                    self.checked_models[model] = _identity(path)
                    return path
            path.unlink()  # left half written by a power failure
        self.client.download_blob(model, path)
        self.checked_models[model] = _identity(path)
        return path

    def keep_model(self, model: str, raw: bytes) -> None:
        """Keep the bytes of a model version that was just computed and found to have this digest.

        Raises:
            Unavailable: ``disk_full``.
        """
        path = self.folder.model(model)
        write_whole(path, [raw], durable=False)  # whoever reads it after a restart checks its digest
        self.checked_models[model] = _identity(path)

    def read_model(self, model: str) -> bytes:
        """Return the bytes of a model version; raises like `model_file`."""
        return self.model_file(model).read_bytes()

    def layout_of(self, study: str, model: str) -> Layout:
        """Return which tensors a study's model has, from any of its versions; raises like `model_file`."""
        if study not in self.layouts:
            self.layouts[study] = layout_of(from_bytes(self.read_model(model)))
        return self.layouts[study]

    def seconds_left(self, deadline: str) -> float:
        """Return the seconds until a deadline that the coordinator set, by the coordinator's clock.

        Nothing that protects anybody hangs on it: contexts run out by this site's own clock.
        """
        return seconds_until(deadline, self.clock.now()) + self.skew.seconds


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def expired(stored: StoredRound, now: datetime) -> bool:
    """Return whether a context's time is over by this site's clock."""
    return stored.expires <= timestamp(now)
