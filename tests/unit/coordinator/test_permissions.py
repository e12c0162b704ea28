"""Who may do what: the tables of roles, routes and verbs, and what may be passed on."""

from itertools import product
from typing import cast

import pytest
from typer.core import TyperCommand, TyperGroup

from coordinator.api.routes import AGENT_ROUTES, ENVELOPE, OPERATOR_ROUTES, SEALED, STREAMED, Route
from coordinator.api.verbs import VERBS
from coordinator.operators import Principal
from coordinator.permissions import RIGHTS, ROLES, Permission, Right, parse_permission
from docs.writer.commands import commands
from shared.errors import InputError, Refusal

EVERYBODY = "administrator researcher auditor viewer"
EXPECTED: dict[Right, str] = {
    "account.use": EVERYBODY,
    "sites.read": EVERYBODY,
    "sites.write": "administrator",
    "rosters.read": EVERYBODY,
    "rosters.write": "administrator",
    "operators.read": "administrator auditor",
    "operators.write": "administrator",
    "operators.grant": "administrator",
    "tokens.read": EVERYBODY,
    "tokens.write": EVERYBODY,
    "studies.read": EVERYBODY,
    "studies.run": "researcher",
    "blobs.write": "researcher",
    "blobs.read": "researcher",
    "audit.read": "administrator auditor",
    "audit.erase": "administrator",
}
OPEN = {
    "POST /v1/enrol",
    "GET /v1/enrol/{request_id}",
    "GET /v1/nonce",  # the next two are signed by the site's identity key, over such a number
    "POST /v1/renew-expired",
    "POST /v1/revoke",
    "GET /v1/health/live",
    "GET /v1/health/ready",
    "POST /v1/account/setup",
    "POST /v1/account/confirm",
    "GET /v1/openapi.json",
    "POST /v1/login",
    "GET /v1/oidc/login",
    "GET /v1/oidc/callback",
}


@pytest.mark.parametrize(("role", "right"), list(product(ROLES, RIGHTS)))
def test_every_role_and_every_right(role: str, right: Right) -> None:
    principal = Principal("someone", role)
    if role in EXPECTED[right].split():
        principal.check(right)
    else:
        with pytest.raises(Refusal, match="permission_denied"):
            principal.check(right)


def test_an_unknown_role_may_do_nothing() -> None:
    with pytest.raises(Refusal, match="permission_denied"):
        Principal("someone", "root").check("account.use")


def test_an_auditor_changes_nothing_but_the_own_account() -> None:
    changes = {one.text for one in ROLES["auditor"] if not one.right.endswith(".read")}
    assert changes == {"account.use:own", "tokens.write:own"}


def test_an_administrator_cannot_run_studies_even_with_a_token_that_says_so() -> None:
    wanted = parse_permission("studies.run")
    with pytest.raises(Refusal, match="permission_denied"):
        Principal("boss", "administrator", frozenset({wanted})).check("studies.run")


# --- scopes -----------------------------------------------------------------------------------------------------------


def may(held: str, name: str, owner: str) -> bool:
    limits = frozenset(parse_permission(text) for text in held.split())
    return Principal("me", "researcher", limits).may("studies.read", name, owner)


@pytest.mark.parametrize(
    ("held", "mine", "theirs", "named"),
    [
        ("studies.read", True, True, True),
        ("studies.read:own", True, False, False),
        ("studies.read:named", False, False, True),
        ("studies.read:own studies.read:named", True, False, True),
        ("studies.run:own", False, False, False),
    ],
)
def test_a_scope_is_as_wide_as_it_says(held: str, mine: bool, theirs: bool, named: bool) -> None:
    assert may(held, "heart", "me") == mine
    assert may(held, "heart", "you") == theirs
    assert may(held, "named", "you") == named


def test_a_study_called_own_is_not_everybodys_own() -> None:
    assert not may("studies.read:own", "own", "you")


def test_the_role_limits_what_a_token_names() -> None:
    token = Principal("me", "researcher", frozenset({parse_permission("studies.run:heart")}))
    assert token.may("studies.run", "heart", "me")
    assert not token.may("studies.run", "heart", "you"), "the role runs its own studies only"
    assert not token.may("studies.run", "lung", "me"), "the token names another study"


@pytest.mark.parametrize(
    ("held", "wanted", "holds"),
    [
        ("studies.read:all", "studies.read:heart", True),
        ("studies.read:heart", "studies.read:all", False),
        ("studies.read:heart", "studies.read:own", False),
        ("studies.read:own", "studies.read:heart", True),  # whether it is one's own is asked at every use
        ("studies.read:own", "studies.read:all", False),
        ("studies.read:all", "studies.run:heart", False),
        ("operators.grant:viewer", "operators.grant:viewer", True),
        ("operators.grant:viewer", "operators.grant:administrator", False),
        ("tokens.write:own", "tokens.write:all", False),
    ],
)
def test_what_covers_what(held: str, wanted: str, holds: bool) -> None:
    assert parse_permission(held).covers(parse_permission(wanted)) == holds


@pytest.mark.parametrize(
    "text",
    ["", "studies", "studies.read:", "studies.fly", "sites.read:own", "sites.read:x", "studies.read:A B",
     "operators.grant:own", "tokens.read:token-1", "studies.read:heart:lung"],
)  # fmt: skip
def test_malformed_permissions(text: str) -> None:
    if text == "studies.read:":
        assert parse_permission(text) == Permission("studies.read", "all")
        return
    with pytest.raises(InputError, match="permission_malformed"):
        parse_permission(text)


def test_every_role_may_be_given_by_somebody_and_only_by_who_holds_it_to_give() -> None:
    for giver, role in product(ROLES, ROLES):
        assert Principal("x", giver).holds(Permission("operators.grant", role)) == (giver == "administrator")


# --- the tables of routes and verbs -----------------------------------------------------------------------------------


def test_what_needs_no_credential_is_listed_here() -> None:
    assert {route.name for route in (*AGENT_ROUTES, *OPERATOR_ROUTES) if route.access == "anybody"} == OPEN
    assert {route.access for route in AGENT_ROUTES} == {"anybody", "site"}
    assert {route.access for route in OPERATOR_ROUTES} == {"anybody", *RIGHTS}, "every right opens something"


@pytest.mark.parametrize("route", [*AGENT_ROUTES, *OPERATOR_ROUTES], ids=lambda route: route.name)
def test_every_route_has_a_limit_that_fits_its_method(route: Route) -> None:
    if route.method in {"GET", "DELETE"}:
        assert route.limit == 0
    else:
        assert route.limit == STREAMED or 0 < route.limit <= max(ENVELOPE, SEALED)


def test_no_route_stands_twice() -> None:
    for routes in (AGENT_ROUTES, OPERATOR_ROUTES):
        assert len({route.name for route in routes}) == len(routes)


def test_every_verb_declares_its_routes_and_no_other_verb_does() -> None:
    def verbs(name: str, command: TyperCommand | TyperGroup) -> list[str]:
        if not isinstance(command, TyperGroup):
            return [name]
        inner = cast("dict[str, TyperCommand | TyperGroup]", command.commands)
        return [verb for word, one in inner.items() for verb in verbs(f"{name} {word}", one)]

    assert sorted(verb for program, command in commands().items() for verb in verbs(program, command)) == sorted(VERBS)
    known = {route.name for route in OPERATOR_ROUTES}
    assert {route for routes in VERBS.values() for route in routes} <= known
