"""Who this site is: one row, written before the request is sent."""

from dataclasses import dataclass, field

from shared.crypto.secret import Secret
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class StoredEnrolment:
    """The enrolment row with its secrets opened."""

    state: str
    site: str
    name: str
    federation: str
    url: str
    pin: str
    root: bytes
    request_id: str | None
    fingerprint: str
    idk_seed: Secret
    log_seed: Secret
    kem_seeds: Secret
    kem_seq: int
    tls_key: bytes = field(repr=False)
    tls_password: Secret
    chain: bytes | None
    coordinator_idk: bytes | None
    coordinator_log_vkey: str | None


def read_enrolment(tx: Transaction) -> StoredEnrolment | None:
    """Return the enrolment, or None in a fresh state directory.

    Raises:
        PeerFault: ``at_rest_damaged``.
    """
    row = tx.row("SELECT * FROM enrolment")
    if row is None:
        return None
    values = row._asdict()
    for name in ("id", "request", "idk", "log_key", "kem_mlkem768", "kem_x25519"):
        del values[name]
    for name in ("idk_seed", "log_seed", "kem_seeds", "tls_password"):
        values[name] = Secret(tx.open(values[name], f"enrolment/{name}"))
    return StoredEnrolment(**values)


def read_chain(tx: Transaction) -> bytes | None:
    """Return the certificate chain (PEM), this site's certificate first."""
    found: bytes | None = tx.value("SELECT chain FROM enrolment")
    return found


def read_request(tx: Transaction) -> bytes:
    """Return the body of the enrolment request, to be sent as it was."""
    return tx.open(tx.value("SELECT request FROM enrolment"), "enrolment/request")


def add_enrolment(
    tx: Transaction, *, site: str, name: str, federation: str, url: str, pin: str, root: bytes, request: bytes,
    fingerprint: str, idk: bytes, idk_seed: Secret, log_key: bytes, log_seed: Secret, kem_mlkem768: bytes,
    kem_x25519: bytes, kem_seeds: Secret, kem_seq: int, tls_key: bytes, tls_password: Secret,
) -> None:  # fmt: skip
    """Store a request that is about to be sent, and every key it names."""
    tx.add(
        "enrolment", id=1, state="requested", site=site, name=name, federation=federation, url=url, pin=pin, root=root,
        request=tx.seal(request, "enrolment/request"), fingerprint=fingerprint,
        idk=idk, idk_seed=tx.seal(idk_seed.reveal(), "enrolment/idk_seed"),
        log_key=log_key, log_seed=tx.seal(log_seed.reveal(), "enrolment/log_seed"),
        kem_mlkem768=kem_mlkem768, kem_x25519=kem_x25519,
        kem_seeds=tx.seal(kem_seeds.reveal(), "enrolment/kem_seeds"), kem_seq=kem_seq,
        tls_key=tls_key, tls_password=tx.seal(tls_password.reveal(), "enrolment/tls_password"),
    )  # fmt: skip


def set_pending(tx: Transaction, request_id: str) -> None:
    """Remember under which number the coordinator keeps the request."""
    tx.run("UPDATE enrolment SET state = 'pending', request_id = :request_id", request_id=request_id)


def set_approved(tx: Transaction, chain: bytes, coordinator_idk: bytes, coordinator_log_vkey: str) -> None:
    """Store the certificate chain (PEM) and the coordinator's keys; the token is of no use any more."""
    tx.run(
        "UPDATE enrolment SET state = 'approved', chain = :chain, coordinator_idk = :idk, coordinator_log_vkey = :vkey,"
        " request = :request",
        chain=chain,
        idk=coordinator_idk,
        vkey=coordinator_log_vkey,
        request=tx.seal(b"", "enrolment/request"),
    )


def set_revoked(tx: Transaction) -> None:
    """Note that this site took itself out; its keys stay, for a new invitation."""
    tx.run("UPDATE enrolment SET state = 'revoked'")


def set_requested_again(
    tx: Transaction, *, url: str, name: str, request: bytes, tls_key: bytes, tls_password: Secret
) -> None:
    """Store another request of the same site under the same identity, about to be sent."""
    tx.run(
        "UPDATE enrolment SET state = 'requested', request_id = NULL, chain = NULL, url = :url, name = :name,"
        " request = :request, tls_key = :tls_key, tls_password = :tls_password",
        url=url, name=name, request=tx.seal(request, "enrolment/request"), tls_key=tls_key,
        tls_password=tx.seal(tls_password.reveal(), "enrolment/tls_password"),
    )  # fmt: skip
    tx.run("DELETE FROM renewal")


def forget_request(tx: Transaction) -> None:
    """Forget a request that was rejected, so that another invitation can be used; what was signed keeps its key."""
    if tx.value("SELECT 1 FROM signed_message") is None:
        tx.run("DELETE FROM enrolment WHERE state <> 'approved'")
    else:
        tx.run("UPDATE enrolment SET state = 'revoked' WHERE state <> 'approved'")
