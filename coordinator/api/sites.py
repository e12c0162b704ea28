"""Sites as administrators handle them."""

from starlette.responses import Response

from coordinator import enrolment, sites
from coordinator.api.call import Call, JsonAnswer
from coordinator.state import agent_url
from coordinator.storage import pairings as stored_pairings
from coordinator.storage import sites as stored
from coordinator.storage import studies as stored_studies
from shared.ids import check_id


def index(call: Call) -> Response:
    """List all sites."""
    coordinator = call.coordinator
    now, presence = coordinator.clock.now(), coordinator.presence
    with coordinator.database.reading("list sites") as tx:
        found = stored.read_sites(tx)
    shown = [
        sites.view(site, site.state == "approved" and presence.is_online(site.site, now), presence.last_seen(site.site))
        for site in found
    ]
    return JsonAnswer({"sites": shown})


def invite(call: Call) -> Response:
    """Invite a hospital."""
    coordinator = call.coordinator
    given = call.json(site=str, name=str)
    site = check_id(call.required(given, "site"), "site")
    with coordinator.database.transaction("invite a site") as tx:
        invitation = enrolment.invite(
            tx,
            coordinator.log,
            coordinator.keys,
            call.operator,
            federation=coordinator.federation,
            site=site,
            name=(given["name"] or "")[:200],
            url=agent_url(coordinator.settings, coordinator.agent_port),
            hours=coordinator.settings.invitation_hours,
            now=coordinator.clock.now(),
        )
    return JsonAnswer(invitation.as_json(), 201)


def approve(call: Call) -> Response:
    """Issue a certificate to a pending site whose fingerprint was compared."""
    coordinator = call.coordinator
    fingerprint = call.required(call.json(fingerprint=str), "fingerprint")
    with coordinator.database.transaction("approve a site") as tx:
        serial = enrolment.approve(
            tx,
            coordinator.log,
            coordinator.keys,
            call.operator,
            federation=coordinator.federation,
            site=call.id("site"),
            fingerprint=fingerprint,
            days=coordinator.settings.certificate_days,
            now=coordinator.clock.now(),
        )
    return JsonAnswer({"site": call.id("site"), "state": "approved", "serial": serial})


def reject(call: Call) -> Response:
    """Turn a pending site away."""
    coordinator = call.coordinator
    with coordinator.database.transaction("reject a site") as tx:
        enrolment.reject(tx, coordinator.log, call.operator, call.id("site"), coordinator.clock.now())
    return JsonAnswer({"site": call.id("site"), "state": "rejected"})


def revoke(call: Call) -> Response:
    """Shut a site out at once."""
    coordinator = call.coordinator
    reason = call.json(reason=str)["reason"] or ""
    with coordinator.database.transaction("revoke a site") as tx:
        tx.touch("agents", "operators")
        sites.revoke(tx, coordinator.log, call.operator, call.id("site"), reason, coordinator.clock.now())
    return JsonAnswer({"site": call.id("site"), "state": "revoked"})


def readmit(call: Call) -> Response:
    """Let a site that was kept out of cohorts back in; it makes new pairing bundles first."""
    coordinator, site = call.coordinator, call.id("site")
    with coordinator.database.transaction("readmit a site") as tx:
        for study in stored_studies.read_studies(tx):
            stored_pairings.set_renew(tx, study.study, [site])
            tx.touch(f"study/{study.study}")
        tx.touch("agents", "operators")
        sites.readmit(tx, coordinator.log, call.operator, site, coordinator.clock.now())
    return JsonAnswer({"site": site, "kept_out": None})
