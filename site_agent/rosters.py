"""Rosters: fetched, shown, approved by a person, active only when every listed site has signed (PROTOCOLS A4)."""

from dataclasses import dataclass
from datetime import datetime

from shared.canonical import JsonObject, b64u, from_b64u, hash_bytes
from shared.crypto.fingerprint import hash_fingerprint, normalise_fingerprint
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.work import RosterCommand
from shared.secagg import roster as maths
from shared.secagg.roster import RosterChanges
from site_agent.coordinator_client import CoordinatorClient
from site_agent.identity import SiteIdentity
from site_agent.signing import sign_and_queue
from site_agent.storage import rosters
from site_agent.storage.database import Database, Transaction
from site_agent.storage.rosters import StoredRoster


@dataclass(frozen=True, slots=True)
class RosterPicture:
    """What a person has to look at before approving a version."""

    stored: StoredRoster
    fingerprint: str
    sites: dict[str, str]
    changes: RosterChanges


def roster_fingerprint(roster_hash: str) -> str:
    """Return the 100-bit fingerprint of a roster hash."""
    return hash_fingerprint(hash_bytes(roster_hash))


def follow(
    database: Database, client: CoordinatorClient, identity: SiteIdentity, command: RosterCommand, now: datetime
) -> None:
    """Fetch the version a command names when something about it is new, and activate it once everything is there.

    Raises:
        PeerFault: a roster that is malformed, another federation's, not the announced one, or wrong about this site.
    """
    with database.reading("read roster") as tx:
        known, active = rosters.read_roster(tx, command.version), rosters.read_active(tx)
    if active is not None and command.version <= active.version:
        return  # versions only go up; an older one can never become active again
    if known is None or set(command.approved_by) != set(known.approvals):
        bundle = client.read_roster(command.version)
        _check_bundle(bundle.roster, command, identity, active)
        known_hash = maths.roster_hash(bundle.roster)
        with database.transaction("store roster") as tx:
            stored = rosters.read_roster(tx, command.version)
            if stored is not None and stored.roster_hash != known_hash:
                raise PeerFault("roster_equivocation", f"version {command.version} was another roster before")
            rosters.set_roster(tx, bundle.roster, known_hash, bundle.approvals)
            activate_if_complete(tx, command.version, now)
    elif known.state == "known" and known.approved:
        with database.transaction("activate roster") as tx:
            activate_if_complete(tx, command.version, now)


def activate_if_complete(tx: Transaction, version: int, now: datetime) -> bool:
    """Make a version the active one if this site's administrator approved it and all signatures verify."""
    stored, active = rosters.read_roster(tx, version), rosters.read_active(tx)
    if stored is None or not stored.approved or stored.state != "known" or maths.is_expired(stored.roster, now):
        return False
    envelopes = [from_b64u(envelope) for envelope in stored.approvals.values()]
    previous = None if active is None else active.roster
    try:
        maths.check_approvals(stored.roster, envelopes, previous, joining=previous is None)
    except PeerFault as error:
        if error.code in {"roster_unapproved", "roster_quorum"}:
            return False
        raise
    rosters.set_active(tx, version)
    return True


def picture(tx: Transaction, version: int | None = None) -> RosterPicture:
    """Return what there is to see of a version, by default the newest.

    Raises:
        InputError: ``roster_unknown``.
    """
    stored = rosters.read_newest(tx) if version is None else rosters.read_roster(tx, version)
    if stored is None:
        raise InputError("roster_unknown", "no roster has arrived yet; the agent fetches it when it runs")
    active = rosters.read_active(tx)
    before = active.roster if active is not None and active.version < stored.version else None
    changes = maths.roster_changes(before, stored.roster)
    return RosterPicture(stored, roster_fingerprint(stored.roster_hash), maths.fingerprints(stored.roster), changes)


def approve(tx: Transaction, identity: SiteIdentity, fingerprint: str, now: datetime) -> StoredRoster:
    """Sign the newest version in this administrator's name; `fingerprint` is what they compared.

    Raises:
        InputError: ``roster_unknown``, ``fingerprint_malformed``.
        Refusal: ``fingerprint_mismatch``.
        PeerFault: what makes the version unacceptable after the active one.
    """
    shown = picture(tx)
    if normalise_fingerprint(fingerprint) != shown.fingerprint:
        raise Refusal("fingerprint_mismatch", f"version {shown.stored.version} has the fingerprint {shown.fingerprint}")
    stored, active = shown.stored, rosters.read_active(tx)
    if stored.approved:
        return stored
    maths.check_roster(stored.roster)
    check_own_entry(stored.roster, identity)
    if active is not None:
        maths.check_successor(active.roster, stored.roster)
    payload = maths.approval_payload(stored.roster, identity.site, 1, "0" * 64)
    body = {key: value for key, value in payload.items() if key not in {"site", "seq", "prev"}}
    path = f"/v1/rosters/{stored.version}/approvals/{identity.site}"
    signed = sign_and_queue(tx, identity, "approval", body, path=path, now=now)
    rosters.set_roster(
        tx, stored.roster, stored.roster_hash, {**stored.approvals, identity.site: b64u(signed.envelope)}
    )
    rosters.set_approved(tx, stored.version)
    activate_if_complete(tx, stored.version, now)
    return stored


def check_own_entry(roster: JsonObject, identity: SiteIdentity) -> None:
    """Check that a roster says about this site what this site knows about itself.

    Raises:
        PeerFault: ``roster_own_entry``.
    """
    entry = next((site for site in roster["sites"] if site["id"] == identity.site), None)
    kem = identity.kem.public_key
    expected = {
        "idk": b64u(identity.idk.verify_key.bytes),
        "log_key": b64u(identity.log_key.verify_key.bytes),
        "kem": {"mlkem768": b64u(kem.mlkem768), "x25519": b64u(kem.x25519)},
        "kem_seq": identity.kem_seq,
    }
    if entry is None or any(entry[key] != value for key, value in expected.items()):
        raise PeerFault("roster_own_entry", f"version {roster['version']} has other keys for {identity.site}, or none")


def _check_bundle(
    roster: JsonObject, command: RosterCommand, identity: SiteIdentity, active: StoredRoster | None
) -> None:
    maths.check_roster(roster)
    if roster["version"] != command.version or maths.roster_hash(roster) != command.roster:
        raise PeerFault("roster_equivocation", f"version {command.version} is not the roster that was announced")
    if roster["federation"] != identity.federation:
        raise PeerFault("roster_federation", f"a roster of {roster['federation']!r} came to {identity.federation!r}")
    check_own_entry(roster, identity)
    if active is None and maths.coordinator_key(roster) != identity.coordinator_idk:
        raise PeerFault("roster_own_entry", "the roster names another coordinator than the enrolment did")
