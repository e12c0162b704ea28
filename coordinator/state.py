"""The state directory: made by `init`, locked by `serve`."""

import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from coordinator import accounts, operators, tokens
from coordinator.access_file import build_access_file, build_link_file, write_access_file
from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.config import FILE_NAME, Settings, write_settings
from coordinator.keys import create_keys, load_keys
from coordinator.storage.database import Database
from coordinator.storage.schema import migrate
from shared.canonical import b64u
from shared.clock import Clock
from shared.errors import InputError, Unavailable
from shared.ids import check_id

DATABASE = "coordinator.sqlite"
KEYS = "keys"
BLOBS = "blobs"
UPLOADS = "uploads"
EVIDENCE = "evidence"
LOG_HEAD = "log-head.json"  # beside the keys: what was signed last is not restored with a database
_LOCK = "lock"
_ACCESS = "administrator.access.json"
LINK = "administrator.link.json"
FIRST_ADMINISTRATOR = "administrator"


def initialise(state: Path, settings: Settings, clock: Clock) -> Path:
    """Make keys, database, log and the first administrator; return the path of the administrator's access file.

    There is no password to begin with. The access file holds a token for programs, which ends like every other; the
    link file beside it lets one person set a password and a second factor, once.

    Raises:
        InputError: ``state_exists``, ``id_malformed``.
    """
    check_id(settings.federation, "federation")
    if (state / FILE_NAME).exists() or (state / DATABASE).exists():
        raise InputError("state_exists", f"{state} is initialised already")
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with StateLock(state):
        keys = create_keys(state / KEYS, settings.federation, clock.now())
        database = Database(state / DATABASE)
        try:
            migrate(database)
            log = AuditLog(settings.federation, keys.log_key, keys.idk, head_file=state / KEYS / LOG_HEAD)
            with database.transaction("initialise") as tx:
                opened = {
                    "federation": settings.federation,
                    "log_vkey": log.vkey.encode(),
                    "coordinator_idk": b64u(keys.idk.verify_key.bytes),
                }
                log.append(tx, Fact("log.opened", COORDINATOR_ACTOR, opened), clock.now())
            with database.transaction("add the first administrator") as tx:
                operators.add_operator(tx, log, None, FIRST_ADMINISTRATOR, "administrator", clock.now())
                issued = tokens.issue(
                    tx, log, None, FIRST_ADMINISTRATOR, name="first", permissions=(), days=None, now=clock.now()
                )
                link = accounts.invite(tx, log, None, FIRST_ADMINISTRATOR, clock.now())
            log.sign_checkpoint(database)
        finally:
            database.close()
        url = operator_url(settings, settings.operator_port)
        access = build_access_file(url, keys.root_der, FIRST_ADMINISTRATOR, "administrator", issued.secret)
        write_access_file(state / _ACCESS, access)
        write_access_file(
            state / LINK, build_link_file(url, keys.root_der, link.operator, link.secret, link.expires_at)
        )
        write_settings(state, settings)  # last: a directory without settings was never initialised
    return state / _ACCESS


def recover_account(state: Path, settings: Settings, operator: str, out: Path, clock: Clock) -> None:
    """Write a one-time link for an operator, for when nobody can sign in who could make one.

    Raises:
        InputError: ``state_missing``, ``operator_unknown``, ``file_exists``.
        Unavailable: ``state_in_use``.
    """
    with StateLock(state):
        keys, database = load_keys(state / KEYS), open_database(state)
        try:
            log = AuditLog(settings.federation, keys.log_key, keys.idk)
            with database.transaction("recover an account") as tx:
                link = accounts.invite(tx, log, None, operator, clock.now())
                url = operator_url(settings, settings.operator_port)
                found = build_link_file(url, keys.root_der, link.operator, link.secret, link.expires_at)
                write_access_file(out, found)  # inside: what cannot be written is not made
        finally:
            database.close()


def operator_url(settings: Settings, port: int) -> str:
    """Return where operators reach the service."""
    return settings.public_operator_url or f"https://{_host(settings.names[0])}:{port}"


def agent_url(settings: Settings, port: int) -> str:
    """Return where agents reach the service: what invitations say."""
    return settings.public_agent_url or f"https://{_host(settings.names[0])}:{port}"


def open_database(state: Path) -> Database:
    """Open the database of an initialised directory and bring it to this release's schema.

    Raises:
        InputError: ``state_missing``, ``state_newer``.
    """
    if not (state / DATABASE).exists():
        raise InputError("state_missing", f"{state} was never initialised")
    load_keys(state / KEYS)
    database = Database(state / DATABASE)
    migrate(database)
    return database


class StateLock:
    """An exclusive lock on a state directory, released by the operating system however the process ends."""

    def __init__(self, state: Path) -> None:
        """Lock `state` for the length of a `with` block."""
        self._path = state / _LOCK
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            Unavailable: ``state_in_use``.
        """
        self._file = self._path.open("ab")
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise Unavailable("state_in_use", f"another process works in {self._path.parent}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        if self._file is not None:
            self._file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _host(name: str) -> str:
    return f"[{name}]" if ":" in name else name
