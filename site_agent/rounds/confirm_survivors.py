"""R2 at the site: sign one statement about the survivors, once (PROTOCOLS A7, A10 W3)."""

from datetime import datetime

from shared.errors import PeerFault, Refusal
from shared.protocol.work import CloseCommand
from shared.secagg.certificate import check_statement, uploads_hash
from site_agent.rounds.differencing import note_differencing
from site_agent.rounds.machine import Event, State, is_allowed
from site_agent.rounds.masked_update import bind
from site_agent.rounds.session import Session
from site_agent.signing import sign_and_queue
from site_agent.storage import outbox, rounds
from site_agent.storage.database import Transaction
from site_agent.storage.rounds import StoredRound


def answer(session: Session, work: CloseCommand, now: datetime) -> None:
    """Decide on a statement: sign it, or refuse and tell a person why. The same statement again changes nothing.

    Raises:
        Refusal: the context may not be bound here, or the statement is not one this site can sign.
        PeerFault: ``certificate_statement``, ``decision_conflict`` (two statements for one context).
    """
    ctx_hash, statement_hash = work.ctx.ctx_hash, work.stmt.statement_hash
    with session.database.reading("read decision") as tx:
        decided, stored = rounds.read_decision(tx, ctx_hash), rounds.read_round(tx, ctx_hash)
    if decided == statement_hash:
        return  # the outbox sends, or has sent, the very same bytes
    if decided is not None:
        raise PeerFault("decision_conflict", f"a second statement for {ctx_hash}; this site signed {decided}")
    check_statement(work.stmt.as_json(), work.ctx.as_json())
    named = [(upload.site, upload.manifest) for upload in work.uploads]
    if [site for site, _ in named] != work.stmt.U or uploads_hash(named) != work.stmt.uploads:
        raise PeerFault("certificate_statement", "the list of manifests is not the one the statement names")
    if stored is None:
        bind(session, work.ctx, None, now)
    with session.database.transaction("decide") as tx:
        current = rounds.read_round(tx, ctx_hash)
        if current is None:
            raise Refusal("round_not_bound", f"context {ctx_hash} is not bound here")
        check_may_sign(tx, current)
        _check_own_upload(tx, session.site, work, current)
        signed = sign_and_queue(
            tx, session.identity, "decision", {"stmt": work.stmt.as_json()}, now=now, ctx_hash=ctx_hash,
            path=f"/v1/rounds/{ctx_hash}/decision/{session.site}", study=work.ctx.study,
        )  # fmt: skip
        rounds.add_decision(tx, ctx_hash, statement_hash, work.stmt.U, signed.seq)
        note_differencing(tx, session.site, work.ctx, work.stmt.U, now)
        if session.site not in work.stmt.U:
            outbox.drop_pending(tx, ctx_hash, ("manifest",))  # a late upload is refused anyway
        session.move(tx, current, Event.DECIDE)
        tx.after_commit.append(session.queued)
    session.desk.give_up(work.ctx.study, ctx_hash)
    session.log.info("decided", study=work.ctx.study, round=work.ctx.round, survivors=len(work.stmt.U))


def check_may_sign(tx: Transaction, stored: StoredRound) -> None:
    """Check that this context is still one this site signs for.

    Raises:
        Refusal: ``round_superseded`` once a later round of the study and kind was bound, ``round_wiped``,
            ``round_released`` when shares were released without an own decision.
    """
    if rounds.read_last_round(tx, stored.study, stored.kind) > stored.round:
        raise Refusal(
            "round_superseded", f"a later {stored.kind} round than {stored.round} was bound; nothing is signed"
        )
    if stored.state == State.WIPED:
        raise Refusal("round_wiped", f"round {stored.round} is over here; nothing is signed for it any more")
    if rounds.read_release(tx, stored.ctx_hash) is not None or not is_allowed(stored.state, Event.DECIDE):
        raise Refusal("round_released", f"round {stored.round} was decided here already")


def _check_own_upload(tx: Transaction, site: str, work: CloseCommand, stored: StoredRound) -> None:
    mine = next((upload.manifest for upload in work.uploads if upload.site == site), None)
    if mine is None:
        return
    upload = rounds.read_upload(tx, stored.ctx_hash)
    if upload is None or upload.manifest_hash != mine or stored.state not in {State.SEALED, State.SENT}:
        raise Refusal("manifest_foreign", f"the statement names manifest {mine} as this site's, which it did not seal")
