"""The audit export: everything the log rests on, in one archive (PROTOCOLS B5)."""

import io
from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.operators import Principal, actor_of
from coordinator.storage import log as stored
from coordinator.storage import rosters, rounds, studies
from coordinator.storage.database import Database
from shared.audit.archive import ArchiveSource, write_archive
from shared.clock import timestamp
from shared.errors import Refusal


def build_export(database: Database, log: AuditLog, by: Principal, now: datetime) -> bytes:
    """Return the archive over the newest checkpoint; that somebody took it is an entry itself, inside it.

    Raises:
        Refusal: ``roster_missing`` while there has been no active roster to verify anything under.
    """
    with database.transaction("log an export") as tx:
        if rosters.read_active(tx) is None:
            raise Refusal(
                "roster_missing", "no roster is active yet; there is nothing an auditor could verify it under"
            )
        log.append(tx, Fact("audit.exported", actor_of(by), {"size": stored.read_head(tx)[0]}), now)
    log.sign_checkpoint(database)
    target = io.BytesIO()
    with database.reading("build an export") as tx:
        note = stored.read_newest_note(tx)
        if note is None:
            raise Refusal("log_empty", "the log has no checkpoint")
        past = [one for one in rosters.read_rosters(tx) if one.activated_at is not None]
        source = ArchiveSource(
            checkpoint=note.note,
            leaves=(leaf.leaf for leaf in stored.read_leaves(tx, 0, note.size)),
            rosters=[(one.roster, list(rosters.read_approvals(tx, one.version).values())) for one in past],
            envelopes=(body for _, body in stored.read_dsse(tx)),
            contexts=(
                round_.ctx.as_json()
                for study in studies.read_studies(tx)
                for round_ in rounds.read_rounds(tx, study.study)
            ),
        )
        write_archive(target, source, log.idk, timestamp(now))
    return target.getvalue()
