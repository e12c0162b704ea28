"""This hospital's reasoned no to a context: signed once, and never a failure for the others (PROTOCOLS A7)."""

from datetime import datetime

from shared.clock import timestamp
from shared.errors import MitralError
from shared.protocol.round_context import Context
from site_agent.identity import SiteIdentity
from site_agent.rounds.session import Session
from site_agent.signing import sign_and_queue
from site_agent.storage import outbox, rounds
from site_agent.storage.database import Transaction


def refuse(session: Session, ctx: Context, reason: MitralError, now: datetime) -> None:
    """Sign and queue a refusal of `ctx`, unless one stands already or something was sealed for it."""
    with session.database.transaction("refuse") as tx:
        if rounds.read_refusal(tx, ctx.ctx_hash) is not None or rounds.read_upload(tx, ctx.ctx_hash) is not None:
            return
        queue_refusal(tx, session.identity, ctx, reason, now)
        tx.after_commit.append(session.queued)
    session.folder.erase_round(ctx.ctx_hash)
    detail = detail_without_data(reason)
    session.log.warning("refused", code=reason.code, detail=detail, study=ctx.study, round=ctx.round, kind=ctx.kind)


def queue_refusal(tx: Transaction, identity: SiteIdentity, ctx: Context, reason: MitralError, now: datetime) -> None:
    """Record, sign and queue a refusal; an update that still waits to be sent is not sent any more."""
    ctx_hash = ctx.ctx_hash
    rounds.add_refusal(tx, ctx, reason.code, detail_without_data(reason)[:500], timestamp(now))
    outbox.drop_pending(tx, ctx_hash, ("manifest",))
    body = {"ctx_hash": ctx_hash, "code": reason.code, "detail": reason.meaning.title[:500]}
    path = f"/v1/rounds/{ctx_hash}/refusal/{identity.site}"
    sign_and_queue(tx, identity, "refusal", body, path=path, now=now, ctx_hash=ctx_hash, study=ctx.study)


def detail_without_data(reason: MitralError) -> str:
    """Return what may be stored and logged of a reason: messages about data quote cells, so only their title is."""
    return reason.meaning.title if reason.code.startswith("data_") else reason.detail
