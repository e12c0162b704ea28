"""Site statements: signed by the right site, once per number, answered with the same receipt (PROTOCOLS 1.6, B3)."""

from datetime import datetime

from coordinator.audit import SYSTEM_ACTOR, AuditLog, Fact
from coordinator.sites import SitePrincipal
from coordinator.storage import statements as stored
from coordinator.storage.database import Transaction
from shared.crypto.identity import VerifyKey
from shared.crypto.signed_envelope import SignedMessage, open_envelope, peek_signer
from shared.errors import InputError, Refusal


def open_statement(envelope: bytes, kind: str, site: str, key: VerifyKey) -> SignedMessage:
    """Verify that `site` signed this; the certificate, the path, the envelope and the payload name the same one.

    Raises:
        Refusal: ``site_mismatch``.
        PeerFault: ``envelope_malformed``, ``envelope_kind``, ``signature_invalid``.
    """
    signer = peek_signer(envelope)
    if signer != site:
        raise Refusal("site_mismatch", f"{site} sent a message signed by {signer}")
    message = open_envelope(envelope, kind, {site: key})
    if message.body.get("site") != site:
        raise Refusal("site_mismatch", f"{site} signed a message that names another site")
    return message


def check_path(principal: SitePrincipal, site: str) -> None:
    """Return if a site acts under its own name.

    Raises:
        Refusal: ``site_mismatch``.
    """
    if principal.site != site:
        raise Refusal("site_mismatch", f"the certificate is {principal.site}'s, the path names {site}")


def find(tx: Transaction, message: SignedMessage) -> stored.Statement | None:
    """Return the accepted statement with these very bytes; None when it is new.

    Raises:
        InputError: ``seq_reused`` when the site signed something else under the same number: two agents share a key, or
            an old state was restored.
    """
    known = stored.read_statement(tx, message.digest)
    if known is not None:
        return known
    seq = message.body.get("seq")
    if isinstance(seq, int) and stored.read_digest_of(tx, message.keyid, seq) is not None:
        raise InputError("seq_reused", f"{message.keyid} has signed another message under number {seq}")
    return None


def note_reuse(tx: Transaction, log: AuditLog, site: str, now: datetime) -> None:
    """Write the alert for a number that was used twice, in a transaction of its own."""
    data = {"detail": "a site signed two messages under one number"}
    log.append(tx, Fact("alert.seq_reused", SYSTEM_ACTOR, data, subject=("site", site), outcome="serious"), now)
