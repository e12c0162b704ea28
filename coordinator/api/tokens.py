"""API tokens and sessions: everybody makes and takes away his own; administrators take away anybody's."""

from starlette.responses import Response

from coordinator import tokens
from coordinator.api.call import Call, JsonAnswer
from coordinator.api.operators import access_answer
from coordinator.storage import tokens as stored
from shared.errors import InputError


def index(call: Call) -> Response:
    """List the tokens and sessions that the credential reaches, without their secrets, which nobody has."""
    now, idle = call.coordinator.clock.now(), call.coordinator.settings.session_idle_minutes
    with call.coordinator.database.reading("list tokens") as tx:
        found = [one for one in stored.read_tokens(tx) if call.operator.may("tokens.read", one.token_id, one.operator)]
    shown = [
        {
            "token": one.token_id,
            "operator": one.operator,
            "authn": one.authn,
            "name": one.name,
            "permissions": None if one.limits is None else one.limits.split(),
            "created_at": one.created_at,
            "expires_at": one.expires_at,
            "revoked_at": one.revoked_at,
            "seen_at": one.seen_at,
            "valid": tokens.is_valid(one, idle, now),
        }
        for one in found
    ]
    return JsonAnswer({"tokens": shown})


def issue(call: Call) -> Response:
    """Make a token for oneself and answer with its access file; the secret is shown this once."""
    coordinator, by = call.coordinator, call.operator
    given = call.json(name=str, permissions=list, days=int)
    permissions = given["permissions"] or []
    if not all(isinstance(one, str) for one in permissions):
        raise InputError("field_invalid", "permissions: a list of texts")
    with coordinator.database.transaction("issue a token") as tx:
        issued = tokens.issue(
            tx, coordinator.log, by, by.operator, name=given["name"] or "", permissions=permissions,
            days=given["days"], now=coordinator.clock.now(),
        )  # fmt: skip
    return access_answer(call, by.operator, by.role, issued)


def revoke(call: Call) -> Response:
    """Take a token or session away at once."""
    coordinator, token = call.coordinator, call.id("token")
    with coordinator.database.transaction("revoke a token") as tx:
        tokens.revoke(tx, coordinator.log, call.operator, token, coordinator.clock.now())
    return JsonAnswer({"token": token, "revoked": True})
