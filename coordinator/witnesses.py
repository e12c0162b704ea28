"""Sites as the log's witnesses: asked at every poll, final by quorum, asked again after a start (PROTOCOLS B3, B4).

A database that was restored from a backup cannot know it. The witnesses do: after every start the log is held until so
many of them showed their last heads that any head that was ever final is among them. A head that this log signed and
this database does not continue is kept as evidence; while such evidence stands unexplained the log is held.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import structlog

from coordinator.audit import AuditLog, Hold
from coordinator.storage import log as stored
from coordinator.storage import rosters
from coordinator.storage.database import Database, Transaction
from coordinator.storage.rosters import StoredRoster
from shared.audit.log_checkpoint import (
    COSIGNATURE,
    LogCheckpoint,
    LogVkey,
    add_signature_lines,
    lines_of,
    parse_note,
    verify_cosignature,
    witness_name,
)
from shared.audit.witness import enough_to_hear, final_size, write_add_checkpoint
from shared.canonical import sha256_hex
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.log import CosignedHead
from shared.protocol.work import Command, FinalCommand, WitnessCommand
from shared.secagg.roster import log_keys, next_quorum

MOST_STEP = 4096  # entries a site that was away takes over at once
_log = structlog.get_logger("witnesses")


@dataclass(frozen=True, slots=True)
class Finality:
    """How far the log is final: `cosigned` has each listed site's largest head."""

    size: int
    final: int
    quorum: int
    cosigned: dict[str, int]


class Witnesses:
    """Knows which witnesses have shown their heads since this process started."""

    def __init__(self, log: AuditLog, evidence: Path, confirm_heads: int | None) -> None:
        """Keep evidence in a folder; `confirm_heads` replaces the number of witnesses that have to be heard."""
        self._log = log
        self._evidence = evidence
        self._confirm_heads = confirm_heads
        self._heard: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, database: Database) -> None:
        """Hold the log if it may have been rolled back, or until the witnesses were heard."""
        with database.reading("compare with published heads") as tx:
            published = [self._log.signer.last, *self._kept_heads()]
            differences = [self._log.differs(tx, head) for head in published]
            difference = next((detail for detail in differences if detail is not None), None)
            active = rosters.read_active(tx)
            needed = 0 if active is None else self._needed(active)
            cosigned = active is not None and any(stored.read_cosigned_size(tx, site) for site in active.site_ids)
        if difference is not None:
            self._hold("log_rolled_back", difference)
        elif cosigned and needed > 0:
            self._log.hold = Hold("log_unconfirmed", f"{needed} witnesses have to show the last heads they cosigned")

    def commands(self, tx: Transaction, site: str) -> list[Command]:
        """Return what a site is asked as a witness: to cosign the next head, or to look at what became final."""
        active, newest = rosters.read_active(tx), stored.read_newest_note(tx)
        if active is None or newest is None or site not in active.site_ids:
            return []
        found: list[Command] = []
        old = stored.read_cosigned_size(tx, site)
        note = stored.read_next_note(tx, old, MOST_STEP)
        if note is None and site not in self._heard:
            note = newest  # nothing is new: this only asks for the head it cosigned last
        if note is not None:
            body = write_add_checkpoint(old, self._log.consistency(tx, old, note.size), note.note)
            found.append(WitnessCommand(kind="witness", add_checkpoint=body))
        final = finality(tx, active).final
        if final:
            found.append(FinalCommand(kind="final", size=final))
        return found

    def accept(self, database: Database, site: str, size: int, note: str) -> int:
        """Take a witness's cosigned head; return how far the log is final now.

        Raises:
            PeerFault: ``checkpoint_malformed``, ``checkpoint_unsigned``, ``signature_invalid`` and the like.
            Refusal: ``witness_unknown``.
            InputError: ``log_rolled_back`` when this log signed that head and the database does not continue it.
        """
        head = self._log.signer.verify(note)
        if head.size != size:
            raise PeerFault("checkpoint_malformed", f"a head of {head.size} entries came as one of {size}")
        with database.reading("check a cosignature") as tx:
            active = rosters.read_active(tx)
            if active is None or site not in active.site_ids:
                raise Refusal("witness_unknown", f"{site} is not in the active roster")
            vkey = LogVkey(witness_name(self._log.origin, site), COSIGNATURE, log_keys(active.roster)[site])
            verify_cosignature(note, vkey)
            difference = self._log.differs(tx, head)
        if difference is not None:
            self._keep(note)
            self._hold("log_rolled_back", difference)
            raise InputError("log_rolled_back", difference)
        with database.transaction("keep a cosignature") as tx:
            before = finality(tx, active).final
            stored.add_cosignature(tx, size, site, lines_of(note, vkey)[0])
            if stored.read_note(tx, size) is None:  # signed just before a crash, and restored from the witness
                own = [line for one in self._log.signer.vkeys for line in lines_of(note, one)]
                stored.add_note(tx, stored.Note(size, head.body() + "\n" + "".join(own)))
            after = finality(tx, active).final
            if after > before:
                tx.touch("agents", "operators")
        self._confirm(site, active)
        return after

    def _confirm(self, site: str, active: StoredRoster) -> None:
        with self._lock:
            self._heard.add(site)
            enough = len(self._heard & set(active.site_ids)) >= self._needed(active)
            if enough and self._log.hold is not None and self._log.hold.code == "log_unconfirmed":
                self._log.hold = None
                _log.info("log_confirmed", witnesses=sorted(self._heard))

    def _needed(self, active: StoredRoster) -> int:
        return enough_to_hear(active.roster) if self._confirm_heads is None else self._confirm_heads

    def _hold(self, code: str, detail: str) -> None:
        with self._lock:
            self._log.hold = Hold(code, detail)
        _log.error(code, detail=detail, evidence=str(self._evidence))

    def _keep(self, note: str) -> None:
        self._evidence.mkdir(mode=0o700, exist_ok=True)
        (self._evidence / f"log-head-{sha256_hex(note.encode())[:16]}.txt").write_text(note, encoding="utf-8")

    def _kept_heads(self) -> list[LogCheckpoint]:
        files = sorted(self._evidence.glob("log-head-*.txt"))
        return [parse_note(file.read_text(encoding="utf-8")).checkpoint for file in files]


def finality(tx: Transaction, active: StoredRoster) -> Finality:
    """Return how far the log is final under a roster. What was accepted is consistent with the stored entries."""
    cosigned = {site: stored.read_cosigned_size(tx, site) for site in active.site_ids}
    quorum = next_quorum(active.roster)
    newest = stored.read_newest_note(tx)
    return Finality(0 if newest is None else newest.size, final_size(cosigned.values(), quorum), quorum, cosigned)


def cosigned_heads(tx: Transaction) -> list[CosignedHead]:
    """Return the newest head each listed site cosigned, with the log's signature and that site's."""
    active = rosters.read_active(tx)
    found = []
    for site in [] if active is None else active.site_ids:
        size = stored.read_cosigned_size(tx, site)
        note, line = stored.read_note(tx, size), stored.read_cosignature(tx, size, site)
        if note is not None and line is not None:
            found.append(CosignedHead(site=site, note=add_signature_lines(note.note, [line])))
    return found


def newest_head(tx: Transaction) -> str | None:
    """Return the newest checkpoint with the cosignatures it has so far."""
    newest = stored.read_newest_note(tx)
    return None if newest is None else add_signature_lines(newest.note, stored.read_cosignatures(tx, newest.size))
