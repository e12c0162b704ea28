"""Signing in through the operators' identity provider: OpenID Connect, code flow with PKCE, bound to one browser.

The provider says who somebody is and asks for the second factor; who that is here, and in what role, an administrator
has said before. Nobody is let in because the provider knows him.
"""

import secrets
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from coordinator.accounts import check_invite
from coordinator.audit import AuditLog, Fact
from coordinator.config import Settings
from coordinator.operators import Principal, actor_of
from coordinator.storage import identities as stored
from coordinator.storage import operators as stored_operators
from coordinator.storage import tokens as stored_tokens
from coordinator.storage.database import Transaction
from shared.canonical import JsonObject
from shared.clock import timestamp
from shared.errors import InputError, Refusal, Unavailable

_PENDING_FOR = timedelta(minutes=10)
_MOST_PENDING = 1000
_LEEWAY_SECONDS = 60
_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")  # never none, never the client's secret as a key
_LONGEST_SUBJECT = 255


@dataclass(frozen=True, slots=True)
class Started:
    """A login on its way: where the browser goes, and the cookie that ties the answer to it."""

    url: str
    cookie: str


@dataclass(frozen=True, slots=True)
class _Pending:
    cookie: str
    nonce: str
    verifier: str
    started_at: datetime


class Oidc:
    """The provider of the settings, and the logins on their way; a restart forgets them."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; nothing is asked before somebody signs in."""
        self._settings = settings
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()

    def start(self, redirect_uri: str, now: datetime) -> Started:
        """Return where to send a browser.

        Raises:
            InputError: ``oidc_disabled``.
            Unavailable: ``oidc_provider``.
        """
        # These libraries take a second to load, and a service that starts after a crash should not wait for them.
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        provider = self._discover()
        state, nonce, verifier, cookie = (secrets.token_urlsafe(48) for _ in range(4))
        with self._lock:
            for old in [key for key, one in self._pending.items() if now - one.started_at > _PENDING_FOR]:
                del self._pending[old]
            if len(self._pending) >= _MOST_PENDING:
                raise Unavailable("rate_limited", "too many logins are on their way")
            self._pending[state] = _Pending(cookie, nonce, verifier, now)
        url = prepare_grant_uri(
            str(provider["authorization_endpoint"]),
            client_id=self._settings.oidc_client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope="openid",
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return Started(str(url), cookie)

    def finish(self, redirect_uri: str, *, state: str, code: str, cookie: str, now: datetime) -> tuple[str, str]:
        """Return issuer and subject of who came back; each start is finished at most once.

        Raises:
            InputError: ``oidc_disabled``.
            Refusal: ``oidc_refused``.
            Unavailable: ``oidc_provider``.
        """
        from coordinator import outbound

        with self._lock:
            pending = self._pending.pop(state, None)
        if pending is None or now - pending.started_at > _PENDING_FOR:
            raise Refusal("oidc_refused", "this login is unknown, too old or was finished")
        if not secrets.compare_digest(pending.cookie.encode(), cookie.encode("utf-8", "replace")):
            raise Refusal("oidc_refused", "the login was started in another browser")
        settings, provider = self._settings, self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": pending.verifier,
        }
        client = (settings.oidc_client_id or "", _client_secret(settings))
        answer = outbound.post_form(str(provider["token_endpoint"]), form, client, settings.oidc_ca_file)
        keys = outbound.get_json(str(provider["jwks_uri"]), settings.oidc_ca_file)
        subject = _check_id_token(str(answer.get("id_token")), keys, settings, pending.nonce, now)
        return str(settings.oidc_issuer), subject

    def _discover(self) -> JsonObject:
        from coordinator import outbound

        issuer = self._settings.oidc_issuer
        if issuer is None or self._settings.oidc_client_id is None:
            raise InputError("oidc_disabled", "oidc_issuer and oidc_client_id are not set")
        _check_url(issuer)
        found = outbound.get_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration", self._settings.oidc_ca_file)
        if found.get("issuer") != issuer:
            raise Unavailable("oidc_provider", "the provider calls itself by another name than oidc_issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            _check_url(str(found.get(name)))
        return found


def bind(
    tx: Transaction, log: AuditLog, by: Principal, operator: str, issuer: str, subject: str | None, now: datetime
) -> None:
    """Say who an operator is at the provider, or with no subject that he is nobody there.

    Raises:
        InputError: ``operator_unknown``, ``field_invalid``, ``identity_taken``.
        Refusal: ``grant_denied``.
    """
    check_invite(tx, by, operator)
    stored.drop_identity(tx, operator)
    stored_tokens.end_sessions(tx, operator, timestamp(now))  # of whoever he was at the provider until now
    if subject is not None:
        if not 1 <= len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise InputError("field_invalid", f"subject: 1 to {_LONGEST_SUBJECT} printable characters")
        if stored.read_identity(tx, issuer, subject) is not None:
            raise InputError("identity_taken", "another operator is bound to this subject")
        stored.add_identity(tx, operator, issuer, subject, timestamp(now))
    data = {"bound": subject is not None}
    private = {} if subject is None else {"subject": subject}
    fact = Fact("account.bound", actor_of(by), data, subject=("operator", operator), private=private)
    log.append(tx, fact, now)


def operator_for(tx: Transaction, issuer: str, subject: str) -> str:
    """Return the operator who is bound to a subject.

    Raises:
        Refusal: ``oidc_unknown``.
    """
    operator = stored.read_identity(tx, issuer, subject)
    found = None if operator is None else stored_operators.read_operator(tx, operator)
    if found is None or found.removed_at is not None:
        raise Refusal("oidc_unknown", "the provider knows you; nobody here is bound to that identity")
    return found.operator


def _check_id_token(token: str, keys: JsonObject, settings: Settings, nonce: str, now: datetime) -> str:
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    required: JsonObject = {
        "iss": {"essential": True, "value": settings.oidc_issuer},
        "aud": {"essential": True, "value": settings.oidc_client_id},
    }
    if settings.oidc_acr is not None:
        required["acr"] = {"essential": True, "value": settings.oidc_acr}
    params = {"nonce": nonce, "client_id": settings.oidc_client_id}
    try:
        decoded = jwt.decode(token, KeySet.import_key_set({"keys": keys["keys"]}), algorithms=list(_ALGORITHMS))
        claims = CodeIDToken(decoded.claims, decoded.header, required, params)
        claims.validate(now=int(now.timestamp()), leeway=_LEEWAY_SECONDS)
        subject = claims["sub"]
    except (JoseError, KeyError, TypeError, ValueError) as error:
        raise Refusal("oidc_refused", f"the provider's token is not acceptable: {type(error).__name__}") from error
    if not isinstance(subject, str) or not subject:
        raise Refusal("oidc_refused", "the provider's token names nobody")
    return subject


def _client_secret(settings: Settings) -> str:
    if settings.oidc_client_secret_file is None:
        return ""
    try:
        return settings.oidc_client_secret_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unavailable("oidc_provider", f"oidc_client_secret_file: {error.strerror}") from error


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    is_here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not is_here:
        raise Unavailable("oidc_provider", f"{url[:80]!r} is not https")
