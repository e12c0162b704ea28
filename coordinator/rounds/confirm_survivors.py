"""R2 at the coordinator: one statement about the survivors, t signatures of it (PROTOCOLS A7)."""

import functools
from datetime import datetime

from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.blobs.uploads import Uploads
from coordinator.presence import Presence
from coordinator.rounds.machine import is_accepted, next_state
from coordinator.rounds.seed_commits import consistent
from coordinator.sites import SitePrincipal
from coordinator.storage import rounds
from coordinator.storage.database import Transaction
from coordinator.storage.rounds import Round
from shared.canonical import sha256_hex
from shared.clock import timestamp
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.confirm_survivors import Decision, Statement
from shared.secagg.certificate import statement, uploads_hash


def propose(tx: Transaction, log: AuditLog, uploads: Uploads, presence: Presence, round_: Round, now: datetime) -> bool:
    """Fix the survivor set and propose it; what others staged, or contradicts the survivors, is deleted unread.

    Waits (returns False) while fewer than t members are online: a statement nobody signs would be of no use.
    """
    ctx, ctx_hash = round_.ctx, round_.ctx_hash or ""
    received = consistent(ctx_hash, rounds.read_uploads(tx, ctx_hash))
    online = [site for site in ctx.sites if presence.is_online(site, now)]
    if len(online) < ctx.t:
        reason = f"{len(online)} of at least {ctx.t} invited sites are online to confirm the survivors"
        if round_.reason != reason:
            rounds.set_round(tx, round_.id, reason=reason)
            tx.touch("operators")
        return False
    digest = uploads_hash([(site, upload.manifest_hash) for site, upload in received.items()])
    stmt = Statement.check(statement(ctx_hash, received, digest))
    rounds.set_round(
        tx, round_.id, state=next_state(round_.state, "close"), stmt=stmt.canonical().decode(),
        stmt_hash=stmt.statement_hash, closed_at=timestamp(now), reason=None,
    )  # fmt: skip
    left_out = [site for site in ctx.sites if site not in received]
    for site in left_out:
        tx.after_commit.append(functools.partial(uploads.wipe_site, ctx_hash, site))
    tx.touch("agents", "operators", f"study/{round_.study}")
    data = {"ctx_hash": ctx_hash, "stmt_hash": stmt.statement_hash, "survivors": len(stmt.U), "invited": len(ctx.P)}
    log.append(tx, Fact("round.close.proposed", COORDINATOR_ACTOR, data, round_.study, ("round", ctx_hash)), now)
    return True


def accept(
    tx: Transaction, log: AuditLog, principal: SitePrincipal, message: SignedMessage, round_: Round, now: datetime
) -> None:
    """Take a decision; the t-th one completes the certificate.

    Raises:
        Refusal: ``round_closed``.
        InputError: ``statement_conflict`` for a second decision of the same site.
        PeerFault: ``decision_mismatch`` for another statement, ``message_malformed``.
    """
    decision = Decision.check(message.body)
    site, ctx_hash = principal.site, round_.ctx_hash or ""
    if not is_accepted(round_.state, "decision"):
        raise Refusal("round_closed", f"the round is {round_.state}; no decision is asked for")
    if round_.stmt is None or decision.stmt != round_.stmt:
        raise PeerFault("decision_mismatch", f"{site} signed another statement than the one proposed")
    decisions = rounds.read_decisions(tx, ctx_hash)
    if site in decisions:
        raise InputError("statement_conflict", f"{site} has already signed a decision for this context")
    rounds.add_decision(tx, ctx_hash, site, message.envelope)
    decisions[site] = message.envelope
    tx.touch("operators")
    subject = ("round", ctx_hash)
    data = {"ctx_hash": ctx_hash, "stmt_hash": round_.stmt_hash, "site": site}
    fact = Fact("round.decided", principal.actor, data, round_.study, subject, evidence=(message.envelope_digest,))
    log.append_statement(tx, message, fact, now)
    if round_.state == "CLOSING" and len(decisions) >= round_.ctx.t:
        rounds.set_round(tx, round_.id, state=next_state(round_.state, "certify"))
        tx.touch("agents", f"study/{round_.study}")
        cert = certificate(decisions, round_.ctx.t)
        certified = {"ctx_hash": ctx_hash, "stmt_hash": round_.stmt_hash, "signers": sorted(cert)}
        evidence = tuple(sha256_hex(envelope) for envelope in cert.values())
        log.append(tx, Fact("round.cert", COORDINATOR_ACTOR, certified, round_.study, subject, evidence=evidence), now)


def certificate(decisions: dict[str, bytes], t: int) -> dict[str, bytes]:
    """Return the t decisions that are shown to everybody: always the same ones, by site id."""
    return dict(sorted(decisions.items())[:t])
