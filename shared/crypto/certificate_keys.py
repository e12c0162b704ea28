"""Whether two certificates, or a certificate and a request, are for one key."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from shared.canonical import sha256_hex
from shared.crypto.x509 import spki_pin
from shared.errors import PeerFault


def is_for_same_key(one_der: bytes, other_der: bytes) -> bool:
    """Return whether two certificates are for one key.

    Raises:
        PeerFault: ``certificate_malformed``.
    """
    return spki_pin(one_der) == spki_pin(other_der)


def is_certificate_for(cert_der: bytes, csr_der: bytes) -> bool:
    """Return whether a certificate is for the key that a request asked for.

    Raises:
        PeerFault: ``certificate_malformed``.
    """
    try:
        key = x509.load_der_x509_csr(csr_der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PeerFault("certificate_malformed", "a certificate request cannot be read") from error
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return spki_pin(cert_der) == sha256_hex(spki)
