"""Complaints: signed evidence that a share blob or an envelope did not open (PROTOCOLS A7)."""

from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.sites import SitePrincipal
from coordinator.storage import pairings, rounds
from coordinator.storage.database import Transaction
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import PeerFault
from shared.protocol.unmask import Complaint


def accept(
    tx: Transaction, log: AuditLog, principal: SitePrincipal, message: SignedMessage, digest: str, now: datetime
) -> None:
    """Keep a complaint; how many there are about one dealer decides when the round is opened.

    The first complaint of a site about another one's bundle asks both for new ones.

    Raises:
        PeerFault: ``message_malformed``.
    """
    complaint = Complaint.check(message.body)
    if digest != message.digest:
        raise PeerFault("message_malformed", "the path names another complaint than the body")
    site = principal.site
    if complaint.ctx_hash is None and complaint.pairing_hash is None:
        raise PeerFault("message_malformed", "a complaint is about a context or about a bundle")
    round_ = None if complaint.ctx_hash is None else rounds.read_round(tx, complaint.ctx_hash)
    if complaint.pairing_hash is not None and not rounds.has_complained(tx, site, complaint.about):
        # Once, both ends get another chance; who goes on complaining about the same site cannot keep it busy for ever.
        study_of = pairings.read_study_of(tx, complaint.pairing_hash)
        if study_of is not None:
            pairings.set_renew(tx, study_of, [site, complaint.about])
            tx.touch("agents", f"study/{study_of}")
    rounds.add_complaint(
        tx, message.digest, site, complaint.about, complaint.ctx_hash, complaint.pairing_hash, complaint.code
    )
    tx.touch("operators")
    data = {"site": site, "about": complaint.about, "code": complaint.code}
    study = None if round_ is None else round_.study
    type_ = "pairing.complaint"
    if round_ is not None:
        type_, data = "round.complaint", {**data, "ctx_hash": round_.ctx_hash or ""}
    fact = Fact(type_, principal.actor, data, study, ("site", complaint.about), evidence=(message.envelope_digest,))
    log.append_statement(tx, message, fact, now)
