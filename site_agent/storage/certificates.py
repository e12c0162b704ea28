"""A renewal under way, and every certificate this site was given: what else is issued in its name is not its own."""

from dataclasses import dataclass, field

from shared.crypto.secret import Secret
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class StoredRenewal:
    """A key that a certificate was asked for."""

    csr: bytes
    tls_key: bytes = field(repr=False)
    tls_password: Secret


def read_renewal(tx: Transaction) -> StoredRenewal | None:
    """Return the renewal that waits for its answer."""
    row = tx.row("SELECT csr, tls_key, tls_password FROM renewal")
    if row is None:
        return None
    return StoredRenewal(row.csr, row.tls_key, Secret(tx.open(row.tls_password, "renewal/tls_password")))


def add_renewal(tx: Transaction, csr: bytes, tls_key: bytes, tls_password: Secret, at: str) -> None:
    """Store the key before anything is sent: a lost answer is asked for again, with the same key."""
    sealed = tx.seal(tls_password.reveal(), "renewal/tls_password")
    tx.add("renewal", id=1, csr=csr, tls_key=tls_key, tls_password=sealed, begun_at=at)


def set_renewed(tx: Transaction, chain: bytes) -> None:
    """Put the renewed key and its certificate in place of the last ones."""
    renewal = read_renewal(tx)
    if renewal is None:
        return
    tx.run(
        "UPDATE enrolment SET chain = :chain, tls_key = :key, tls_password = :password",
        chain=chain,
        key=renewal.tls_key,
        password=tx.seal(renewal.tls_password.reveal(), "enrolment/tls_password"),
    )
    tx.run("DELETE FROM renewal")


def add_own(tx: Transaction, sha256: str, serial: str, not_after: str) -> None:
    """Remember a certificate that this site was given."""
    tx.run(
        "INSERT INTO own_certificate (sha256, serial, not_after) VALUES (:sha256, :serial, :not_after)"
        " ON CONFLICT DO NOTHING",
        sha256=sha256,
        serial=serial,
        not_after=not_after,
    )


def is_own(tx: Transaction, sha256: str) -> bool:
    """Return whether this site was given a certificate: one in the log that it was not given is a rogue one."""
    return tx.value("SELECT 1 FROM own_certificate WHERE sha256 = :sha256", sha256=sha256) is not None
