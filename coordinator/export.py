"""The audit export: everything the log rests on, in one archive, whole or in part (PROTOCOLS B5)."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from coordinator.audit import AuditLog, Fact, end_of_study
from coordinator.operators import Principal, actor_of
from coordinator.storage import log as stored
from coordinator.storage import rosters, rounds, studies
from coordinator.storage.database import Database, Transaction
from shared.audit.archive import ArchiveSource, Disclosure, write_archive
from shared.audit.log_checkpoint import add_signature_lines
from shared.audit.selection import Selection
from shared.canonical import JsonObject
from shared.clock import timestamp
from shared.errors import InputError, Refusal
from shared.secagg.roster import next_quorum

_PAGE = 1024


@dataclass(frozen=True, slots=True)
class Wish:
    """What an auditor asks for: which part, with or without disclosures, up to a final head or not, in which forms."""

    selection: Selection | None = None
    disclosures: bool = True
    final: bool = False
    derived: tuple[str, ...] = ()


def build_export(database: Database, log: AuditLog, by: Principal, wish: Wish, now: datetime) -> bytes:
    """Return the archive; that somebody took it is an entry itself. A study's export says where the study ends.

    Raises:
        InputError: ``study_unknown``.
        Refusal: ``roster_missing`` while there has been no active roster to verify anything under; ``log_head_pending``
            when a final head was asked for and no quorum of hospitals has cosigned one.
    """
    with database.transaction("log an export") as tx:
        if rosters.read_active(tx) is None:
            raise Refusal(
                "roster_missing", "no roster is active yet; there is nothing an auditor could verify it under"
            )
        log.append_many(tx, _facts(tx, by, wish), now)
    log.sign_checkpoint(database)
    target = io.BytesIO()
    with database.reading("build an export") as tx:
        past = [one for one in rosters.read_rosters(tx) if one.activated_at is not None]
        note = _head(tx, next_quorum(past[-1].roster), wish)
        cosigned = stored.read_cosigned(tx, note.size)
        heads = [add_signature_lines(text, list(lines.values())) for text, lines in cosigned.values()]
        if note.size in cosigned:
            note = stored.Note(note.size, heads.pop())
        erasures = stored.read_leaves_of_type(tx, "disclosure.erased")
        if wish.disclosures and erasures and erasures[-1].index >= note.size:
            # The archive would lack both a disclosure and the order that had it erased.
            raise Refusal("log_head_pending", "disclosures were erased after this head; leave them out, or ask again")
        disclosures = (Disclosure(row[0], row[2], json.loads(row[3]), row[4]) for row in stored.read_disclosures(tx))
        source = ArchiveSource(
            checkpoint=note.note,
            leaves=_Leaves(tx, note.size),
            rosters=[(one.roster, list(rosters.read_approvals(tx, one.version).values())) for one in past],
            envelopes=(body for _, body in stored.read_dsse(tx)),
            contexts=(
                round_.ctx.as_json()
                for study in studies.read_studies(tx)
                for round_ in rounds.read_rounds(tx, study.study)
            ),
            heads=heads,
            disclosures=disclosures if wish.disclosures else None,
            selection=wish.selection,
            derived=wish.derived,
        )
        write_archive(target, source, log.idk, timestamp(now))
    return target.getvalue()


def _facts(tx: Transaction, by: Principal, wish: Wish) -> list[Fact]:
    """Return the entries of an export: where the study it is about ends, and that somebody took it."""
    facts: list[Fact] = []
    data: JsonObject = {"size": stored.read_head(tx)[0]}
    if wish.selection is not None:
        data["selection"] = wish.selection.as_json()
    if wish.selection is not None and wish.selection.study is not None:
        study = wish.selection.study
        end = end_of_study(tx, study)
        if end is None:
            raise InputError("study_unknown", f"no entry of the log is about a study {study!r}")
        facts.append(Fact("study.heads", actor_of(by), {"heads": {study: {"seq": end[0], "leaf": end[1]}}}))
    return [*facts, Fact("audit.exported", actor_of(by), data)]


def _head(tx: Transaction, quorum: int, wish: Wish) -> stored.Note:
    """Return the newest checkpoint, or the newest one that a quorum of sites has cosigned."""
    newest = stored.read_newest_note(tx)
    if newest is None:
        raise Refusal("log_empty", "the log has no checkpoint")
    if not wish.final:
        return newest
    cosigned = stored.read_cosigned(tx, newest.size)
    final = max((size for size, (_, lines) in cosigned.items() if len(lines) >= quorum), default=None)
    if final is None:
        raise Refusal("log_head_pending", f"no head is cosigned by {quorum} sites yet")
    return stored.Note(final, cosigned[final][0])


class _Leaves:
    """The first entries of the log, read page by page as often as they are gone through."""

    def __init__(self, tx: Transaction, size: int) -> None:
        self._tx = tx
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self._size, _PAGE):
            yield from (one.leaf for one in stored.read_leaves(self._tx, start, min(start + _PAGE, self._size)))
