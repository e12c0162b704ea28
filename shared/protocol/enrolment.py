"""Enrolment: invitation, request, pending, certificate (PROTOCOLS C2)."""

from typing import Annotated, Literal

from pydantic import Field

from shared.canonical import from_b64u, hash_bytes, tagged_hash
from shared.protocol.wire import Binary, Hash, Id, Timestamp, WireObject

TOKEN_PREFIX = "FT1-"  # noqa: S105 (a public prefix, not a secret)


class Invitation(WireObject):
    """The file an administrator hands to a hospital, out of band."""

    v: Literal["SA1"]
    kind: Literal["invitation"]
    federation: Id
    site: Id
    url: Annotated[str, Field(pattern=r"^https://")]
    pin: Hash  # SHA-256 of the root CA's SubjectPublicKeyInfo
    root: Binary  # the root CA certificate, DER
    token: str
    expires_at: Timestamp


class KemKeys(WireObject):
    """A site's key-encapsulation keys: 1184 and 32 bytes."""

    mlkem768: Binary
    x25519: Binary


class EnrolmentRequest(WireObject):
    """``POST /v1/enrol``: everything the federation will know the site by."""

    token: str
    csr: Binary  # DER, P-256; its subject is ignored
    idk: Binary
    log_key: Binary
    kem: KemKeys
    kem_seq: Annotated[int, Field(ge=1)]
    kem_attest: Binary  # idk signature over both KEM keys and kem_seq (PROTOCOLS A4)
    name: Annotated[str, Field(max_length=200)]
    legal: Annotated[str, Field(max_length=200)]
    attest: Binary  # idk signature over `attested`

    def attested(self, ca_pin: str) -> bytes:
        """Return what `attest` signs: H("FED enrol", token_hash, csr, kem, log_key, ca_pin) of PROTOCOLS C2."""
        return tagged_hash(
            "FED enrol",
            tagged_hash("FED token", self.token.encode("ascii", "replace")),
            from_b64u(self.csr),
            from_b64u(self.kem.mlkem768, size=1184),
            from_b64u(self.kem.x25519, size=32),
            from_b64u(self.log_key, size=32),
            hash_bytes(ca_pin),
        )


class EnrolmentPending(WireObject):
    """``202``: the request waits for an administrator who compares fingerprints."""

    request_id: str
    state: Literal["pending"]
    fingerprint: str
    retry_after_seconds: int


class EnrolmentGranted(WireObject):
    """``200`` of ``GET /v1/enrol/{request_id}``: the certificate chain, leaf first."""

    request_id: str
    state: Literal["approved"]
    site: Id
    federation: Id
    chain: list[Binary]  # DER: site certificate, clients intermediate
    root: Binary
    coordinator_idk: Binary
    coordinator_log_vkey: str


class EnrolmentPoll(WireObject):
    """Payload (kind ``enrolment``): authenticates ``GET /v1/enrol/{request_id}`` as ``Authorization: DSSE <b64u>``."""

    v: Literal["SA1"]
    kind: Literal["enrolment"]
    request_id: str
    at: Timestamp
