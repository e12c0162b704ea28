"""The site's own keys, opened for use (PROTOCOLS C1)."""

from dataclasses import dataclass, field

from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.sealing import KemPrivateKey
from shared.errors import InputError
from site_agent.storage.database import Transaction
from site_agent.storage.enrolment import read_enrolment


@dataclass(frozen=True, slots=True)
class SiteIdentity:
    """Who this site is and what it signs and opens with. Nothing here prints itself."""

    site: str
    federation: str
    idk: SigningKey = field(repr=False)
    log_key: SigningKey = field(repr=False)
    kem: KemPrivateKey = field(repr=False)
    kem_seq: int
    fingerprint: str
    coordinator_idk: VerifyKey
    coordinator_log_vkey: str


def read_identity(tx: Transaction) -> SiteIdentity:
    """Return the identity of an enrolled site.

    Raises:
        InputError: ``not_enrolled``.
        PeerFault: ``at_rest_damaged``.
    """
    stored = read_enrolment(tx)
    if stored is None or stored.state != "approved" or stored.coordinator_idk is None:
        detail = "this site took itself out" if stored is not None and stored.state == "revoked" else "none is approved"
        raise InputError("not_enrolled", f"this state directory holds no enrolment to work with: {detail}")
    return SiteIdentity(
        site=stored.site,
        federation=stored.federation,
        idk=SigningKey.from_seed(stored.idk_seed),
        log_key=SigningKey.from_seed(stored.log_seed),
        kem=KemPrivateKey.from_seeds(stored.kem_seeds),
        kem_seq=stored.kem_seq,
        fingerprint=stored.fingerprint,
        coordinator_idk=VerifyKey.from_bytes(stored.coordinator_idk),
        coordinator_log_vkey=stored.coordinator_log_vkey or "",
    )
