"""A small OpenID provider, run as a process of its own: discovery, authorization code with PKCE, signed id tokens.

``POST /behave`` tells it whom to let in and what to get wrong; a browser needs no login page.
"""

import base64
import http.server
import json
import secrets
import sys
import time
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, CLIENT_SECRET = "mitral", "provider-secret"
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}, auto_kid=False)
OTHER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}, auto_kid=False)


class Provider(http.server.BaseHTTPRequestHandler):
    behaviour: ClassVar[dict[str, Any]] = {}
    codes: ClassVar[dict[str, dict[str, str]]] = {}

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            issuer = self.behaviour.get("issuer", self.issuer)
            self.answer({"issuer": issuer, **{name: self.issuer + path for name, path in names.items()}})
        elif parts.path == "/keys":
            self.answer({"keys": [KEY.as_dict(private=False)]})
        elif parts.path == "/authorize":
            good = query["client_id"] == CLIENT and query["code_challenge_method"] == "S256"
            code = secrets.token_urlsafe(16)
            self.codes[code] = query
            back = {"state": query["state"], **({"code": code} if good else {"error": "invalid_request"})}
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}?{urlencode(back)}")
            self.end_headers()
        else:
            self.answer({"error": "not_found"}, 404)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/behave":
            Provider.behaviour = json.loads(raw)
            self.answer({})
            return
        form = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        asked = self.codes.pop(form.get("code", ""), None)
        credentials = base64.b64encode(f"{CLIENT}:{CLIENT_SECRET}".encode()).decode()
        is_good = (
            asked is not None
            and self.headers["Authorization"] == f"Basic {credentials}"
            and form["redirect_uri"] == asked["redirect_uri"]
            and create_s256_code_challenge(form["code_verifier"]) == asked["code_challenge"]
        )
        if asked is None or not is_good:
            self.answer({"error": "invalid_grant"}, 400)
            return
        self.answer({"access_token": "unused", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])})

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce, "sub": "ada@ward-7"}
        claims |= self.behaviour.get("claims", {})
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.behaviour.get("signature") == "none":
            parts = [json.dumps(one).encode() for one in ({"alg": "none"}, claims)]
            return ".".join([*(base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts), ""])
        key = OTHER if self.behaviour.get("signature") == "other" else KEY
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_args: object) -> None:
        return


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
