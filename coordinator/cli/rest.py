"""The command line's own HTTP client: standard library only, trusting the access file's root and no other."""

import http.client
import json
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.canonical import JsonObject, from_b64u, parse_strict
from shared.errors import InputError, MitralError, PeerFault, Unavailable
from shared.protocol.problems import error_from_problem

ACCESS_VARIABLE = "MITRAL_ACCESS"
_TIMEOUT_SECONDS = 60


class Rest:
    """Calls the operator plane with an access file, or with a link file the few routes that take a link."""

    def __init__(self, access: Path | None) -> None:
        """Read the access file, given or named by MITRAL_ACCESS.

        Raises:
            InputError: ``access_missing``, ``access_malformed``.
        """
        path = access or (Path(os.environ[ACCESS_VARIABLE]) if os.environ.get(ACCESS_VARIABLE) else None)
        if path is None:
            raise InputError("access_missing", f"give --access FILE or set {ACCESS_VARIABLE}")
        try:
            found = parse_strict(path.read_bytes())
            self._url = urlsplit(found["url"])
            self.operator = str(found["operator"])
            self.secret = str(found["token"] if "token" in found else found["link"])
            root = from_b64u(found["root"])
        except (OSError, KeyError, TypeError, PeerFault) as error:
            raise InputError("access_malformed", f"{path} is not a readable access file: {error}") from error
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.load_verify_locations(cadata=root)

    def get(self, path: str) -> JsonObject:
        """Return a JSON answer."""
        return parse_strict(self.call("GET", path))

    def post(self, path: str, body: JsonObject | None = None) -> JsonObject:
        """Send an object and return a JSON answer."""
        return parse_strict(self.call("POST", path, json.dumps(body or {}).encode()))

    def delete(self, path: str) -> JsonObject:
        """Delete and return a JSON answer."""
        return parse_strict(self.call("DELETE", path))

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return the body of a successful answer.

        Raises:
            MitralError: what the coordinator answered, or ``coordinator_unreachable``.
        """
        connection = http.client.HTTPSConnection(
            self._url.hostname or "", self._url.port, context=self._tls, timeout=_TIMEOUT_SECONDS
        )
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            status, raw = response.status, response.read()
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            raise Unavailable("coordinator_unreachable", f"{self._url.netloc}: {error}") from error
        finally:
            connection.close()
        if 200 <= status < 300:
            return raw
        raise _error_of(status, raw)


def _error_of(status: int, raw: bytes) -> MitralError:
    try:
        known: Any = error_from_problem(parse_strict(raw))
    except PeerFault:
        known = None
    return known or Unavailable("coordinator_answer", f"status {status}, and no problem document of Mitral's")
