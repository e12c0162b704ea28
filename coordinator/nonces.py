"""Single-use numbers for sites that come without a certificate: nothing is stored for whoever only asks for one."""

import base64
import hashlib
import hmac
import os
import threading
from datetime import datetime, timedelta

from shared.errors import Refusal

_VALID = timedelta(minutes=5)
_RANDOM, _TAG = 16, 16


class Nonces:
    """Hands out numbers and takes each back once. They die with the process; whoever holds one asks for another."""

    def __init__(self) -> None:
        """Draw the key that makes numbers recognisable."""
        self._key = os.urandom(32)
        self._used: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def make(self, now: datetime) -> str:
        """Return a number that is good for five minutes."""
        body = int(now.timestamp()).to_bytes(8, "big") + os.urandom(_RANDOM)
        return base64.urlsafe_b64encode(body + self._tag(body)).decode("ascii")

    def use(self, nonce: str | None, now: datetime) -> None:
        """Take a number back; call it after the signature over it was verified, so that only sites can fill the memory.

        Raises:
            Refusal: ``nonce_invalid`` for one that is not ours, too old, or used before.
        """
        try:
            raw = base64.urlsafe_b64decode((nonce or "").encode("ascii"))
        except ValueError:
            raw = b""
        body, tag = raw[:-_TAG], raw[-_TAG:]
        if len(body) != 8 + _RANDOM or not hmac.compare_digest(self._tag(body), tag):
            raise Refusal("nonce_invalid", "the number was not given out here since the last start")
        made_at = datetime.fromtimestamp(int.from_bytes(body[:8], "big"), now.tzinfo)
        if not made_at <= now < made_at + _VALID:
            raise Refusal("nonce_invalid", "the number is older than five minutes")
        with self._lock:
            self._used = {one: until for one, until in self._used.items() if until > now}
            key = body.hex()
            if key in self._used:
                raise Refusal("nonce_invalid", "the number was used before")
            self._used[key] = made_at + _VALID

    def _tag(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_TAG]
