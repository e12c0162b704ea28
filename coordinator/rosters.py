"""Rosters: proposed by an administrator, in force once every listed site and enough of the last members signed (A4)."""

from datetime import date, datetime, timedelta

from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.keys import Keys
from coordinator.operators import Principal, actor_of
from coordinator.sites import SitePrincipal
from coordinator.storage import rosters as stored
from coordinator.storage import rounds
from coordinator.storage import sites as stored_sites
from coordinator.storage.database import Transaction
from shared.canonical import b64u, canonical_bytes
from shared.clock import timestamp
from shared.crypto.identity import VerifyKey
from shared.crypto.sealing import KemPublicKey
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.roster import RosterApproval, RosterBundle
from shared.secagg import roster as rules

_VALID_DAYS = 365
_RENEWED_IN_THE_LAST = timedelta(days=60)


def propose(
    tx: Transaction, log: AuditLog, keys: Keys, by: Principal, federation: str, c: int | None, now: datetime
) -> stored.StoredRoster:
    """Propose the next version from all approved sites.

    Raises:
        InputError: ``roster_too_small``, ``roster_bound_invalid``, ``roster_unchanged``.
    """
    approved = stored_sites.read_sites_in(tx, "approved")
    if len(approved) < 3:
        raise InputError("roster_too_small", f"{len(approved)} sites are approved; secure aggregation needs at least 3")
    if c is not None and not 1 <= c < len(approved):
        raise InputError("roster_bound_invalid", f"c = {c} must lie between 1 and {len(approved) - 1}")
    active, newest = stored.read_active(tx), stored.read_newest(tx)
    coordinator = rules.coordinator_entry(keys.idk.verify_key, log.vkey.encode(), keys.kem.public_key)
    roster = rules.build_roster(
        federation,
        1 if newest is None else newest.version + 1,
        None if active is None else active.roster_hash,
        sites=[_entry(site) for site in approved],
        coordinator=coordinator,
        not_after=(now + timedelta(days=_VALID_DAYS)).date(),
        c=c,
    )
    if active is not None:
        same = ("c", "sites", "coordinator")
        lasts = date.fromisoformat(active.roster["not_after"]) - now.date()
        if all(active.roster[key] == roster[key] for key in same) and lasts > _RENEWED_IN_THE_LAST:
            raise InputError(
                "roster_unchanged",
                f"version {active.version} lists the same sites and keys already, until {active.roster['not_after']}",
            )
        rules.check_successor(active.roster, roster)
    version, digest = roster["version"], rules.roster_hash(roster)
    tx.touch("agents", "operators")
    stored.add_roster(tx, version, digest, canonical_bytes(roster).decode(), timestamp(now))
    data = {"version": version, "roster": digest, "c": roster["c"], "sites": [site["id"] for site in roster["sites"]]}
    log.append(tx, Fact("roster.proposed", actor_of(by), data, subject=("roster", str(version))), now)
    found = stored.read_roster(tx, version)
    if found is None:
        raise InputError("roster_unknown", f"there is no roster version {version}")
    return found


def approve(
    tx: Transaction, log: AuditLog, version: int, principal: SitePrincipal, message: SignedMessage, now: datetime
) -> None:
    """Take a site's approval; the last missing one puts the version in force.

    Raises:
        InputError: ``roster_unknown``.
        Refusal: ``roster_superseded``.
        PeerFault: ``roster_approval_foreign``, ``message_malformed``.
    """
    site = principal.site
    found = stored.read_roster(tx, version)
    if found is None:
        raise InputError("roster_unknown", f"there is no roster version {version}")
    newest = stored.read_newest(tx)
    if found.state != "proposed" or newest is None or newest.version != version:
        raise Refusal("roster_superseded", f"version {version} is {found.state}, a newer one may have been proposed")
    approval = RosterApproval.check(message.body)
    if approval.roster != found.roster_hash or approval.version != version:
        raise PeerFault("roster_approval_foreign", f"the approval is not of roster version {version}")
    approvals = stored.read_approvals(tx, version)
    if site in approvals:
        raise InputError("statement_conflict", f"{site} has approved version {version} with another message")
    stored.add_approval(tx, version, site, message.envelope)
    tx.touch("agents", "operators")
    approvals[site] = message.envelope
    active = stored.read_active(tx)
    subject = ("roster", str(version))
    data = {"version": version, "roster": found.roster_hash, "site": site, "payload_sha256": message.digest}
    fact = Fact("roster.approved", principal.actor, data, subject=subject, evidence=(message.envelope_digest,))
    log.append_statement(tx, message, fact, now)
    if _is_complete(found, approvals, active):
        stored.set_active(tx, version, timestamp(now))
        for live in rounds.read_all_live(tx):
            tx.touch(f"study/{live.study}")  # the driver ends what was opened under the last version
        data = {"version": version, "roster": found.roster_hash, "approvals": len(approvals)}
        log.append(tx, Fact("roster.activated", COORDINATOR_ACTOR, data, subject=subject), now)


def bundle(tx: Transaction, version: int) -> RosterBundle:
    """Return a version with the approvals it has so far.

    Raises:
        InputError: ``roster_unknown``.
    """
    found = stored.read_roster(tx, version)
    if found is None:
        raise InputError("roster_unknown", f"there is no roster version {version}")
    approvals = {site: b64u(envelope) for site, envelope in stored.read_approvals(tx, version).items()}
    return RosterBundle(roster=found.roster, approvals=approvals)


def site_keys(roster: stored.StoredRoster) -> dict[str, VerifyKey]:
    """Return the identity keys of a roster by site."""
    return rules.site_keys(roster.roster)


def check_listed(tx: Transaction, site: str, key: VerifyKey) -> None:
    """Return if a roster that is or was in force lists a site with this identity key, or if there is none yet.

    Raises:
        Refusal: ``site_not_in_roster``.
    """
    active = stored.read_active(tx)
    if active is None or is_pinned(active, site, key.bytes):
        return
    former = (one for one in stored.read_rosters(tx) if one.activated_at is not None)
    if not any(is_pinned(one, site, key.bytes) for one in former):
        raise Refusal("site_not_in_roster", f"no roster that came into force lists {site} with the key it has now")


def is_pinned(roster: stored.StoredRoster, site: str, idk: bytes | None) -> bool:
    """Return whether a roster lists a site with this identity key."""
    pinned = {entry["id"]: entry["idk"] for entry in roster.roster["sites"]}
    return idk is not None and pinned.get(site) == b64u(idk)


def _is_complete(
    proposal: stored.StoredRoster, approvals: dict[str, bytes], active: stored.StoredRoster | None
) -> bool:
    try:
        rules.check_approvals(proposal.roster, list(approvals.values()), None if active is None else active.roster)
    except PeerFault as error:
        if error.code in {"roster_unapproved", "roster_quorum"}:
            return False
        raise
    return True


def _entry(site: stored_sites.Site) -> dict[str, object]:
    if site.idk is None or site.log_key is None or site.kem_mlkem768 is None or site.kem_x25519 is None:
        raise InputError("site_not_approved", f"{site.site} has no keys")
    return rules.site_entry(
        site_id=site.site,
        name=site.name,
        legal=site.legal,
        idk=VerifyKey.from_bytes(site.idk),
        log_key=VerifyKey.from_bytes(site.log_key),
        kem=KemPublicKey(site.kem_mlkem768, site.kem_x25519),
        kem_seq=site.kem_seq,
        attest=site.kem_attest or b"",
    )
