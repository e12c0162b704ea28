"""Who is asking: the verified client certificate of an agent, the bearer token of an operator."""

import functools

from starlette.requests import Request

from coordinator import tokens
from coordinator.app import Coordinator
from coordinator.operators import Principal
from coordinator.sites import SitePrincipal, check_active
from shared.crypto.x509 import SiteCertificate, read_site_certificate
from shared.errors import PeerFault, Refusal

PEER_CERTIFICATE = "mitral.peer_certificate"  # in the scope's extensions: DER bytes of what TLS has verified


def site_of(request: Request) -> SitePrincipal:
    """Return the site of the client certificate; whether it may speak is checked in a transaction.

    Raises:
        Refusal: ``certificate_required``.
        PeerFault: ``certificate_malformed``.
    """
    der = request.scope.get("extensions", {}).get(PEER_CERTIFICATE)
    if not der:
        raise Refusal("certificate_required", "this route needs the site's client certificate")
    certificate = _certificate(der)
    return SitePrincipal(certificate.site_id, certificate)


def check_site(coordinator: Coordinator, principal: SitePrincipal) -> None:
    """Return if the site may speak now, and note its sign of life.

    Raises:
        Refusal: ``site_revoked``, ``site_not_approved``, ``certificate_superseded``, ``certificate_expired``.
    """
    with coordinator.database.reading("authenticate a site") as tx:
        check_active(tx, principal, coordinator.federation, coordinator.clock.now())
    coordinator.saw(principal.site)


def operator_of(coordinator: Coordinator, request: Request) -> Principal:
    """Return the operator of the bearer token; what it may do is the route's business.

    Raises:
        Refusal: ``token_missing``, ``token_invalid``.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refusal("token_missing", "send the access file's token: Authorization: Bearer ...")
    idle = coordinator.settings.session_idle_minutes
    return tokens.authenticate(coordinator.database, token.strip(), idle, coordinator.clock.now())


def dsse_credential(request: Request) -> str:
    """Return the base64url envelope of ``Authorization: DSSE <envelope>``.

    Raises:
        PeerFault: ``envelope_malformed``.
    """
    scheme, _, envelope = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "dsse" or not envelope:
        raise PeerFault("envelope_malformed", "send Authorization: DSSE <signed envelope>")
    return envelope.strip()


@functools.lru_cache(maxsize=1024)
def _certificate(der: bytes) -> SiteCertificate:
    return read_site_certificate(der)
