"""Signing in through the identity provider: the browser goes there and comes back."""

from http.cookies import SimpleCookie

from starlette.responses import RedirectResponse, Response

from coordinator import oidc
from coordinator.api.accounts import session_answer
from coordinator.api.call import Call, JsonAnswer
from coordinator.state import operator_url
from shared.errors import InputError, Refusal

_COOKIE = "__Host-mitral-login"


def start(call: Call) -> Response:
    """Send a browser to the identity provider."""
    coordinator = call.coordinator
    started = coordinator.oidc.start(_redirect_uri(call), coordinator.clock.now())
    answer = RedirectResponse(started.url, 303, {"Cache-Control": "no-store"})
    # Lax, because the way back from the provider is a navigation from another site.
    answer.set_cookie(_COOKIE, started.cookie, max_age=600, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def finish(call: Call) -> Response:
    """Open a session for a browser that comes back; answer with an access file that holds the session."""
    coordinator = call.coordinator
    if call.query("error") or not call.query("code"):
        raise Refusal("oidc_refused", "the provider did not let you in")
    cookies = SimpleCookie(call.request.headers.get("cookie", ""))
    issuer, subject = coordinator.oidc.finish(
        _redirect_uri(call),
        state=call.query("state"),
        code=call.query("code"),
        cookie=cookies[_COOKIE].value if _COOKIE in cookies else "",
        now=coordinator.clock.now(),
    )
    with coordinator.database.reading("find an identity") as tx:
        operator = oidc.operator_for(tx, issuer, subject)
    answer = session_answer(call, operator, "oidc")
    answer.headers["Cache-Control"] = "no-store"
    answer.delete_cookie(_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def bind(call: Call) -> Response:
    """Say who an operator is at the identity provider; without a subject, nobody."""
    coordinator, operator = call.coordinator, call.id("operator")
    subject = call.json(subject=str)["subject"]
    issuer = coordinator.settings.oidc_issuer
    if issuer is None:
        raise InputError("oidc_disabled", "oidc_issuer is not set")
    with coordinator.database.transaction("bind an identity") as tx:
        oidc.bind(tx, coordinator.log, call.operator, operator, issuer, subject, coordinator.clock.now())
    return JsonAnswer({"operator": operator, "bound": subject is not None})


def _redirect_uri(call: Call) -> str:
    return f"{operator_url(call.coordinator.settings, call.coordinator.operator_port)}/v1/oidc/callback"
