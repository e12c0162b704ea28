"""Certificates of sites after enrolment: renewed by the identity key, revoked by their site (PROTOCOLS C2, C3)."""

from datetime import datetime, timedelta

from coordinator import rosters
from coordinator.audit import AuditLog, Fact
from coordinator.enrolment_states import Event, next_state
from coordinator.keys import Keys
from coordinator.storage import log as stored_log
from coordinator.storage import rosters as stored_rosters
from coordinator.storage import sites as stored
from coordinator.storage.database import Transaction
from shared.audit.entries import Actor
from shared.canonical import b64u, from_b64u
from shared.clock import parse_timestamp, timestamp
from shared.crypto import x509
from shared.crypto.certificate_keys import is_for_same_key
from shared.crypto.identity import VerifyKey
from shared.crypto.signed_envelope import SignedMessage, open_envelope, peek_signer
from shared.errors import InputError, Refusal
from shared.protocol.certificates import RENEWABLE_DAYS, Renewal, Renewed, SelfRevocation


def open_request(tx: Transaction, envelope: bytes) -> tuple[stored.Site, SignedMessage]:
    """Return the site that signed a request under its identity key, and the request; its state is checked by others.

    Raises:
        InputError: ``site_unknown``.
        PeerFault: ``envelope_malformed``, ``envelope_kind``, ``signature_invalid``.
        Refusal: ``site_mismatch``.
    """
    signer = peek_signer(envelope)
    found = stored.read_site(tx, signer)
    if found is None or found.idk is None:
        raise InputError("site_unknown", f"there is no site {signer!r} with an identity key")
    message = open_envelope(envelope, "enrolment", {signer: VerifyKey.from_bytes(found.idk)})
    if message.body.get("site") != signer:
        raise Refusal("site_mismatch", f"{signer} signed a message that names another site")
    return found, message


def renew(
    tx: Transaction, log: AuditLog, keys: Keys, envelope: bytes, actor: Actor, *, federation: str, days: int,
    now: datetime,
) -> Renewed:  # fmt: skip
    """Issue the next certificate of an approved site; the same key again gets the same certificate.

    Raises:
        Refusal: ``site_revoked``, ``renewal_too_late``.
        InputError: ``site_not_approved``.
        PeerFault: ``csr_invalid``, ``message_malformed``, and what `open_request` raises.
    """
    site, message = open_request(tx, envelope)
    if site.state == "revoked":
        raise Refusal("site_revoked", f"{site.site} was revoked")
    next_state(site.state, Event.RENEW)
    if site.certificate is None or site.certificate_not_after is None:
        raise Refusal("site_not_approved", f"{site.site} has no certificate to renew")
    until = parse_timestamp(site.certificate_not_after)
    if now > until + timedelta(days=RENEWABLE_DAYS):
        raise Refusal("renewal_too_late", f"the certificate of {site.site} ran out {site.certificate_not_after}")
    csr = from_b64u(Renewal.check(message.body).csr)
    made = keys.issue_site_certificate(csr, federation, site.site, now, days)
    if is_for_same_key(made, site.certificate) and until > now:
        return _renewed(keys, site.certificate)  # the answer was lost, or an earlier request came twice
    facts = x509.read_site_certificate(made)
    not_after = timestamp(facts.not_after)
    stored.set_renewed(tx, site.site, made, facts.serial, not_after, timestamp(now))
    data = {"site": site.site, "serial": facts.serial, "sha256": facts.sha256, "not_after": not_after}
    evidence = keep_evidence(tx, site, message)
    log.append(tx, Fact("cert.renewed", actor, data, subject=("site", site.site), evidence=evidence), now)
    return _renewed(keys, made)


def revoke_self(tx: Transaction, log: AuditLog, envelope: bytes, now: datetime) -> str:
    """Shut a site out at its own word; return its id. Whoever holds its TLS key or its folder can do nothing more.

    Raises:
        Refusal: ``site_revoked`` when that is done already.
        InputError: ``site_not_approved``.
        PeerFault: ``message_malformed``, and what `open_request` raises.
    """
    site, message = open_request(tx, envelope)
    asked = SelfRevocation.check(message.body)
    if site.state == "revoked":
        raise Refusal("site_revoked", f"{site.site} was revoked")
    stored.set_state(tx, site.site, next_state(site.state, Event.REVOKE))
    tx.touch("agents", "operators")
    data = {"site": site.site, "serial": site.certificate_serial, "reason": asked.reason}
    actor = Actor("site", site.site, "idk")
    evidence = keep_evidence(tx, site, message)
    log.append(tx, Fact("cert.revoked", actor, data, subject=("site", site.site), evidence=evidence), now)
    return site.site


def keep_evidence(tx: Transaction, site: stored.Site, message: SignedMessage) -> tuple[str, ...]:
    """Keep a site's request beside the log, if an auditor can check it: the roster has to pin the key that signed."""
    active = stored_rosters.read_active(tx)
    if active is None or not rosters.is_pinned(active, site.site, site.idk):
        return ()
    stored_log.add_dsse(tx, message.envelope_digest, message.envelope)
    return (message.envelope_digest,)


def _renewed(keys: Keys, certificate: bytes) -> Renewed:
    return Renewed(chain=[b64u(certificate), b64u(keys.clients.cert_der)], root=b64u(keys.root_der))
