"""Who may do what: the permission table, and that every route asks it."""

from typing import get_args

import pytest

from coordinator.api.routes import AGENT_ROUTES, ENVELOPE, OPERATOR_ROUTES, SEALED, STREAMED, Route
from coordinator.operators import PERMISSIONS, Permission, Principal
from shared.errors import Refusal

ROLES = ("administrator", "researcher", "auditor", "viewer")
EXPECTED: dict[str, str] = {
    "whoami": "administrator researcher auditor viewer",
    "sites.read": "administrator researcher auditor viewer",
    "sites.write": "administrator",
    "rosters.read": "administrator researcher auditor viewer",
    "rosters.write": "administrator",
    "operators.read": "administrator auditor",
    "operators.write": "administrator",
    "studies.read": "administrator researcher auditor viewer",
    "studies.run": "researcher",
    "blobs.write": "researcher",
    "blobs.read": "researcher",
    "audit.read": "administrator auditor",
    "audit.erase": "administrator",
}


@pytest.mark.parametrize("permission", get_args(Permission))
@pytest.mark.parametrize("role", ROLES)
def test_every_role_and_every_permission(role: str, permission: Permission) -> None:
    principal = Principal("someone", role)
    if role in EXPECTED[permission].split():
        principal.check(permission)
    else:
        with pytest.raises(Refusal, match="permission_denied"):
            principal.check(permission)


def test_the_table_has_no_other_roles() -> None:
    assert set(PERMISSIONS) == set(ROLES)


def test_an_unknown_role_may_do_nothing() -> None:
    with pytest.raises(Refusal, match="permission_denied"):
        Principal("someone", "root").check("whoami")


def test_what_needs_no_credential_is_listed_here() -> None:
    assert [(route.method, route.path) for route in AGENT_ROUTES if route.access == "anybody"] == [
        ("POST", "/v1/enrol"),
        ("GET", "/v1/enrol/{request_id}"),
        ("GET", "/v1/health/live"),
    ]
    assert [(route.method, route.path) for route in OPERATOR_ROUTES if route.access == "anybody"] == [
        ("GET", "/v1/health/live"),
        ("GET", "/v1/health/ready"),
    ]
    assert {route.access for route in AGENT_ROUTES} == {"anybody", "site"}
    assert all(route.access in {"anybody", *get_args(Permission)} for route in OPERATOR_ROUTES)


@pytest.mark.parametrize("route", [*AGENT_ROUTES, *OPERATOR_ROUTES], ids=lambda route: f"{route.method} {route.path}")
def test_every_route_has_a_limit_that_fits_its_method(route: Route) -> None:
    if route.method in {"GET", "DELETE"}:
        assert route.limit == 0
    else:
        assert route.limit == STREAMED or 0 < route.limit <= max(ENVELOPE, SEALED)


def test_no_route_stands_twice() -> None:
    for routes in (AGENT_ROUTES, OPERATOR_ROUTES):
        names = [(route.method, route.path) for route in routes]
        assert len(set(names)) == len(names)
