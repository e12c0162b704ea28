"""Pairing bundles as the coordinator takes them in (PROTOCOLS A6)."""

from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.blobs.store import BlobStore
from coordinator.sites import SitePrincipal
from coordinator.storage import pairings as stored
from coordinator.storage import rosters, studies
from coordinator.storage.database import Transaction
from shared.canonical import from_b64u
from shared.clock import timestamp
from shared.crypto.sealing import OVERHEAD_BYTES
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.pairing import PairingBundle

_ENVELOPE_BYTES = OVERHEAD_BYTES + 32  # one sealed secret of 32 bytes


def accept(
    tx: Transaction, log: AuditLog, blobs: BlobStore, study: str, principal: SitePrincipal, message: SignedMessage,
    now: datetime,
) -> None:  # fmt: skip
    """Take a bundle: for this study, under the active roster, with a higher serial than before.

    Raises:
        InputError: ``study_unknown``, ``pairing_serial``.
        Refusal: ``pairing_roster``, ``study_not_of_site``.
        PeerFault: ``message_malformed``.
    """
    found = studies.read_study(tx, study)
    if found is None:
        raise InputError("study_unknown", f"there is no study {study!r}")
    bundle = PairingBundle.check(message.body)
    site = principal.site
    roster = rosters.read_active(tx)
    if bundle.study != study or site not in found.plan.sites:
        raise Refusal(
            "study_not_of_site", f"{site} is not among the sites of {study}, or the bundle is for another study"
        )
    if roster is None or bundle.roster_hash != roster.roster_hash:
        raise Refusal("pairing_roster", "the bundle is not made under the active roster")
    others = sorted(bundle.env)
    if site in others or not set(others) <= set(roster.site_ids):
        raise PeerFault("message_malformed", "a bundle holds envelopes for other sites of the roster only")
    for sealed in bundle.env.values():
        from_b64u(sealed, size=_ENVELOPE_BYTES)
    last = stored.read_last_serial(tx, study, site)
    if bundle.serial <= last:
        raise InputError("pairing_serial", f"serial {bundle.serial} of {site} is not higher than {last}")
    blob = blobs.put(message.envelope)
    studies.add_blob(tx, study, blob, "pairing")
    stored.add_pairing(
        tx, study, site, bundle.serial, pairing_hash=message.digest, roster_hash=bundle.roster_hash, members=others,
        blob=blob, at=timestamp(now),
    )  # fmt: skip
    tx.touch("agents", "operators", f"study/{study}")
    data = {"site": site, "serial": bundle.serial, "pairing": message.digest}
    evidence = (message.envelope_digest,)
    fact = Fact("pairing.added", principal.actor, data, study=study, subject=("site", site), evidence=evidence)
    log.append_statement(tx, message, fact, now)
