"""Evidence against the log, kept as files that can be handed on: what was signed stands in them as it was received."""

from datetime import datetime
from pathlib import Path

from shared.canonical import JsonObject, canonical_bytes, sha256_hex
from shared.clock import timestamp
from shared.errors import PeerFault
from site_agent.rounds.session import Session
from site_agent.state_folder import sync_folder, write_whole
from site_agent.storage import log, rosters
from site_agent.storage.log import Conflict


def keep_evidence(session: Session, code: str, detail: str, evidence: JsonObject, now: datetime) -> Path:
    """Write an evidence file; it is on disk on return, and the same evidence has the same name.

    Raises:
        Unavailable: ``disk_full``.
    """
    with session.database.reading("read roster") as tx:
        active = rosters.read_active(tx)
    found: JsonObject = {
        "v": "SA1",
        "kind": "evidence",
        "code": code,
        "detail": detail[:2000],
        "site": session.site,
        "roster": None if active is None else active.roster_hash,
        "evidence": evidence,
    }
    path = session.folder.evidence / f"{code}-{sha256_hex(canonical_bytes(found))[:16]}.json"
    write_whole(path, [canonical_bytes({**found, "found_at": timestamp(now)})])
    sync_folder(path.parent)
    return path


def conflict(session: Session, detail: str, evidence: JsonObject, now: datetime) -> PeerFault:
    """Keep the evidence of two histories and stop: nothing is cosigned, nothing is bound from here on.

    Returns the error for the caller to raise.
    """
    file = keep_evidence(session, "log_conflict", detail, evidence, now)
    with session.database.transaction("keep log conflict") as tx:
        if log.read_conflict(tx) is None:
            log.add_conflict(tx, Conflict("log_conflict", detail, file.name, timestamp(now)))
    return PeerFault("log_conflict", f"{detail}; the evidence is kept in {file}")
