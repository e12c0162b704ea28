"""Certificates of sites: renewal with and without a valid one, revocation by the site itself."""

from starlette.responses import Response

from coordinator import certificates, statements
from coordinator.api.call import Call, JsonAnswer
from coordinator.sites import check_active
from shared.audit.entries import Actor
from shared.crypto.signed_envelope import peek_signer
from shared.protocol.certificates import Nonce, Renewal, SelfRevocation


def nonce(call: Call) -> Response:
    """Hand out a number to be signed once."""
    coordinator = call.coordinator
    return JsonAnswer(Nonce(nonce=coordinator.nonces.make(coordinator.clock.now())).as_json())


def renew(call: Call) -> Response:
    """Issue the next certificate to a site that shows its present one."""
    coordinator = call.coordinator
    statements.check_path(call.site, peek_signer(call.body))
    with coordinator.database.transaction("renew a certificate") as tx:
        check_active(tx, call.site, coordinator.federation, coordinator.clock.now())
        renewed = certificates.renew(
            tx,
            coordinator.log,
            coordinator.keys,
            call.body,
            call.site.actor,
            federation=coordinator.federation,
            days=coordinator.settings.certificate_days,
            now=coordinator.clock.now(),
        )
        tx.touch("operators")
    return JsonAnswer(renewed.as_json())


def renew_expired(call: Call) -> Response:
    """Issue a certificate to a site whose last one ran out: its identity key over a number given out here."""
    coordinator, now = call.coordinator, call.coordinator.clock.now()
    with coordinator.database.reading("who asks for a certificate") as tx:
        site, message = certificates.open_request(tx, call.body)
    coordinator.nonces.use(Renewal.check(message.body).nonce, now)
    with coordinator.database.transaction("renew an expired certificate") as tx:
        renewed = certificates.renew(
            tx,
            coordinator.log,
            coordinator.keys,
            call.body,
            Actor("site", site.site, "idk"),
            federation=coordinator.federation,
            days=coordinator.settings.certificate_days,
            now=now,
        )
        tx.touch("operators")
    return JsonAnswer(renewed.as_json())


def revoke(call: Call) -> Response:
    """Shut a site out at once, at its own word."""
    coordinator, now = call.coordinator, call.coordinator.clock.now()
    with coordinator.database.reading("who revokes itself") as tx:
        _, message = certificates.open_request(tx, call.body)
    coordinator.nonces.use(SelfRevocation.check(message.body).nonce, now)
    with coordinator.database.transaction("revoke a site at its word") as tx:
        site = certificates.revoke_self(tx, coordinator.log, call.body, now)
    return JsonAnswer({"site": site, "state": "revoked"})
