"""AES-256-GCM under a key and nonce that the protocol prescribes: share blobs (PROTOCOLS A7 R1)."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.errors import Misuse, PeerFault

NONCE_BYTES = 12
TAG_BYTES = 16


def encrypt_share(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Return ciphertext || 16-byte tag. A (key, nonce) pair must never be used twice; the caller draws the nonce.

    Raises:
        Misuse: ``key_length`` for a key that is not 32 or a nonce that is not 12 bytes long.
    """
    return _cipher(key, nonce).encrypt(nonce, plaintext, aad)


def decrypt_share(key: bytes, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    """Return the plaintext of what `encrypt_share` made.

    Raises:
        PeerFault: ``share_unreadable`` when key, nonce, ciphertext or aad differ in one bit.
        Misuse: ``key_length``.
    """
    try:
        return _cipher(key, nonce).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError) as error:
        raise PeerFault("share_unreadable", "a share blob does not open under its key, nonce and binding") from error


def _cipher(key: bytes, nonce: bytes) -> AESGCM:
    if len(key) != 32 or len(nonce) != NONCE_BYTES:
        raise Misuse("key_length", f"AES-256-GCM takes 32 and {NONCE_BYTES} bytes, got {len(key)} and {len(nonce)}")
    return AESGCM(key)
