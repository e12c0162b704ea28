"""The site's TLS certificate renews itself: at a start, at two thirds of its life, and after it ran out (PROTOCOLS C2).

The key is made here and stored before anything is sent. The present certificate says who asks; where it is not good any
more, the identity key does, over a number that the coordinator gave out.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from shared.canonical import b64u, from_b64u
from shared.clock import timestamp
from shared.crypto.certificate_keys import is_certificate_for
from shared.crypto.secret import Secret
from shared.crypto.signed_envelope import sign_envelope
from shared.crypto.x509 import TlsKey, der_list, make_csr, read_site_certificate
from shared.errors import InputError, MitralError, PeerFault, Refusal
from shared.protocol.certificates import Nonce, Renewal, Renewed
from site_agent.coordinator_client import CoordinatorClient
from site_agent.enrolment import check_chain
from site_agent.rounds.session import Session
from site_agent.storage import certificates, notices
from site_agent.storage.certificates import StoredRenewal
from site_agent.storage.enrolment import StoredEnrolment, read_enrolment
from site_agent.tls import ClientCertificate

FRESH = timedelta(hours=1)  # a certificate younger than this is not renewed at a start: an agent may start often
RETRY_SECONDS = 60.0
_JSON = {"Content-Type": "application/json"}
# What the present certificate cannot do any more, the identity key still can.
_NOT_BY_CERTIFICATE = {"certificate_superseded", "certificate_expired", "certificate_required"}


class Renewer:
    """Keeps the certificate young. Used by the asking loop only."""

    def __init__(
        self, session: Session, anonymous: Callable[[], CoordinatorClient], reconnect: Callable[[], None]
    ) -> None:
        """Prepare; `anonymous` makes a client without certificate, `reconnect` lets the session's show the new one."""
        self._session = session
        self._anonymous = anonymous
        self._reconnect = reconnect
        self._at_start = True
        self._refused = False
        self._again_at = float("-inf")

    def keep(self) -> None:
        """Renew if it is time. A failure is only raised when there is no certificate left to go on with.

        Raises:
            MitralError: what the renewal failed with.
        """
        session = self._session
        now, present = session.clock.now(), session.client.certificate
        if present is None or not self._is_due(present, now):
            return
        usable = now < present.not_after and not self._refused
        if usable and session.clock.monotonic() < self._again_at:
            return
        try:
            self.renew(usable=usable)
        except MitralError as error:
            self._again_at = session.clock.monotonic() + RETRY_SECONDS
            if not usable or isinstance(error, Refusal):
                raise
            session.notice(error.code, "certificate", error.detail)

    def refused(self, code: str) -> None:
        """Note that the coordinator does not take the present certificate any more."""
        self._refused = self._refused or code in _NOT_BY_CERTIFICATE

    def renew(self, *, usable: bool) -> None:
        """Ask for a certificate for a key of its own, check what comes, and go on with it.

        Raises:
            Refusal: ``site_revoked``, ``renewal_too_late``, ``site_not_approved``.
            PeerFault: ``renewal_answer``, ``certificate_untrusted``, ``enrolment_answer``.
            Retry: nothing was changed.
        """
        session = self._session
        stored, renewal = self._prepare()
        renewed = self._ask(renewal) if usable else self._ask_by_identity(renewal)
        chain = check_chain(stored, from_b64u(renewed.root), [from_b64u(der) for der in renewed.chain])
        leaf = der_list(chain)[0]
        if not is_certificate_for(leaf, renewal.csr):
            raise PeerFault("renewal_answer", "the certificate that came is for another key than this site's")
        facts = read_site_certificate(leaf)
        with session.database.transaction("certificate renewed") as tx:
            certificates.set_renewed(tx, chain)
            certificates.add_own(tx, facts.sha256, facts.serial, timestamp(facts.not_after))
            notices.remove_subject(tx, "certificate")
        self._reconnect()
        self._at_start = self._refused = False
        session.log.info("certificate renewed", serial=facts.serial, not_after=timestamp(facts.not_after))

    def _is_due(self, present: ClientCertificate, now: datetime) -> bool:
        life = present.not_after - present.not_before
        if self._refused or now >= present.not_before + life * 2 / 3:
            return True
        if not self._at_start:
            return False
        with self._session.database.reading("is a renewal under way") as tx:
            begun = certificates.read_renewal(tx) is not None
        self._at_start = begun or now - present.not_before > FRESH
        return self._at_start

    def _prepare(self) -> tuple[StoredEnrolment, StoredRenewal]:
        session = self._session
        with session.database.transaction("begin a renewal") as tx:
            stored, renewal = read_enrolment(tx), certificates.read_renewal(tx)
            if stored is None:
                raise InputError("not_enrolled", "this state directory holds no approved enrolment")
            if renewal is None:
                key, password = TlsKey.generate(), Secret(b64u(session.random(32)).encode())
                renewal = StoredRenewal(make_csr(key), key.to_encrypted_pem(password), password)
                at = timestamp(session.clock.now())
                certificates.add_renewal(tx, renewal.csr, renewal.tls_key, renewal.tls_password, at)
        return stored, renewal

    def _ask(self, renewal: StoredRenewal) -> Renewed:
        try:
            return self._post(self._session.client, "/v1/renew", renewal, None)
        except Refusal as error:
            if error.code not in _NOT_BY_CERTIFICATE:
                raise
            return self._ask_by_identity(renewal)

    def _ask_by_identity(self, renewal: StoredRenewal) -> Renewed:
        client = self._anonymous()
        try:
            nonce = Nonce.check(client.request("GET", "/v1/nonce").json()).nonce
            return self._post(client, "/v1/renew-expired", renewal, nonce)
        finally:
            client.close()

    def _post(self, client: CoordinatorClient, path: str, renewal: StoredRenewal, nonce: str | None) -> Renewed:
        identity = self._session.identity
        message = Renewal(v="SA1", kind="renewal", site=identity.site, csr=b64u(renewal.csr), nonce=nonce)
        envelope = sign_envelope("enrolment", message.as_json(), identity.site, identity.idk)
        return Renewed.check(client.request("POST", path, body=envelope, headers=_JSON).json())
