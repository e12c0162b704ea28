"""Operators and who I am."""

from starlette.responses import Response

from coordinator import operators
from coordinator.access_file import build_access_file
from coordinator.api.call import Call, JsonAnswer
from coordinator.state import operator_url
from coordinator.storage import operators as stored


def whoami(call: Call) -> Response:
    """Return who the token belongs to."""
    by = call.operator
    return JsonAnswer({"operator": by.operator, "roles": [by.role], "federation": call.coordinator.federation})


def index(call: Call) -> Response:
    """List all operators, without their tokens, which nobody has."""
    with call.coordinator.database.reading("list operators") as tx:
        found = stored.read_operators(tx)
    shown = [
        {
            "operator": one.operator,
            "role": one.role,
            "created_at": one.created_at,
            "expires_at": one.expires_at,
            "removed_at": one.removed_at,
        }
        for one in found
    ]
    return JsonAnswer({"operators": shown})


def add(call: Call) -> Response:
    """Add an operator and answer with its access file; the token is shown this once."""
    coordinator = call.coordinator
    given = call.json(operator=str, role=str, days=int)
    operator, role = call.required(given, "operator"), call.required(given, "role")
    with coordinator.database.transaction("add an operator") as tx:
        token = operators.add_operator(
            tx, coordinator.log, call.operator, operator, role, given["days"], coordinator.clock.now()
        )
    url = operator_url(coordinator.settings, coordinator.operator_port)
    return JsonAnswer(build_access_file(url, coordinator.keys.root_der, operator, role, token), 201)


def remove(call: Call) -> Response:
    """Take an operator's access away."""
    coordinator, operator = call.coordinator, call.id("operator")
    with coordinator.database.transaction("remove an operator") as tx:
        operators.remove_operator(tx, coordinator.log, call.operator, operator, coordinator.clock.now())
    return JsonAnswer({"operator": operator, "removed": True})
