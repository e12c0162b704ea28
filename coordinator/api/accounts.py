"""Accounts of people: one-time links, signing in and out."""

from datetime import datetime

from starlette.responses import Response

from coordinator import accounts, second_factor, sessions
from coordinator.access_file import build_access_file, build_link_file
from coordinator.api.call import Call, JsonAnswer
from coordinator.logins import Attempt, check_login
from coordinator.operators import read
from coordinator.state import operator_url
from shared.canonical import JsonObject
from shared.crypto.secret import Secret
from shared.errors import InputError
from shared.ids import check_id

_LONGEST = 1024


def set_up(call: Call) -> Response:
    """Take a password for a one-time link; answer with the second factor, which its first code puts in force."""
    coordinator = call.coordinator
    given = call.json(link=str, password=str)
    link, password = _text(call, given, "link"), _text(call, given, "password")
    operator, secret = accounts.set_up(coordinator.database, coordinator.keys.kek, link, password, _now(call))
    uri = second_factor.provisioning_uri(secret, coordinator.federation, operator)
    return JsonAnswer({"operator": operator, "totp_secret": second_factor.shown(secret), "totp_uri": uri})


def confirm(call: Call) -> Response:
    """Put an account in force with the first code; answer with recovery codes, shown this once."""
    coordinator = call.coordinator
    given = call.json(link=str, code=str)
    link, code = _text(call, given, "link"), _text(call, given, "code")
    with coordinator.database.transaction("confirm an account") as tx:
        operator, codes = accounts.confirm(tx, coordinator.log, coordinator.keys.kek, link, code, _now(call))
    return JsonAnswer({"operator": operator, "recovery_codes": codes})


def login(call: Call) -> Response:
    """Open a session for a name, a password and a code; answer with an access file that holds the session."""
    coordinator, now = call.coordinator, _now(call)
    given = call.json(operator=str, password=str, code=str)
    attempt = _attempt(call, given, check_id(_text(call, given, "operator"), "operator"))
    check_login(coordinator.database, coordinator.log, coordinator.keys.kek, attempt, now)
    return session_answer(call, attempt.operator, "local")


def logout(call: Call) -> Response:
    """End the session one asks with."""
    with call.coordinator.database.transaction("end a session") as tx:
        sessions.end_session(tx, call.coordinator.log, call.operator, _now(call))
    return JsonAnswer({"session": call.operator.credential, "ended": True})


def renew(call: Call) -> Response:
    """Make a one-time link for oneself, to change password and second factor; both have to be shown again."""
    coordinator, operator = call.coordinator, call.operator.operator
    attempt = _attempt(call, call.json(password=str, code=str), operator)
    check_login(coordinator.database, coordinator.log, coordinator.keys.kek, attempt, _now(call))
    return _link(call, operator, is_confirmed=True)


def invite(call: Call) -> Response:
    """Make a one-time link for an operator whose role one may give; an earlier link ends."""
    return _link(call, call.id("operator"), is_confirmed=False)


def session_answer(call: Call, operator: str, authn: str) -> Response:
    """Open a session and return it as an access file."""
    coordinator = call.coordinator
    with coordinator.database.transaction("open a session") as tx:
        role = read(tx, operator).role
        opened = sessions.open_session(tx, coordinator.log, coordinator.settings, operator, authn, _now(call))
    url = operator_url(coordinator.settings, coordinator.operator_port)
    return JsonAnswer(build_access_file(url, coordinator.keys.root_der, operator, role, opened.secret), 201)


def _link(call: Call, operator: str, *, is_confirmed: bool) -> Response:
    coordinator = call.coordinator
    with coordinator.database.transaction("make an account link") as tx:
        if not is_confirmed:
            accounts.check_invite(tx, call.operator, operator)
        link = accounts.invite(tx, coordinator.log, call.operator, operator, _now(call))
    url = operator_url(coordinator.settings, coordinator.operator_port)
    return JsonAnswer(build_link_file(url, coordinator.keys.root_der, link.operator, link.secret, link.expires_at), 201)


def _attempt(call: Call, given: JsonObject, operator: str) -> Attempt:
    return Attempt(operator, Secret(_text(call, given, "password").encode()), _text(call, given, "code"))


def _text(call: Call, given: JsonObject, name: str) -> str:
    text: str = call.required(given, name)
    if len(text) > _LONGEST or not text.isprintable():  # half a surrogate pair is not printable either
        raise InputError("field_invalid", f"{name}: up to {_LONGEST} printable characters")
    return text


def _now(call: Call) -> datetime:
    return call.coordinator.clock.now()
