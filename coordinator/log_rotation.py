"""The log's signing key: opened with the one before it, and exchanged (PROTOCOLS B3, Key rotation).

The origin stays. Heads carry the lines of both keys for 30 days, and for as long as the active roster names the former
one: whoever knows only that key goes on verifying until the roster update has brought the new one.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.keys import Keys, load_keys, prepare_log_key, promote_log_key
from coordinator.state import KEYS, LOG_HEAD, StateLock, open_database
from coordinator.storage import log as stored
from coordinator.storage import rosters
from coordinator.storage.database import Database, Transaction
from shared.audit.log_checkpoint import ED25519, LogVkey
from shared.canonical import b64u, parse_strict, tagged_hash
from shared.clock import Clock, parse_timestamp

BOTH_LINES = timedelta(days=30)
Reason = Literal["scheduled", "compromise", "custody"]


def open_log(state: Path, federation: str, keys: Keys, database: Database, now: datetime) -> AuditLog:
    """Return the log of a state directory, with the former key beside the new one while somebody may need it."""
    former = keys.former_log_key
    if former is not None and keys.log_rotated_at is not None:
        with database.reading("read which log key the roster names") as tx:
            active = rosters.read_active(tx)
        named = None if active is None else active.roster["coordinator"]["log_vkey"]
        is_named = named == LogVkey(f"{federation}/log/1", ED25519, former.verify_key).encode()
        if not is_named and now - parse_timestamp(keys.log_rotated_at) >= BOTH_LINES:
            former = None
    return AuditLog(federation, keys.log_key, keys.idk, former_key=former, head_file=state / KEYS / LOG_HEAD)


def rotate_key(state: Path, federation: str, reason: Reason, clock: Clock) -> tuple[str, str]:
    """Give the log of a stopped service a new signing key; return the verifier keys before and after.

    A command that was cut short is taken up again where it stopped.

    Raises:
        Unavailable: ``state_in_use``, ``log_rolled_back``, ``storage_full``.
        InputError: ``state_missing``.
    """
    with StateLock(state):
        database = open_database(state)
        try:
            keys, next_key = load_keys(state / KEYS), prepare_log_key(state / KEYS)
            log = open_log(state, federation, keys, database, clock.now())
            log.sign_checkpoint(database)
            old, new = log.vkey, LogVkey(log.origin, ED25519, next_key.verify_key)
            with database.transaction("log a new log key") as tx:
                if not _is_logged(tx, new.encode()):
                    data = {"old_vkey": old.encode(), "new_vkey": new.encode(), "reason": reason}
                    signed = rotation_message(log.origin, data["old_vkey"], data["new_vkey"])
                    signatures = {
                        "old_signature": b64u(keys.log_key.sign(signed)),
                        "new_signature": b64u(next_key.sign(signed)),
                    }
                    log.append(tx, Fact("log.key.rotated", COORDINATOR_ACTOR, {**data, **signatures}), clock.now())
            promote_log_key(state / KEYS, clock.now())
            open_log(state, federation, load_keys(state / KEYS), database, clock.now()).sign_checkpoint(database)
        finally:
            database.close()
    return old.encode(), new.encode()


def rotation_message(origin: str, old_vkey: str, new_vkey: str) -> bytes:
    """Return what both keys sign when one takes over from the other."""
    return tagged_hash("FED log key rotation", f"{origin}\n{old_vkey}\n{new_vkey}\n".encode())


def _is_logged(tx: Transaction, vkey: str) -> bool:
    leaves = stored.read_leaves_of_type(tx, "log.key.rotated")
    return any(parse_strict(leaf.leaf)["data"]["new_vkey"] == vkey for leaf in leaves)
