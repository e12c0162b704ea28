"""Fingerprints that two people compare by telephone or video (PROTOCOLS A4): 100 bits, four groups of five characters.

Never shorter: the comparison is not interactive, so an attacker may grind keys for as long as it likes.
"""

from shared.canonical import tagged_hash
from shared.errors import InputError, Misuse

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford base32: no I, L, O, U
_READ_AS = str.maketrans("OIL", "011", "-\u2010\u2011\u2013")  # the hyphens that mail programs make of a hyphen
_CHARACTERS = 20


def site_fingerprint(idk: bytes, log_key: bytes) -> str:
    """Return the fingerprint of a site's identity key and log key (32 bytes each).

    Raises:
        Misuse: ``key_length``.
    """
    if len(idk) != 32 or len(log_key) != 32:
        raise Misuse("key_length", "a fingerprint covers two Ed25519 public keys of 32 bytes")
    return hash_fingerprint(tagged_hash("FED fp v1", idk, log_key))


def hash_fingerprint(digest: bytes) -> str:
    """Return the first 100 bits of a 32-byte hash in the same form; used for roster hashes.

    Raises:
        Misuse: ``key_length``.
    """
    if len(digest) != 32:
        raise Misuse("key_length", f"a fingerprint is made from a 32-byte hash, not {len(digest)} bytes")
    bits = int.from_bytes(digest[:13], "big") >> 4
    return _grouped("".join(_ALPHABET[bits >> 5 * position & 31] for position in reversed(range(_CHARACTERS))))


def normalise_fingerprint(text: str) -> str:
    """Return a fingerprint as a person typed it, in the form above.

    Lower case, blanks, missing hyphens, O for 0 and I or L for 1 are accepted.

    Raises:
        InputError: ``fingerprint_malformed``.
    """
    letters = "".join(text.upper().split()).translate(_READ_AS)
    if len(letters) != _CHARACTERS or any(character not in _ALPHABET for character in letters):
        raise InputError("fingerprint_malformed", f"{text[:60]!r} is not four groups of five characters")
    return _grouped(letters)


def _grouped(letters: str) -> str:
    return "-".join(letters[start : start + 5] for start in range(0, _CHARACTERS, 5))
