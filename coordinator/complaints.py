"""Complaints: signed evidence that a share blob or an envelope did not open (PROTOCOLS A7)."""

from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.sites import SitePrincipal
from coordinator.storage import rounds
from coordinator.storage.database import Transaction
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import PeerFault
from shared.protocol.unmask import Complaint


def accept(
    tx: Transaction, log: AuditLog, principal: SitePrincipal, message: SignedMessage, digest: str, now: datetime
) -> None:
    """Keep a complaint; how many there are about one dealer decides when the round is opened.

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
