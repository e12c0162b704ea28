"""Operators and who I am."""

from starlette.responses import Response

from coordinator import operators, tokens
from coordinator.access_file import build_access_file
from coordinator.api.call import Call, JsonAnswer
from coordinator.permissions import ROLES
from coordinator.state import operator_url
from coordinator.storage import operators as stored


def whoami(call: Call) -> Response:
    """Return who the credential belongs to and what it reaches."""
    by = call.operator
    held = ROLES[by.role] if by.limits is None else by.limits
    return JsonAnswer(
        {
            "operator": by.operator,
            "roles": [by.role],
            "permissions": sorted(one.text for one in held),
            "expires_at": by.expires_at,
            "federation": call.coordinator.federation,
        }
    )


def index(call: Call) -> Response:
    """List all operators."""
    with call.coordinator.database.reading("list operators") as tx:
        found = stored.read_operators(tx)
    shown = [
        {
            "operator": one.operator,
            "role": one.role,
            "created_at": one.created_at,
            "removed_at": one.removed_at,
        }
        for one in found
    ]
    return JsonAnswer({"operators": shown})


def add(call: Call) -> Response:
    """Add an operator and answer with its access file; the token is shown this once."""
    coordinator, now = call.coordinator, call.coordinator.clock.now()
    given = call.json(operator=str, role=str, days=int)
    operator, role = call.required(given, "operator"), call.required(given, "role")
    with coordinator.database.transaction("add an operator") as tx:
        operators.add_operator(tx, coordinator.log, call.operator, operator, role, now)
        issued = tokens.issue(
            tx, coordinator.log, call.operator, operator, name="first", permissions=(), days=given["days"], now=now
        )
    return access_answer(call, operator, role, issued)


def change(call: Call) -> Response:
    """Give an operator another role."""
    coordinator, operator = call.coordinator, call.id("operator")
    role = call.required(call.json(role=str), "role")
    with coordinator.database.transaction("change a role") as tx:
        operators.change_role(tx, coordinator.log, call.operator, operator, role, coordinator.clock.now())
    return JsonAnswer({"operator": operator, "role": role})


def remove(call: Call) -> Response:
    """Take an operator's access away."""
    coordinator, operator = call.coordinator, call.id("operator")
    with coordinator.database.transaction("remove an operator") as tx:
        operators.remove_operator(tx, coordinator.log, call.operator, operator, coordinator.clock.now())
    return JsonAnswer({"operator": operator, "removed": True})


def access_answer(call: Call, operator: str, role: str, issued: tokens.Issued) -> Response:
    """Return a new token as an access file."""
    url = operator_url(call.coordinator.settings, call.coordinator.operator_port)
    return JsonAnswer(build_access_file(url, call.coordinator.keys.root_der, operator, role, issued.secret), 201)
