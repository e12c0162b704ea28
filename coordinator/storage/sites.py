"""Sites: keys, certificates, leases."""

import json
from dataclasses import dataclass

from coordinator.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Site:
    """A hospital as the coordinator knows it."""

    site: str
    state: str
    name: str
    legal: str
    idk: bytes | None
    log_key: bytes | None
    kem_mlkem768: bytes | None
    kem_x25519: bytes | None
    kem_seq: int
    kem_attest: bytes | None
    fingerprint: str | None
    certificate: bytes | None
    certificate_serial: str | None
    certificate_not_after: str | None
    instance: str
    superseded: str
    barred: str | None
    last_seen_at: str | None
    previous_serial: str | None
    renewed_at: str | None

    @property
    def superseded_instances(self) -> list[str]:
        """Return the instances that lost the lease to a later start."""
        return list(json.loads(self.superseded)) if self.superseded else []


def read_site(tx: Transaction, site: str) -> Site | None:
    """Return one site."""
    row = tx.row("SELECT * FROM site WHERE site = :site", site=site)
    return None if row is None else Site(*row)


def read_sites(tx: Transaction) -> list[Site]:
    """Return all sites by id."""
    return [Site(*row) for row in tx.rows("SELECT * FROM site ORDER BY site")]


def read_sites_in(tx: Transaction, state: str) -> list[Site]:
    """Return the sites in a state, by id."""
    return [Site(*row) for row in tx.rows("SELECT * FROM site WHERE state = :state ORDER BY site", state=state)]


def set_invited(tx: Transaction, site: str, name: str) -> None:
    """Create the site, or bring a rejected or revoked one back to the start."""
    emptied = ("idk", "log_key", "fingerprint", "certificate", "certificate_serial", "previous_serial")
    empty = ", ".join(f"{column} = NULL" for column in emptied)
    if not tx.run(f"UPDATE site SET state = 'invited', name = :name, {empty} WHERE site = :site", site=site, name=name):  # noqa: S608
        tx.add("site", site=site, state="invited", name=name, legal="", kem_seq=0, instance="", superseded="")


def set_pending(
    tx: Transaction,
    site: str,
    *,
    name: str,
    legal: str,
    idk: bytes,
    log_key: bytes,
    kem_mlkem768: bytes,
    kem_x25519: bytes,
    kem_seq: int,
    kem_attest: bytes,
    fingerprint: str,
) -> None:
    """Record what an enrolment request said; the administrator compares the fingerprint next."""
    tx.run(
        "UPDATE site SET state = 'pending', name = :name, legal = :legal, idk = :idk, log_key = :log_key,"
        " kem_mlkem768 = :kem_mlkem768, kem_x25519 = :kem_x25519, kem_seq = :kem_seq, kem_attest = :kem_attest,"
        " fingerprint = :fingerprint, instance = '', superseded = '' WHERE site = :site",
        site=site, name=name, legal=legal, idk=idk, log_key=log_key, kem_mlkem768=kem_mlkem768, kem_x25519=kem_x25519,
        kem_seq=kem_seq, kem_attest=kem_attest, fingerprint=fingerprint,
    )  # fmt: skip


def set_approved(tx: Transaction, site: str, certificate: bytes, serial: str, not_after: str) -> None:
    """Record the certificate that was issued."""
    tx.run(
        "UPDATE site SET state = 'approved', certificate = :certificate, certificate_serial = :serial,"
        " certificate_not_after = :not_after, previous_serial = NULL, renewed_at = NULL WHERE site = :site",
        site=site, certificate=certificate, serial=serial, not_after=not_after,
    )  # fmt: skip


def set_renewed(tx: Transaction, site: str, certificate: bytes, serial: str, not_after: str, at: str) -> None:
    """Record the next certificate; the one before stays good for a moment."""
    tx.run(
        "UPDATE site SET previous_serial = certificate_serial, renewed_at = :at, certificate = :certificate,"
        " certificate_serial = :serial, certificate_not_after = :not_after WHERE site = :site",
        site=site, certificate=certificate, serial=serial, not_after=not_after, at=at,
    )  # fmt: skip


def set_state(tx: Transaction, site: str, state: str) -> None:
    """Change a site's state."""
    tx.run("UPDATE site SET state = :state WHERE site = :site", site=site, state=state)


def set_instance(tx: Transaction, site: str, instance: str, superseded: list[str]) -> None:
    """Hand the lease to an instance."""
    tx.run(
        "UPDATE site SET instance = :instance, superseded = :superseded WHERE site = :site",
        site=site, instance=instance, superseded=json.dumps(superseded),
    )  # fmt: skip


def set_barred(tx: Transaction, site: str, reason: str | None) -> None:
    """Keep a site out of cohorts (`reason`), or let it back in (None)."""
    tx.run("UPDATE site SET barred = :reason WHERE site = :site", site=site, reason=reason)


def set_seen(tx: Transaction, site: str, at: str) -> None:
    """Record when a site was last heard of, for people to read."""
    tx.run("UPDATE site SET last_seen_at = :at WHERE site = :site", site=site, at=at)
