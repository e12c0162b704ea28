"""HKDF-SHA256 with the protocol's labels: every seed and key of SA1 is derived here (PROTOCOLS 1.5)."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from shared.canonical import length_prefixed
from shared.errors import Misuse


def kdf(key: bytes, label: str, *contexts: bytes) -> bytes:
    """Return ``HKDF-Expand(key, "SA1" || 0x00 || label || 0x00 || lp(c1) || lp(c2) || ..., 32)`` (PROTOCOLS 1.5).

    `contexts` are raw: a hash as its 32 bytes, an id as its ASCII bytes. Each is length-prefixed here.

    Raises:
        Misuse: ``key_length`` for a key that is not 32 bytes long.
    """
    if len(key) != 32:
        raise Misuse("key_length", f"a derivation key has 32 bytes, not {len(key)}")
    info = b"SA1\x00" + label.encode("ascii") + b"\x00" + b"".join(map(length_prefixed, contexts))
    return HKDFExpand(SHA256(), 32, info).derive(key)


def extract(salt: bytes, ikm: bytes) -> bytes:
    """Return ``HKDF-Extract-SHA256(salt, ikm)``, 32 bytes: the pair secret of PROTOCOLS A6."""
    return HKDF.extract(SHA256(), salt, ikm)
