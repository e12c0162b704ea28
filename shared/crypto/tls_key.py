"""ECDSA P-256 keys for TLS (PROTOCOLS C1): made at each renewal, stored only encrypted (C5)."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.crypto.secret import Secret
from shared.errors import Misuse, PeerFault


class TlsKey:
    """An ECDSA P-256 key for TLS."""

    __slots__ = ("ec_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Wrap a private key; use `generate` or `from_encrypted_pem`."""
        self.ec_key = key

    @classmethod
    def generate(cls) -> "TlsKey":
        """Make a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_encrypted_pem(cls, pem_bytes: bytes, password: Secret) -> "TlsKey":
        """Return the key in an encrypted PKCS#8 file.

        Raises:
            PeerFault: ``at_rest_damaged`` for a wrong password, a damaged file or a key that is not P-256.
        """
        try:
            key = serialization.load_pem_private_key(pem_bytes, password.reveal())
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise PeerFault("at_rest_damaged", "a TLS key file does not open under its password") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise PeerFault("at_rest_damaged", "a TLS key file holds another kind of key than P-256")
        return cls(key)

    def to_encrypted_pem(self, password: Secret) -> bytes:
        """Return encrypted PKCS#8 PEM, which `ssl.SSLContext.load_cert_chain` reads with ``password=secret.reveal``.

        Raises:
            Misuse: ``key_length`` for a password that is not 1 to 1000 bytes long.
        """
        if not 1 <= len(password) <= 1000:
            raise Misuse("key_length", "the password of a TLS key file has 1 to 1000 bytes")
        return self.ec_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.reveal()),
        )

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        """Return the public half, for this module's own use."""
        return self.ec_key.public_key()

    def __repr__(self) -> str:
        """Show nothing."""
        return "TlsKey(<secret>)"
