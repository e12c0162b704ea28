"""The coordinator's own keys, sealed under the KEK of its state directory (PROTOCOLS C1, C4, C5)."""

import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from shared.canonical import JsonObject, b64u, canonical_bytes, from_b64u
from shared.clock import parse_timestamp, timestamp
from shared.crypto import x509
from shared.crypto.at_rest import load_or_create_kek, open_at_rest, seal_at_rest
from shared.crypto.identity import SigningKey
from shared.crypto.sealing import KemPrivateKey
from shared.crypto.secret import Secret
from shared.errors import InputError

_SEALED = "keys.sealed"
_ROOT_KEY = "root-key.sealed"  # not needed while the service runs: an administrator may move it to a safe
_PUBLIC = "certificates.json"
_SERVER_CHAIN = "server.pem"
_SERVER_KEY = "server-key.pem"
_RENEW_FROM = 1 / 3  # of the server certificate's life left


@dataclass(frozen=True, slots=True)
class Keys:
    """Everything the service signs and opens with."""

    folder: Path
    idk: SigningKey
    log_key: SigningKey
    former_log_key: SigningKey | None  # the one before the last rotation, and when that was
    log_rotated_at: str | None
    kem: KemPrivateKey
    clients: x509.Issuer
    server: x509.Issuer
    root_der: bytes
    tls_password: Secret
    kek: Secret  # seals what the database keeps of people

    @property
    def pin(self) -> str:
        """Return what invitations pin: the digest of the root's public key."""
        return x509.spki_pin(self.root_der)

    @property
    def server_chain_path(self) -> Path:
        """Return the PEM file with the server certificate and its issuer."""
        return self.folder / _SERVER_CHAIN

    @property
    def server_key_path(self) -> Path:
        """Return the encrypted PEM file of the server's TLS key."""
        return self.folder / _SERVER_KEY

    def issue_site_certificate(self, csr: bytes, federation: str, site: str, now: datetime, days: int) -> bytes:
        """Return a client certificate for an approved site."""
        return x509.issue_site_certificate(self.clients, csr, federation, site, now, days)


def create_keys(folder: Path, federation: str, now: datetime) -> Keys:
    """Make the identity, the log key, the KEM pair and the private authority.

    Raises:
        InputError: ``state_exists`` when there are keys already; nothing is overwritten.
    """
    if (folder / _SEALED).exists():
        raise InputError("state_exists", f"{folder} already holds keys")
    kek = load_or_create_kek(folder / "kek")
    authority = x509.create_authority(federation, now)
    password = Secret(b64u(os.urandom(32)).encode())

    def issuer_pem(issuer: x509.Issuer) -> str:
        return issuer.key.to_encrypted_pem(password).decode()

    secrets = {
        "idk": b64u(SigningKey.generate().seed.reveal()),
        "log_key": b64u(SigningKey.generate().seed.reveal()),
        "kem": b64u(KemPrivateKey.generate().seeds.reveal()),
        "tls_password": password.reveal().decode(),
        "clients": issuer_pem(authority.clients),
        "server": issuer_pem(authority.server),
    }
    certificates = {name: b64u(getattr(authority, name).cert_der) for name in ("root", "clients", "server")}
    root_key = canonical_bytes({"root": issuer_pem(authority.root), "password": password.reveal().decode()})
    _write(folder / _ROOT_KEY, seal_at_rest(kek, root_key, "coordinator/root-key"))
    _write(folder / _PUBLIC, canonical_bytes({**certificates, "server_until": None}))
    _write(folder / _SEALED, seal_at_rest(kek, canonical_bytes(secrets), "coordinator/keys"))
    return load_keys(folder)


def load_keys(folder: Path) -> Keys:
    """Return the keys of an initialised state directory.

    Raises:
        InputError: ``state_missing``.
        PeerFault: ``at_rest_damaged``.
    """
    if not (folder / _SEALED).exists():
        raise InputError("state_missing", f"{folder} holds no keys")
    kek = load_or_create_kek(folder / "kek")
    secrets = _secrets(folder)
    public = _public(folder)
    password = Secret(secrets["tls_password"].encode())
    former = secrets.get("former_log_key")

    def issuer(name: str) -> x509.Issuer:
        return x509.Issuer(from_b64u(public[name]), x509.TlsKey.from_encrypted_pem(secrets[name].encode(), password))

    return Keys(
        folder=folder,
        idk=SigningKey.from_seed(from_b64u(secrets["idk"])),
        log_key=SigningKey.from_seed(from_b64u(secrets["log_key"])),
        former_log_key=None if former is None else SigningKey.from_seed(from_b64u(former)),
        log_rotated_at=secrets.get("log_rotated_at"),
        kem=KemPrivateKey.from_seeds(Secret(from_b64u(secrets["kem"]))),
        clients=issuer("clients"),
        server=issuer("server"),
        root_der=from_b64u(public["root"]),
        tls_password=password,
        kek=kek,
    )


def prepare_log_key(folder: Path) -> SigningKey:
    """Return the log's next signing key; it is made once and kept until `promote_log_key`."""
    secrets = _secrets(folder)
    if "next_log_key" not in secrets:
        secrets["next_log_key"] = b64u(SigningKey.generate().seed.reveal())
        _seal(folder, secrets)
    return SigningKey.from_seed(from_b64u(secrets["next_log_key"]))


def promote_log_key(folder: Path, now: datetime) -> None:
    """Make the prepared key the log's own; the one before becomes the former one."""
    secrets = _secrets(folder)
    secrets |= {"former_log_key": secrets["log_key"], "log_rotated_at": timestamp(now)}
    secrets["log_key"] = secrets.pop("next_log_key")
    _seal(folder, secrets)


def renew_server_certificate(keys: Keys, names: list[str], now: datetime, days: int) -> bool:
    """Issue the server certificate when there is none, when it gets old or when its names changed; say whether."""
    public = _public(keys.folder)
    until = public["server_until"]
    fresh = until is not None and parse_timestamp(until) - now > timedelta(days=days) * _RENEW_FROM
    if fresh and public.get("server_names") == names and keys.server_key_path.exists():
        return False
    key = x509.TlsKey.generate()
    certificate = x509.issue_server_certificate(keys.server, key, names, now, days)
    _write(keys.server_key_path, key.to_encrypted_pem(keys.tls_password))
    _write(keys.server_chain_path, x509.pem(certificate, keys.server.cert_der))
    public |= {"server_until": timestamp(now + timedelta(days=days)), "server_names": names}
    _write(keys.folder / _PUBLIC, canonical_bytes(public))
    return True


def _secrets(folder: Path) -> JsonObject:
    kek = load_or_create_kek(folder / "kek")
    found: JsonObject = json.loads(open_at_rest(kek, (folder / _SEALED).read_bytes(), "coordinator/keys"))
    return found


def _seal(folder: Path, secrets: JsonObject) -> None:
    kek = load_or_create_kek(folder / "kek")
    _write(folder / _SEALED, seal_at_rest(kek, canonical_bytes(secrets), "coordinator/keys"))


def _public(folder: Path) -> JsonObject:
    found: JsonObject = json.loads((folder / _PUBLIC).read_bytes())
    return found


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
