"""Joining a federation: keys are made here, people compare the fingerprint, a certificate comes back (PROTOCOLS C2)."""

import hmac
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Event

from shared.canonical import b64u, from_b64u
from shared.clock import Clock, parse_timestamp, timestamp
from shared.crypto.fingerprint import site_fingerprint
from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.sealing import KemPrivateKey
from shared.crypto.secret import Secret
from shared.crypto.signed_envelope import sign_envelope
from shared.crypto.x509 import TlsKey, check_issued_by, der_list, make_csr, pem, read_site_certificate, spki_pin
from shared.errors import InputError, MitralError, PeerFault, Refusal
from shared.protocol.enrolment import (
    EnrolmentGranted,
    EnrolmentPending,
    EnrolmentPoll,
    EnrolmentRequest,
    Invitation,
    KemKeys,
)
from shared.secagg.roster import attest_kem
from site_agent.answers import Retry
from site_agent.backoff import Backoff
from site_agent.coordinator_client import CoordinatorClient
from site_agent.state_folder import StateFolder
from site_agent.storage import certificates
from site_agent.storage import enrolment as rows
from site_agent.storage.database import Database, Transaction
from site_agent.storage.enrolment import StoredEnrolment
from site_agent.tls import load_client_certificate

ASK_SECONDS = 1.0
RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """How far enrolment got."""

    site: str
    federation: str
    fingerprint: str
    approved: bool


def read_invitation(raw: bytes, now: datetime) -> Invitation:
    """Return the invitation in a file, with its root certificate checked against its pin.

    Raises:
        InputError: ``invitation_invalid`` for a file that is none, an expired one, or another root than the pinned one.
    """
    try:
        invitation = Invitation.parse(raw)
        pin = spki_pin(from_b64u(invitation.root))
    except PeerFault as error:
        raise InputError("invitation_invalid", f"the file is not an invitation: {error.detail}") from error
    if not hmac.compare_digest(pin, invitation.pin):
        raise InputError("invitation_invalid", "the root certificate in the file is not the pinned one")
    if parse_timestamp(invitation.expires_at) < now:
        raise InputError("invitation_invalid", f"the invitation ran out at {invitation.expires_at}")
    return invitation


def prepare_request(
    database: Database, invitation: Invitation, name: str, random: RandomBytes, *, again: bool = False
) -> StoredEnrolment:
    """Make every key of this site and store the request before anything is sent; a second call returns the first's.

    A site that took itself out, or that is told to enrol `again` (it was revoked, or away for too long), keeps its
    identity: only the TLS key is new.

    Raises:
        InputError: ``enrolled_elsewhere`` when this state directory belongs to another invitation.
    """
    with database.transaction("prepare enrolment") as tx:
        stored = rows.read_enrolment(tx)
        if stored is not None:
            same = (stored.site, stored.federation, stored.pin) == (
                invitation.site,
                invitation.federation,
                invitation.pin,
            )
            if not same:
                raise InputError(
                    "enrolled_elsewhere", f"this state directory is of {stored.site} in {stored.federation}"
                )
            if stored.state == "revoked" or (again and stored.state == "approved"):
                _request_again(tx, stored, invitation, name or stored.name, random)
                return _read(tx)
            return stored
        idk, log_key, kem, tls_key = (
            SigningKey.generate(),
            SigningKey.generate(),
            KemPrivateKey.generate(),
            TlsKey.generate(),
        )
        password = Secret(b64u(random(32)).encode())
        public = kem.public_key
        request = build_request(invitation, tls_key, idk, log_key, kem, 1, name)
        rows.add_enrolment(
            tx, site=invitation.site, name=name, federation=invitation.federation, url=invitation.url,
            pin=invitation.pin, root=from_b64u(invitation.root), request=request.canonical(),
            fingerprint=site_fingerprint(idk.verify_key.bytes, log_key.verify_key.bytes),
            idk=idk.verify_key.bytes, idk_seed=idk.seed, log_key=log_key.verify_key.bytes, log_seed=log_key.seed,
            kem_mlkem768=public.mlkem768, kem_x25519=public.x25519, kem_seeds=kem.seeds, kem_seq=1,
            tls_key=tls_key.to_encrypted_pem(password), tls_password=password,
        )  # fmt: skip
        return _read(tx)


def build_request(
    invitation: Invitation, tls_key: TlsKey, idk: SigningKey, log_key: SigningKey, kem: KemPrivateKey, kem_seq: int,
    name: str,
) -> EnrolmentRequest:  # fmt: skip
    """Return a request for these keys, signed by the identity key."""
    public = kem.public_key
    request = EnrolmentRequest(
        token=invitation.token,
        csr=b64u(make_csr(tls_key)),
        idk=b64u(idk.verify_key.bytes),
        log_key=b64u(log_key.verify_key.bytes),
        kem=KemKeys(mlkem768=b64u(public.mlkem768), x25519=b64u(public.x25519)),
        kem_seq=kem_seq,
        kem_attest=b64u(attest_kem(idk, public, kem_seq)),
        name=name,
        legal="",
        attest="",
    )
    return request.model_copy(update={"attest": b64u(idk.sign(request.attested(invitation.pin)))})


def _request_again(
    tx: Transaction, stored: StoredEnrolment, invitation: Invitation, name: str, random: RandomBytes
) -> None:
    tls_key, password = TlsKey.generate(), Secret(b64u(random(32)).encode())
    request = build_request(
        invitation, tls_key, SigningKey.from_seed(stored.idk_seed), SigningKey.from_seed(stored.log_seed),
        KemPrivateKey.from_seeds(stored.kem_seeds), stored.kem_seq, name,
    )  # fmt: skip
    rows.set_requested_again(
        tx, url=invitation.url, name=name, request=request.canonical(), tls_key=tls_key.to_encrypted_pem(password),
        tls_password=password,
    )  # fmt: skip


def _read(tx: Transaction) -> StoredEnrolment:
    made = rows.read_enrolment(tx)
    if made is None:
        raise InputError("not_enrolled", "no enrolment was prepared in this state directory")
    return made


def send_request(database: Database, client: CoordinatorClient) -> None:
    """Send the stored request, the same bytes every time, unless the coordinator has acknowledged it.

    Raises:
        PeerFault: ``enrolment_answer`` when the coordinator shows another fingerprint than this site's.
    """
    with database.reading("read enrolment request") as tx:
        stored, body = rows.read_enrolment(tx), rows.read_request(tx)
    if stored is None or stored.state != "requested":
        return
    answer = client.request("POST", "/v1/enrol", body=body, headers={"Content-Type": "application/json"})
    pending = EnrolmentPending.check(answer.json())
    if pending.fingerprint != stored.fingerprint:
        raise PeerFault("enrolment_answer", f"the coordinator shows the fingerprint {pending.fingerprint}")
    with database.transaction("enrolment pending") as tx:
        rows.set_pending(tx, pending.request_id)


def ask_for_certificate(database: Database, client: CoordinatorClient, now: datetime) -> bool:
    """Ask once whether an administrator has approved; store and check what comes with it. Returns whether it did.

    Raises:
        Refusal: ``enrolment_rejected``; the request is forgotten.
        PeerFault: ``enrolment_answer`` when chain, root, names or keys are not this site's and this federation's.
    """
    with database.reading("read enrolment") as tx:
        stored = rows.read_enrolment(tx)
    if stored is None or stored.request_id is None:
        raise InputError("not_enrolled", "no enrolment request was sent from this state directory")
    if stored.state == "approved":
        return True
    poll = EnrolmentPoll(v="SA1", kind="enrolment", request_id=stored.request_id, at=timestamp(now))
    envelope = sign_envelope("enrolment", poll.as_json(), stored.site, SigningKey.from_seed(stored.idk_seed))
    try:
        answer = client.request(
            "GET", f"/v1/enrol/{stored.request_id}", headers={"Authorization": f"DSSE {b64u(envelope)}"}
        )
    except Refusal as refusal:
        if refusal.code == "enrolment_rejected":
            with database.transaction("enrolment rejected") as tx:
                rows.forget_request(tx)
        raise
    if answer.status == 202:
        return False
    granted = EnrolmentGranted.check(answer.json())
    chain = check_granted(stored, granted)
    coordinator_idk = VerifyKey.from_bytes(from_b64u(granted.coordinator_idk, size=32))
    with database.transaction("enrolment approved") as tx:
        rows.set_approved(tx, chain, coordinator_idk.bytes, granted.coordinator_log_vkey)
        facts = read_site_certificate(der_list(chain)[0])
        certificates.add_own(tx, facts.sha256, facts.serial, timestamp(facts.not_after))
    return True


def check_granted(stored: StoredEnrolment, granted: EnrolmentGranted) -> bytes:
    """Check the certificate that came against the pin of the invitation, and return the chain as PEM.

    Raises:
        PeerFault: ``enrolment_answer``, ``certificate_untrusted``, ``certificate_malformed``.
    """
    if granted.site != stored.site:
        raise PeerFault("enrolment_answer", f"the answer is for {granted.site}")
    return check_chain(stored, from_b64u(granted.root), [from_b64u(der) for der in granted.chain])


def check_chain(stored: StoredEnrolment, root: bytes, chain: list[bytes]) -> bytes:
    """Check that a chain ends in the pinned root and names this site in this federation; return it as PEM.

    Raises:
        PeerFault: ``enrolment_answer``, ``certificate_untrusted``, ``certificate_malformed``.
    """
    if not hmac.compare_digest(spki_pin(root), stored.pin) or len(chain) != 2:
        raise PeerFault("enrolment_answer", "the certificate chain does not end in the pinned root")
    check_issued_by(chain[0], chain[1])
    check_issued_by(chain[1], root)
    leaf = read_site_certificate(chain[0])
    if (leaf.site_id, leaf.federation) != (stored.site, stored.federation):
        raise PeerFault("enrolment_answer", f"the certificate names {leaf.federation}/{leaf.site_id}")
    return pem(*chain)


def check_key_fits(stored: StoredEnrolment, folder: StateFolder) -> None:
    """Check that the granted certificate is for the key made here.

    Raises:
        InputError: ``certificate_key_mismatch``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_client_certificate(
        context, folder.tls_file, chain=stored.chain or b"", key=stored.tls_key, password=stored.tls_password
    )


def enrol(
    database: Database,
    folder: StateFolder,
    client: CoordinatorClient,
    clock: Clock,
    *,
    wait_seconds: float,
    stop: Event,
    show: Callable[[str], None],
) -> Enrolled:
    """Send the prepared request and wait up to `wait_seconds` for the approval; `show` is told the fingerprint once.

    Raises:
        MitralError: what `send_request` and `ask_for_certificate` raise; network failures only after `wait_seconds`.
    """
    with database.reading("read enrolment") as tx:
        stored = rows.read_enrolment(tx)
    if stored is None:
        raise InputError("not_enrolled", "no enrolment was prepared in this state directory")
    show(stored.fingerprint)
    deadline = clock.monotonic() + wait_seconds
    backoff = Backoff()
    while True:
        failure: MitralError | None = None
        try:
            send_request(database, client)
            if ask_for_certificate(database, client, clock.now()):
                with database.reading("read enrolment") as tx:
                    approved = rows.read_enrolment(tx)
                if approved is not None:
                    check_key_fits(approved, folder)
                return Enrolled(stored.site, stored.federation, stored.fingerprint, approved=True)
            backoff.reset()
        except Retry as error:
            failure = error
        left = deadline - clock.monotonic()
        if left <= 0 or stop.is_set():
            if failure is not None:
                raise failure
            return Enrolled(stored.site, stored.federation, stored.fingerprint, approved=False)
        pause = backoff.next_seconds(getattr(failure, "retry_after_seconds", None)) if failure else ASK_SECONDS
        stop.wait(min(pause, left))
