"""Sites: who may speak, under which certificate and which lease (PROTOCOLS A10, C3)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from coordinator.audit import SYSTEM_ACTOR, AuditLog, Fact
from coordinator.enrolment_states import Event, next_state
from coordinator.operators import Principal, actor_of
from coordinator.storage import rounds
from coordinator.storage import sites as stored
from coordinator.storage.database import Transaction
from shared.audit.entries import Actor
from shared.clock import parse_timestamp, timestamp
from shared.crypto.identity import VerifyKey
from shared.crypto.x509 import SiteCertificate
from shared.errors import InputError, Misuse, Refusal

RENEWAL_OVERLAP = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class SitePrincipal:
    """A site that presented a certificate TLS has verified."""

    site: str
    certificate: SiteCertificate

    @property
    def actor(self) -> Actor:
        """Return the log's actor."""
        return Actor("site", self.site, f"mtls:{self.certificate.sha256}")


def check_active(tx: Transaction, principal: SitePrincipal, federation: str, now: datetime) -> stored.Site:
    """Return the site if it may speak now: approved, with exactly this certificate. Checked again in every commit.

    Raises:
        Refusal: ``site_revoked``, ``site_not_approved``, ``certificate_superseded``, ``certificate_expired``.
    """
    certificate = principal.certificate
    found = stored.read_site(tx, principal.site)
    if found is not None and found.state == "revoked":
        raise Refusal("site_revoked", f"{principal.site} was revoked")
    if found is None or found.state != "approved" or certificate.federation != federation:
        raise Refusal("site_not_approved", f"{principal.site} is not an approved site of {federation}")
    if not _is_current(found, certificate.serial, now):
        raise Refusal("certificate_superseded", f"{principal.site} has a newer certificate than the one presented")
    if certificate.not_after <= now:
        raise Refusal(
            "certificate_expired", f"the certificate of {principal.site} expired {timestamp(certificate.not_after)}"
        )
    return found


def _is_current(site: stored.Site, serial: str, now: datetime) -> bool:
    """Return whether a serial is the newest one, or the one before it while requests under way still carry it."""
    if serial == site.certificate_serial:
        return True
    return (
        serial == site.previous_serial
        and site.renewed_at is not None
        and now - parse_timestamp(site.renewed_at) <= RENEWAL_OVERLAP
    )


def verify_key(site: stored.Site) -> VerifyKey:
    """Return the identity key a site enrolled with; the roster lists the same one."""
    if site.idk is None:
        raise Misuse("site_without_key", f"{site.site} never enrolled")
    return VerifyKey.from_bytes(site.idk)


def take_lease(tx: Transaction, log: AuditLog, site: stored.Site, instance: str, previous: str, now: datetime) -> bool:
    """Let an instance hold the site's lease; return whether it does (ADR 0006). A conflict leaves an alert in the log.

    First come, first served; an instance that names the holder as its previous start takes over; a superseded instance
    never gets it back.
    """
    if site.instance == instance:
        return True
    superseded = site.superseded_instances
    if instance in superseded or (site.instance and previous != site.instance):
        data = {"detail": "a second agent with this site's identity asked for work"}
        subject = ("site", site.site)
        log.append(tx, Fact("alert.instance_conflict", SYSTEM_ACTOR, data, subject=subject, outcome="serious"), now)
        return False
    if site.instance:
        superseded = [*superseded[-49:], site.instance]
    stored.set_instance(tx, site.site, instance, superseded)
    return True


def revoke(tx: Transaction, log: AuditLog, by: Principal, site: str, reason: str, now: datetime) -> None:
    """Shut a site out at once.

    Raises:
        InputError: ``site_unknown``, ``site_not_approved``.
    """
    found = stored.read_site(tx, site)
    if found is None:
        raise InputError("site_unknown", f"there is no site {site!r}")
    stored.set_state(tx, site, next_state(found.state, Event.REVOKE))
    for live in rounds.read_all_live(tx):
        tx.touch(f"study/{live.study}")  # the driver sees whether its round can still be finished
    data = {"site": site, "serial": found.certificate_serial, "reason": "administrator"}
    fact = Fact("cert.revoked", actor_of(by), data, subject=("site", site), private={"reason_text": reason[:500]})
    log.append(tx, fact, now)


def readmit(tx: Transaction, log: AuditLog, by: Principal, site: str, now: datetime) -> None:
    """Let a site back into cohorts after an administrator looked into what it had dealt (PROTOCOLS R4).

    Raises:
        InputError: ``site_unknown``.
    """
    if stored.read_site(tx, site) is None:
        raise InputError("site_unknown", f"there is no site {site!r}")
    stored.set_barred(tx, site, None)
    log.append(tx, Fact("config.changed", actor_of(by), {"setting": "site.kept_out"}, subject=("site", site)), now)


def view(site: stored.Site, online: bool, last_seen: datetime | None) -> dict[str, object]:
    """Return a site as operators see it."""
    certificate = None
    if site.certificate_serial is not None:
        certificate = {"serial": site.certificate_serial, "not_after": site.certificate_not_after}
    seen = last_seen if last_seen is not None else site.last_seen_at and parse_timestamp(site.last_seen_at)
    return {
        "site": site.site,
        "state": site.state,
        "name": site.name,
        "fingerprint": site.fingerprint,
        "certificate": certificate,
        "online": online,
        "last_seen_at": None if not seen else timestamp(seen),
        "kept_out": site.barred,
    }
