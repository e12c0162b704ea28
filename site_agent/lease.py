"""One live agent per state directory, and one per identity (ADR 0006)."""

import os
import uuid
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from shared.clock import timestamp
from shared.errors import Unavailable
from site_agent.storage import instances
from site_agent.storage.database import Database


class FolderLock:
    """An operating-system lock on the state directory; it goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        """Name the lock file."""
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            Unavailable: ``state_in_use`` when another agent has it.
        """
        file = self._path.open("ab")
        try:
            _lock(file)
        except OSError as error:
            file.close()
            raise Unavailable("state_in_use", f"another agent runs on {self._path.parent}") from error
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Instance:
    """This process's instance id, and the earlier ones it may follow.

    An agent that was killed before the coordinator answered it leaves an id that nobody saw; the one before it is then
    the one the coordinator knows. So the earlier ids are offered newest first, back to the last confirmed one.
    """

    def __init__(self, database: Database, now: datetime) -> None:
        """Draw a new id and persist it before it is used."""
        self.id = str(uuid.uuid4())
        self._database = database
        self._confirmed = False
        with database.transaction("new instance") as tx:
            instances.add_instance(tx, self.id, timestamp(now))
            self._earlier = instances.read_earlier(tx, self.id)

    @property
    def previous(self) -> str:
        """Return the earlier id to offer with the next poll; empty on the first start."""
        return self._earlier[0] if self._earlier else ""

    @property
    def is_confirmed(self) -> bool:
        """Return whether the coordinator answered this instance."""
        return self._confirmed

    def confirm(self) -> None:
        """Note that the coordinator answered this instance."""
        if self._confirmed:
            return
        with self._database.transaction("instance confirmed") as tx:
            instances.set_confirmed(tx, self.id)
        self._confirmed = True

    def rejected(self) -> bool:
        """Take back the id that did not fit; return whether there is another one to offer."""
        if self._confirmed or len(self._earlier) <= 1:
            return False
        self._earlier.pop(0)
        return True


def _lock(file: IO[bytes]) -> None:
    if os.name == "posix":
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
