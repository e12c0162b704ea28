"""Hybrid HPKE: what only one site can read, now and after quantum computers (PROTOCOLS A5, suite 1).

HPKE(MLKEM768_X25519, HKDF-SHA256, AES-256-GCM), base mode. It has no associated data and names no sender, so callers
bind the context through `info` and authenticate the sealed bytes by the signature of the envelope that carries them.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from shared.crypto.secret import Secret
from shared.errors import Misuse, PeerFault, Unavailable

SUITE = 1
MLKEM768_BYTES = 1184
X25519_BYTES = 32
OVERHEAD_BYTES = 1088 + 32 + 16  # two encapsulations and the tag: a sealed text is this much longer than the text
_SEED_BYTES = 64 + 32


@dataclass(frozen=True, slots=True)
class KemPublicKey:
    """Both public keys of a site's KEM pair."""

    mlkem768: bytes
    x25519: bytes

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            PeerFault: ``key_malformed``.
        """
        if len(self.mlkem768) != MLKEM768_BYTES or len(self.x25519) != X25519_BYTES:
            raise PeerFault("key_malformed", f"a KEM key pair has {MLKEM768_BYTES} and {X25519_BYTES} bytes")


class KemPrivateKey:
    """A site's KEM pair."""

    __slots__ = ("_mlkem", "_x25519")

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        """Wrap two private keys; use `generate` or `from_seeds`."""
        self._mlkem = mlkem
        self._x25519 = x25519

    @classmethod
    def generate(cls) -> "KemPrivateKey":
        """Make a new pair.

        Raises:
            Unavailable: ``suite_unavailable`` when this build of OpenSSL has no ML-KEM.
        """
        try:
            return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())
        except UnsupportedAlgorithm as error:
            raise Unavailable("suite_unavailable", "the installed `cryptography` has no ML-KEM-768") from error

    @classmethod
    def from_seeds(cls, seeds: Secret) -> "KemPrivateKey":
        """Return the pair whose `seeds` these are: 64 bytes of ML-KEM seed (d || z), then 32 bytes of X25519.

        Raises:
            Misuse: ``key_length``.
            Unavailable: ``suite_unavailable``.
        """
        raw = seeds.reveal()
        if len(raw) != _SEED_BYTES:
            raise Misuse("key_length", f"the seeds of a KEM pair have {_SEED_BYTES} bytes, not {len(raw)}")
        try:
            return cls(MLKEM768PrivateKey.from_seed_bytes(raw[:64]), X25519PrivateKey.from_private_bytes(raw[64:]))
        except UnsupportedAlgorithm as error:
            raise Unavailable("suite_unavailable", "the installed `cryptography` has no ML-KEM-768") from error

    @property
    def seeds(self) -> Secret:
        """Return what `from_seeds` takes, to be sealed at rest."""
        return Secret(self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw())

    @property
    def public_key(self) -> KemPublicKey:
        """Return the public half."""
        return KemPublicKey(self._mlkem.public_key().public_bytes_raw(), self._x25519.public_key().public_bytes_raw())

    def decrypt(self, sealed: bytes, info: bytes) -> bytes:
        """Return the plaintext; `open_sealed` is the same with Mitral's errors."""
        return _suite().decrypt(sealed, hpke.MLKEM768X25519PrivateKey(self._mlkem, self._x25519), info)

    def __repr__(self) -> str:
        """Show nothing."""
        return "KemPrivateKey(<secret>)"


def seal(public: KemPublicKey, plaintext: bytes, info: bytes) -> bytes:
    """Seal `plaintext` for the owner of `public`, bound to `info`; `OVERHEAD_BYTES` longer than the plaintext.

    Raises:
        PeerFault: ``key_malformed`` for keys no honest site makes (low order, coefficients out of range).
    """
    try:
        recipient = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public.mlkem768), X25519PublicKey.from_public_bytes(public.x25519)
        )
        return _suite().encrypt(plaintext, recipient, info)
    except ValueError as error:
        raise PeerFault("key_malformed", f"a KEM public key is unusable: {error}") from error
    except UnsupportedAlgorithm as error:
        raise Unavailable("suite_unavailable", "the installed `cryptography` has no ML-KEM-768") from error


def open_sealed(private: KemPrivateKey, sealed: bytes, info: bytes) -> bytes:
    """Return the plaintext that was sealed for this pair under the same `info`.

    Raises:
        PeerFault: ``envelope_unreadable`` for another recipient, other `info`, or one changed or missing byte.
    """
    if len(sealed) < OVERHEAD_BYTES:
        raise PeerFault("envelope_unreadable", f"a sealed text has at least {OVERHEAD_BYTES} bytes, not {len(sealed)}")
    try:
        return private.decrypt(sealed, info)
    except (InvalidTag, ValueError) as error:
        raise PeerFault("envelope_unreadable", "a sealed text does not open under this key and binding") from error


def check_public_key(public: KemPublicKey) -> None:
    """Refuse a key that nothing could be sealed for, before a roster with it is signed.

    Raises:
        PeerFault: ``key_malformed``.
    """
    seal(public, b"", b"SA1 key check")


def check_suite_available() -> None:
    """Make one pair, seal and open: what a service does at start before it promises suite 1.

    Raises:
        Unavailable: ``suite_unavailable``.
    """
    private = KemPrivateKey.generate()
    try:
        opened = open_sealed(private, seal(private.public_key, b"mitral", b"SA1 suite check"), b"SA1 suite check")
    except PeerFault as error:
        raise Unavailable("suite_unavailable", "hybrid HPKE does not work in this installation") from error
    if opened != b"mitral":
        raise Unavailable("suite_unavailable", "hybrid HPKE gives back another text in this installation")


def _suite() -> hpke.Suite:
    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
