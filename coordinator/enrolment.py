"""Enrolment: one-time token, request, comparison of fingerprints, certificate (PROTOCOLS C2)."""

import base64
import os
from datetime import datetime, timedelta

from coordinator.audit import COORDINATOR_ACTOR, SYSTEM_ACTOR, AuditLog, Fact
from coordinator.enrolment_states import Event, next_state
from coordinator.keys import Keys
from coordinator.operators import Principal, actor_of
from coordinator.storage import invitations as stored
from coordinator.storage import sites as stored_sites
from coordinator.storage.database import Transaction
from shared.audit.entries import Actor
from shared.canonical import b64u, from_b64u, sha256_hex, tagged_hash
from shared.clock import parse_timestamp, timestamp
from shared.crypto import x509
from shared.crypto.fingerprint import normalise_fingerprint, site_fingerprint
from shared.crypto.identity import VerifyKey
from shared.crypto.sealing import KemPublicKey, check_public_key
from shared.crypto.signed_envelope import open_envelope
from shared.errors import InputError, PeerFault, Refusal
from shared.ids import check_id, uuid7
from shared.protocol.enrolment import (
    TOKEN_PREFIX,
    EnrolmentGranted,
    EnrolmentPending,
    EnrolmentPoll,
    EnrolmentRequest,
    Invitation,
)
from shared.secagg.roster import kem_attest_message

RETRY_SECONDS = 2
_CHECKSUM_LETTERS = 4


def invite(
    tx: Transaction, log: AuditLog, keys: Keys, by: Principal, *, federation: str, site: str, name: str, url: str,
    hours: int, now: datetime,
) -> Invitation:  # fmt: skip
    """Invite a hospital; an earlier invitation of the same site loses its force.

    Raises:
        InputError: ``id_malformed``, ``site_exists`` when it is approved already.
    """
    check_id(site, "site")
    known = stored_sites.read_site(tx, site)
    next_state(None if known is None else known.state, Event.INVITE)
    token = new_token()
    expires_at = timestamp(now + timedelta(hours=hours))
    stored_sites.set_invited(tx, site, name)
    stored.add_invitation(tx, token_hash(token), site, name, expires_at)
    data = {"site": site, "token_hash": token_hash(token), "expires_at": expires_at}
    log.append(tx, Fact("enrol.invited", actor_of(by), data, subject=("site", site)), now)
    return Invitation(
        v="SA1",
        kind="invitation",
        federation=federation,
        site=site,
        url=url,
        pin=keys.pin,
        root=b64u(keys.root_der),
        token=token,
        expires_at=expires_at,
    )


def request(tx: Transaction, log: AuditLog, keys: Keys, message: EnrolmentRequest, now: datetime) -> EnrolmentPending:
    """Take an enrolment request and consume its token; the identical request again gets the identical answer.

    Raises:
        Refusal: ``enrolment_token_unknown``, ``enrolment_token_expired``, ``enrolment_token_used``.
        PeerFault: ``signature_invalid``, ``csr_invalid``, ``key_malformed``, ``base64_malformed``.
    """
    invitation = stored.read_by_token(tx, token_hash(message.token))
    if invitation is None or invitation.state == "replaced":
        raise Refusal("enrolment_token_unknown", "the token is not known, or a newer invitation replaced it")
    digest = sha256_hex(message.canonical())
    if invitation.request_id is not None:
        if invitation.request_digest != digest:
            raise Refusal("enrolment_token_used", f"the token of {invitation.site} was used with other keys")
        return _pending(invitation.request_id, _fingerprint(message))
    if parse_timestamp(invitation.expires_at) <= now:
        raise Refusal("enrolment_token_expired", f"the invitation of {invitation.site} expired {invitation.expires_at}")
    kem = _check_request(message, keys)
    request_id = uuid7(int(now.timestamp() * 1000))
    stored.set_used(
        tx, invitation.token_hash, request_id, digest, message.model_copy(update={"token": ""}).canonical().decode()
    )
    stored_sites.set_pending(
        tx,
        invitation.site,
        name=message.name or invitation.name,
        legal=message.legal,
        idk=from_b64u(message.idk, size=32),
        log_key=from_b64u(message.log_key, size=32),
        kem_mlkem768=kem.mlkem768,
        kem_x25519=kem.x25519,
        kem_seq=message.kem_seq,
        kem_attest=from_b64u(message.kem_attest, size=64),
        fingerprint=_fingerprint(message),
    )
    actor = Actor("site", invitation.site, "token")
    data = {
        "site": invitation.site,
        "request": request_id,
        "idk": message.idk,
        "fingerprint": _fingerprint(message),
        "csr_sha256": sha256_hex(from_b64u(message.csr)),
    }
    log.append(tx, Fact("enrol.requested", actor, data, subject=("site", invitation.site)), now)
    return _pending(request_id, _fingerprint(message))


def note_reuse(tx: Transaction, log: AuditLog, token: str, now: datetime) -> None:
    """Write the alert for a token that was used twice; in a transaction of its own, because the request failed."""
    invitation = stored.read_by_token(tx, token_hash(token))
    if invitation is not None:
        data = {"detail": "an enrolment token was used a second time, with other keys"}
        subject = ("site", invitation.site)
        log.append(tx, Fact("alert.enrolment_token_used", SYSTEM_ACTOR, data, subject=subject, outcome="serious"), now)


def approve(
    tx: Transaction, log: AuditLog, keys: Keys, by: Principal, *, federation: str, site: str, fingerprint: str,
    days: int, now: datetime,
) -> str:  # fmt: skip
    """Issue the certificate of a pending site whose fingerprint the administrator has compared; return its serial.

    Raises:
        InputError: ``site_unknown``, ``site_not_pending``, ``fingerprint_malformed``.
        Refusal: ``fingerprint_mismatch``.
    """
    found, invitation = _pending_site(tx, site, Event.APPROVE)
    if normalise_fingerprint(fingerprint) != found.fingerprint:
        raise Refusal("fingerprint_mismatch", f"the fingerprint given is not the one {site} enrolled with")
    message = EnrolmentRequest.parse((invitation.request or "").encode())
    certificate = keys.issue_site_certificate(from_b64u(message.csr), federation, site, now, days)
    facts = x509.read_site_certificate(certificate)
    stored_sites.set_approved(tx, site, certificate, facts.serial, timestamp(facts.not_after))
    stored.set_decided(tx, invitation.token_hash, "approved")
    subject = ("site", site)
    approved = {"site": site, "fingerprint": found.fingerprint}
    until = timestamp(facts.not_after)
    issued = {"site": site, "serial": facts.serial, "sha256": facts.sha256, "not_after": until}
    log.append_many(
        tx,
        [
            Fact("enrol.approved", actor_of(by), approved, subject=subject),
            Fact("cert.issued", COORDINATOR_ACTOR, issued, subject=subject),
        ],
        now,
    )
    return facts.serial


def reject(tx: Transaction, log: AuditLog, by: Principal, site: str, now: datetime) -> None:
    """Turn a pending site away; its token is dead.

    Raises:
        InputError: ``site_unknown``, ``site_not_pending``.
    """
    _, invitation = _pending_site(tx, site, Event.REJECT)
    stored_sites.set_state(tx, site, "rejected")
    stored.set_decided(tx, invitation.token_hash, "rejected")
    log.append(tx, Fact("enrol.rejected", actor_of(by), {"site": site}, subject=("site", site)), now)


def answer_poll(
    tx: Transaction, keys: Keys, log_vkey: str, federation: str, request_id: str, envelope: bytes
) -> EnrolmentPending | EnrolmentGranted:
    """Answer a site that waits for its certificate; it proves by its identity key that the request is its own.

    Raises:
        InputError: ``enrolment_unknown``.
        Refusal: ``enrolment_rejected``.
        PeerFault: ``signature_invalid``, ``signer_unknown``, ``envelope_malformed``, ``message_malformed``.
    """
    invitation = stored.read_by_request(tx, request_id)
    if invitation is None or invitation.request is None:
        raise InputError("enrolment_unknown", f"there is no enrolment request {request_id[:64]!r}")
    site = invitation.site
    message = EnrolmentRequest.parse(invitation.request.encode())
    signed = open_envelope(envelope, "enrolment", {site: VerifyKey.from_bytes(from_b64u(message.idk, size=32))})
    if EnrolmentPoll.check(signed.body).request_id != request_id:
        raise PeerFault("message_malformed", "the signed poll is about another enrolment request")
    found = stored_sites.read_site(tx, site)
    if invitation.state in {"rejected", "replaced"} or found is None or found.state == "revoked":
        raise Refusal("enrolment_rejected", f"the administrator did not accept the enrolment of {site}")
    if invitation.state == "pending" or found.certificate is None:
        return _pending(request_id, _fingerprint(message))
    return EnrolmentGranted(
        request_id=request_id,
        state="approved",
        site=site,
        federation=federation,
        chain=[b64u(found.certificate), b64u(keys.clients.cert_der)],
        root=b64u(keys.root_der),
        coordinator_idk=b64u(keys.idk.verify_key.bytes),
        coordinator_log_vkey=log_vkey,
    )


def new_token() -> str:
    """Return ``FT1-``, 160 random bits in base32 and a checksum that catches typing errors."""
    body = base64.b32encode(os.urandom(20)).decode("ascii")
    return TOKEN_PREFIX + body + _checksum(body)


def token_hash(token: str) -> str:
    """Return what is stored of an enrolment token."""
    return tagged_hash("FED token", token.encode("ascii", "replace")).hex()


def _checksum(body: str) -> str:
    return base64.b32encode(tagged_hash("FED token checksum", body.encode())).decode("ascii")[:_CHECKSUM_LETTERS]


def _check_request(message: EnrolmentRequest, keys: Keys) -> KemPublicKey:
    if not message.name.isprintable() or not message.legal.isprintable():
        # No roster takes such a name, and on an administrator's screen it could hide the fingerprint beside it.
        raise PeerFault("message_malformed", "name and legal are one line of printable text each")
    idk = VerifyKey.from_bytes(from_b64u(message.idk, size=32))
    VerifyKey.from_bytes(from_b64u(message.log_key, size=32))
    kem = KemPublicKey(from_b64u(message.kem.mlkem768, size=1184), from_b64u(message.kem.x25519, size=32))
    check_public_key(kem)
    idk.verify(from_b64u(message.kem_attest, size=64), kem_attest_message(kem, message.kem_seq))
    idk.verify(from_b64u(message.attest, size=64), message.attested(keys.pin))
    # A certificate is only issued at approval; a bad request must not consume the token before.
    keys.issue_site_certificate(
        from_b64u(message.csr), "check", "check", datetime.fromisoformat("2026-01-01T00:00:00Z"), 1
    )
    return kem


def _pending_site(tx: Transaction, site: str, event: Event) -> tuple[stored_sites.Site, stored.StoredInvitation]:
    found = stored_sites.read_site(tx, site)
    if found is None:
        raise InputError("site_unknown", f"there is no site {site!r}")
    invitation = stored.read_pending(tx, site)
    next_state(found.state, event)
    if invitation is None:
        raise InputError("site_not_pending", f"{site} is {found.state}, not waiting for approval")
    return found, invitation


def _pending(request_id: str, fingerprint: str) -> EnrolmentPending:
    return EnrolmentPending(
        request_id=request_id, state="pending", fingerprint=fingerprint, retry_after_seconds=RETRY_SECONDS
    )


def _fingerprint(message: EnrolmentRequest) -> str:
    return site_fingerprint(from_b64u(message.idk, size=32), from_b64u(message.log_key, size=32))
