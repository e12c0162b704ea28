"""Ed25519 identity keys (RFC 8032): who signed a protocol message (PROTOCOLS C1)."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.crypto.secret import Secret
from shared.errors import Misuse, PeerFault

_Bytes = bytes  # VerifyKey has an attribute called `bytes`, which hides the type inside the class

# The points of small order, sign bit cleared. Under such a key a signature can be made that fits many messages, so
# whoever had one put into a roster could later deny what it signed.
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


class VerifyKey:
    """The public half of an identity. Equal and hashable by its 32 bytes."""

    __slots__ = ("_raw",)

    def __init__(self, raw: _Bytes) -> None:
        """Take the 32 bytes of a public key; `from_bytes` is the same under the name the rest of Mitral uses.

        Raises:
            PeerFault: ``key_malformed`` for another length or a point of small order.
        """
        if len(raw) != 32:
            raise PeerFault("key_malformed", f"an Ed25519 public key has 32 bytes, not {len(raw)}")
        if _Bytes(raw[:31]) + _Bytes([raw[31] & 0x7F]) in _SMALL_ORDER:
            raise PeerFault("key_malformed", "the Ed25519 public key is a point of small order")
        self._raw = _Bytes(raw)

    @classmethod
    def from_bytes(cls, raw: _Bytes) -> "VerifyKey":
        """Return the key with these 32 bytes.

        Raises:
            PeerFault: ``key_malformed``.
        """
        return cls(raw)

    @property
    def bytes(self) -> _Bytes:
        """Return the 32 bytes."""
        return self._raw

    def verify(self, signature: _Bytes, data: _Bytes) -> None:
        """Return if `signature` (64 bytes) is this key's over `data`.

        Raises:
            PeerFault: ``signature_invalid``.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self._raw).verify(signature, data)
        except (InvalidSignature, ValueError) as error:
            raise PeerFault("signature_invalid", "an Ed25519 signature does not verify under the pinned key") from error

    def __eq__(self, other: object) -> bool:
        """Compare the bytes."""
        return isinstance(other, VerifyKey) and self._raw == other._raw

    def __hash__(self) -> int:
        """Hash the bytes."""
        return hash(self._raw)

    def __repr__(self) -> str:
        """Show the key; it is public."""
        return f"VerifyKey({self._raw.hex()})"


class SigningKey:
    """The private half of an identity."""

    __slots__ = ("_key", "_verify_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Wrap a private key; use `generate` or `from_seed`."""
        self._key = key
        self._verify_key = VerifyKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: Secret | bytes) -> "SigningKey":
        """Return the key of a 32-byte seed.

        Raises:
            Misuse: ``key_length``.
        """
        raw = seed.reveal() if isinstance(seed, Secret) else seed
        if len(raw) != 32:
            raise Misuse("key_length", f"an Ed25519 seed has 32 bytes, not {len(raw)}")
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    @property
    def seed(self) -> Secret:
        """Return the 32-byte seed, to be sealed at rest."""
        return Secret(self._key.private_bytes_raw())

    @property
    def verify_key(self) -> VerifyKey:
        """Return the public half."""
        return self._verify_key

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature over `data`; deterministic."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        """Show the public half only."""
        return f"SigningKey(<secret>, {self._verify_key!r})"
