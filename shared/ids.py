"""Typed identifiers: PROTOCOLS section 1, clause 3 (``[a-z0-9._-]{1,64}``)."""

import os
import re
from typing import NewType

from shared.errors import InputError

SiteId = NewType("SiteId", str)
StudyId = NewType("StudyId", str)
FederationId = NewType("FederationId", str)
OperatorId = NewType("OperatorId", str)

COORDINATOR = "coordinator"  # the key id under which the coordinator signs; no site may take it

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # ids are parts of paths: never "." or "..", never an option


def check_id(text: str, what: str = "id") -> str:
    """Return `text` if it is a well-formed id.

    Raises:
        InputError: ``id_malformed``.
    """
    given: object = text  # annotations promise text, but what comes out of a message may break the promise
    if not isinstance(given, str) or not _ID.fullmatch(given) or given == COORDINATOR:
        raise InputError(
            "id_malformed",
            f"{what} {str(given)[:80]!r}: 1 to 64 of a-z 0-9 . _ -, none of . _ - first, not 'coordinator'",
        )
    return text


def uuid7(unix_milliseconds: int) -> str:
    """Return a UUID version 7 (RFC 9562): time-ordered, 74 random bits."""
    value = (unix_milliseconds & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
