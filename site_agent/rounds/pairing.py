"""Pairing bundles: make this site's, verify and open the others' (PROTOCOLS A6)."""

from datetime import datetime

from shared.canonical import b64u, from_b64u, hash_bytes, sha256_hex
from shared.clock import timestamp
from shared.crypto.sealing import open_sealed, seal
from shared.crypto.secret import Secret
from shared.crypto.signed_envelope import open_envelope
from shared.errors import PeerFault, Refusal
from shared.protocol.pairing import PairingBundle
from shared.protocol.round_context import Context
from shared.protocol.work import BundleReference, BundlesCommand, PairingCommand
from shared.secagg.pair_secrets import in_order, pair_secret, pairing_info
from shared.secagg.roster import kem_keys, site_keys
from site_agent.approvals import read_consent
from site_agent.rounds.session import Session
from site_agent.rounds.wipe import pairings_in_use
from site_agent.signing import sign_and_queue
from site_agent.storage import outbox, pairings, rosters
from site_agent.storage.database import Transaction
from site_agent.storage.rosters import StoredRoster
from site_agent.traffic import Traffic

MAX_BUNDLE_BYTES = 2 * 2**20
SECRET_BYTES = 32


def answer(session: Session, work: PairingCommand, now: datetime) -> None:
    """Make, sign and queue a bundle with at least the serial asked for; one that fits already is not made again.

    Raises:
        Refusal: ``study_not_approved`` and the like: without the steward's approval there is nothing to pair for.
        PeerFault: ``pairing_members`` when sites are named that roster or plan do not have.
    """
    with session.database.transaction("make pairing") as tx:
        consent = read_consent(tx, work.study, now)
        active = rosters.read_active(tx)
        if active is None:
            raise Refusal("roster_not_active", "no roster is active here, so there is nobody to pair with")
        keys = kem_keys(active.roster)
        members = [member for member in work.members if member != session.site]
        strangers = sorted(set(members) - (set(keys) & set(consent.plan.sites)))
        if strangers or not members:
            raise PeerFault(
                "pairing_members", f"asked to pair with {strangers or 'nobody'}, who are not of roster and plan"
            )
        own = pairings.read_own(tx, work.study)
        fits = own is not None and own.roster_hash == active.roster_hash and set(members) <= set(own.halves)
        if own is not None and fits and own.serial >= work.serial and not outbox.is_rejected(tx, own.pairing_hash):
            return
        serial = max(work.serial, 1 if own is None else own.serial + 1)
        halves = {member: Secret(session.random(SECRET_BYTES)) for member in members}
        roster_hash = hash_bytes(active.roster_hash)
        envelopes = {}
        for member, half in halves.items():
            info = pairing_info(roster_hash, work.study, serial, session.site, member)
            envelopes[member] = b64u(seal(keys[member], half.reveal(), info))
        body = {
            "v": "SA1",
            "kind": "pairing",
            "study": work.study,
            "roster_hash": active.roster_hash,
            "serial": serial,
            "env": envelopes,
        }
        path = f"/v1/studies/{work.study}/pairings/{session.site}"
        signed = sign_and_queue(tx, session.identity, "pairing", body, path=path, now=now, study=work.study)
        pairings.add_own(
            tx, work.study, serial, pairing_hash=signed.digest, roster_hash=active.roster_hash, halves=halves,
            at=timestamp(now),
        )  # fmt: skip
        pairings.erase_superseded(tx, work.study, pairings_in_use(tx, work.study))
        tx.after_commit.append(session.queued)
    session.desk.warm(work.study)
    session.log.info("paired", study=work.study, serial=serial, members=len(members))


def answer_bundles(session: Session, work: BundlesCommand, now: datetime) -> None:
    """Fetch, verify and open the bundles that are new; each stands for itself, a bad one does not hold up the others.

    Raises:
        Retry: the network failed; what was opened so far is kept.
    """
    with session.database.reading("read pairings") as tx:
        read_consent(tx, work.study, now)
        active = rosters.read_active(tx)
        new = [ref for ref in work.bundles if pairings.read_peer(tx, work.study, ref.pairing) is None]
    if active is None:
        return
    for reference in new:
        if reference.site == session.site:
            continue
        envelope = session.client.read_blob(reference.blob, MAX_BUNDLE_BYTES, Traffic.PAIRING)
        try:
            take_bundle(session, active, work.study, reference, envelope, now)
        except PeerFault as fault:
            session.notice(fault.code, f"pairing of {reference.site} in {work.study}", fault.detail)


def take_bundle(
    session: Session, active: StoredRoster, study: str, reference: BundleReference, envelope: bytes, now: datetime
) -> None:
    """Verify a peer's bundle against the pinned key and open this site's envelope in it.

    An envelope that does not open is answered with a signed complaint; that pair does not cover each other then.

    Raises:
        PeerFault: ``signature_invalid`` and the like, ``pairing_mismatch``, ``pairing_serial_used``.
        Refusal: ``study_not_approved``, withdrawn meanwhile.
    """
    message = open_envelope(envelope, "pairing", site_keys(active.roster))
    bundle = PairingBundle.check(message.body)
    named = (message.keyid, bundle.site, bundle.study, bundle.roster_hash, message.digest)
    if named != (reference.site, reference.site, study, active.roster_hash, reference.pairing):
        raise PeerFault("pairing_mismatch", f"the bundle handed out for {reference.site} is not its bundle for {study}")
    half, code = None, None
    try:
        half = _open_half(session, bundle)
    except PeerFault as fault:
        code = fault.code
    with session.database.transaction("take pairing") as tx:
        read_consent(tx, study, now)
        if bundle.serial <= pairings.read_peer_serial(tx, study, bundle.site):
            raise PeerFault(
                "pairing_serial_used", f"{bundle.site} had a bundle with serial {bundle.serial} or higher before"
            )
        pairings.add_peer(
            tx, study, bundle.site, bundle.serial, pairing_hash=message.digest, roster_hash=bundle.roster_hash,
            half=half, code=code,
        )  # fmt: skip
        pairings.erase_superseded(tx, study, pairings_in_use(tx, study))
        if code is not None and session.site in bundle.env:
            complaint = {
                "ctx_hash": None,
                "pairing_hash": message.digest,
                "about": bundle.site,
                "code": code,
                "blob_hash": sha256_hex(envelope),
            }
            path = f"/v1/complaints/{session.site}/{{digest}}"
            sign_and_queue(tx, session.identity, "complaint", complaint, path=path, now=now, study=study)
            tx.after_commit.append(session.queued)


def _open_half(session: Session, bundle: PairingBundle) -> Secret:
    sealed = bundle.env.get(session.site)
    if sealed is None:
        raise PeerFault("envelope_unreadable", f"{bundle.site} sealed nothing for {session.site}")
    info = pairing_info(hash_bytes(bundle.roster_hash), bundle.study, bundle.serial, bundle.site, session.site)
    opened = open_sealed(session.identity.kem, from_b64u(sealed), info)
    if len(opened) != SECRET_BYTES:
        raise PeerFault("envelope_unreadable", f"{bundle.site} sealed {len(opened)} bytes, not {SECRET_BYTES}")
    return Secret(opened)


def pair_secrets(tx: Transaction, site: str, ctx: Context) -> dict[str, bytes]:
    """Return PS with every other member of P, from the bundles that the context names.

    Raises:
        Refusal: ``pairing_superseded`` when a secret was erased meanwhile.
    """
    named = {participant.site: participant.pairing for participant in ctx.P}
    own = pairings.read_own_by_hash(tx, named[site])
    secrets: dict[str, bytes] = {}
    for peer, pairing_hash in named.items():
        if peer == site:
            continue
        bundle = pairings.read_peer(tx, ctx.study, pairing_hash)
        if own is None or bundle is None or bundle.half is None or peer not in own.halves:
            raise Refusal("pairing_superseded", f"the secrets shared with {peer} are not here any more")
        lo, hi = in_order(site, peer)
        mine, theirs = own.halves[peer].reveal(), bundle.half.reveal()
        u_lo_hi, u_hi_lo = (mine, theirs) if lo == site else (theirs, mine)
        secrets[peer] = pair_secret(hash_bytes(named[lo]), hash_bytes(named[hi]), u_lo_hi, u_hi_lo)
    return secrets
