"""The second factor: six digits of the time (RFC 6238), and recovery codes for when the telephone is lost."""

import base64
import hmac
import os
import re
from datetime import datetime
from urllib.parse import quote

from shared.canonical import tagged_hash
from shared.crypto.secret import Secret

SECRET_BYTES = 20
RECOVERY_CODES = 10
_STEP_SECONDS = 30
_DIGITS = 6
_DRIFT = 1  # steps that a telephone's clock may be off
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


def new_secret() -> Secret:
    """Return a new shared secret."""
    return Secret(os.urandom(SECRET_BYTES))


def provisioning_uri(secret: Secret, federation: str, operator: str) -> str:
    """Return what an authenticator application reads, usually as a QR code."""
    label = quote(f"Mitral {federation}:{operator}")
    return f"otpauth://totp/{label}?secret={shown(secret)}&issuer={quote(f'Mitral {federation}')}"


def shown(secret: Secret) -> str:
    """Return the secret as people type it into an application."""
    return base64.b32encode(secret.reveal()).decode("ascii")


def code_at(secret: Secret, step: int) -> str:
    """Return the code of one 30-second step."""
    digest = hmac.digest(secret.reveal(), step.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 0x0F
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**_DIGITS:0{_DIGITS}d}"


def step_at(now: datetime) -> int:
    """Return the number of the 30-second step that `now` lies in."""
    return int(now.timestamp()) // _STEP_SECONDS


def matching_step(secret: Secret, code: str, last_step: int, now: datetime) -> int | None:
    """Return the step whose code this is, if it lies within a minute and after the last one used; a code works once."""
    if not is_totp(code):
        return None
    found = None
    for step in range(step_at(now) - _DRIFT, step_at(now) + _DRIFT + 1):
        if hmac.compare_digest(code_at(secret, step), code) and step > last_step:
            found = step
    return found


def is_totp(code: str) -> bool:
    """Return whether this is a code of six digits; anything else is taken for a recovery code."""
    return _CODE.fullmatch(code) is not None


def new_recovery_codes() -> list[str]:
    """Return codes of 80 random bits, in groups that can be read aloud."""
    texts = [base64.b32encode(os.urandom(10)).decode("ascii").lower() for _ in range(RECOVERY_CODES)]
    return ["-".join(text[start : start + 4] for start in range(0, 16, 4)) for text in texts]


def recovery_hash(operator: str, code: str) -> str:
    """Return what is stored of a recovery code."""
    plain = "".join(code.lower().split()).replace("-", "")
    return tagged_hash("FED recovery code", operator.encode(), b"\0", plain.encode("utf-8", "replace")).hex()
