"""Canonical JSON (RFC 8785), strict parsing, tagged hashes, length prefixes: PROTOCOLS section 1, clauses 3 and 4."""

import base64
import binascii
import hashlib
import json
import re
from typing import Any, NoReturn

import rfc8785

from shared.errors import Misuse, PeerFault

JsonObject = dict[str, Any]
_MAX_INTEGER = 2**53 - 1
_MAX_DEPTH = 64  # far below the interpreter's recursion limit, far above any message
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


def canonical_bytes(value: object) -> bytes:
    """Return the RFC 8785 bytes of `value`; the bytes several parties must build alike.

    Raises:
        Misuse: ``not_canonical`` for floats, integers outside +-(2^53-1), odd keys or unknown types.
    """
    flaw = _flaw(value)
    if flaw:
        raise Misuse("not_canonical", flaw)
    return rfc8785.dumps(value)  # type: ignore[arg-type]


def parse_strict(raw: bytes) -> JsonObject:
    """Parse a JSON object, refusing what two parsers could read differently.

    Raises:
        PeerFault: ``json_malformed`` for bad UTF-8 or JSON, duplicate keys, floats, huge integers, odd keys or
            a top level that is not an object.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_float,
            parse_constant=_no_float,
            parse_int=_integer,
        )
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise PeerFault("json_malformed", str(error)[:200]) from error
    if not isinstance(value, dict):
        raise PeerFault("json_malformed", "the top level is not an object")
    flaw = _flaw(value)
    if flaw:
        raise PeerFault("json_malformed", flaw)
    return value


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Return ``H(tag, parts...) = SHA-256(ASCII(tag) || 0x00 || parts...)``, 32 bytes."""
    digest = hashlib.sha256(tag.encode("ascii") + b"\x00")
    for part in parts:
        digest.update(part)
    return digest.digest()


def length_prefixed(part: bytes) -> bytes:
    """Return ``lp(x) = uint16_be(len) || x``.

    Raises:
        Misuse: ``not_canonical`` when `part` is longer than 65535 bytes.
    """
    if len(part) > 0xFFFF:
        raise Misuse("not_canonical", f"a length-prefixed part has {len(part)} bytes, at most 65535 fit")
    return len(part).to_bytes(2, "big") + part


def u32(value: int) -> bytes:
    """Return `value` as four bytes, big-endian."""
    return value.to_bytes(4, "big")


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of `data` as 64 lowercase hex digits."""
    return hashlib.sha256(data).hexdigest()


def hash_bytes(text: str) -> bytes:
    """Return the 32 raw bytes of a lowercase hex hash.

    Raises:
        PeerFault: ``hash_malformed``.
    """
    if not _is_text(text) or not _HASH.fullmatch(text):
        raise PeerFault("hash_malformed", f"{str(text)[:80]!r} is not 64 lowercase hex digits")
    return bytes.fromhex(text)


def b64u(data: bytes) -> str:
    """Return base64url without padding, the form of binary fields in JSON."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_b64u(text: str, *, size: int | None = None) -> bytes:
    """Decode `b64u` text, refusing padding, other alphabets, non-canonical trailing bits and, if given, another size.

    Raises:
        PeerFault: ``base64_malformed``.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise PeerFault("base64_malformed", "a field is not base64url") from error
    if b64u(data) != text or (size is not None and len(data) != size):
        raise PeerFault("base64_malformed", f"a field is not canonical base64url of {size or 'any'} bytes")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not an integer; numbers with a fraction travel as decimal strings")


def _integer(text: str) -> int:
    if len(text) > 17:
        raise ValueError("integer outside +-(2^53-1)")
    return int(text)


def _is_text(value: object) -> bool:
    return isinstance(value, str)  # annotations promise it, but what comes out of a message may break the promise


def _flaw(value: object, depth: int = 0) -> str | None:  # noqa: PLR0911 (one return per type)
    """Return why `value` has no canonical form, or None."""
    if value is None or isinstance(value, bool):
        return None
    if depth > _MAX_DEPTH:
        return f"it is nested more than {_MAX_DEPTH} deep"
    if isinstance(value, str):
        surrogates = not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
        return "a text holds half of a surrogate pair, which has no UTF-8 form" if surrogates else None
    if isinstance(value, int):
        return "an integer lies outside +-(2^53-1)" if abs(value) > _MAX_INTEGER else None
    if isinstance(value, dict):
        odd = [key for key in value if not isinstance(key, str) or not _KEY.fullmatch(key)]
        if odd:
            return f"key {str(odd[0])[:80]!r} is not made of ASCII letters, digits, '_', '.', '-'"
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return next((flaw for item in value if (flaw := _flaw(item, depth + 1))), None)
    return f"a {type(value).__name__} has no canonical form"
