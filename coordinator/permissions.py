"""Who may do what: rights (resource.operation), scopes, and the one table of roles (ARCHITECTURE section 5).

A permission is a right with a scope: ``studies.run:own``. The scope is ``all``, ``own`` (what the operator owns), or a
name: of a study, or for ``operators.grant`` of the role that may be given. The table of routes names the right of every
route, the table of verbs the routes of every verb; both are walked by a test with every role and with no credential.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from shared.errors import InputError, MitralError
from shared.ids import check_id

Right = Literal[
    "account.use",
    "sites.read",
    "sites.write",
    "rosters.read",
    "rosters.write",
    "operators.read",
    "operators.write",
    "operators.grant",
    "tokens.read",
    "tokens.write",
    "studies.read",
    "studies.run",
    "blobs.write",
    "blobs.read",
    "audit.read",
    "audit.erase",
]
RIGHTS: tuple[Right, ...] = get_args(Right)
Role = Literal["administrator", "researcher", "auditor", "viewer"]
ALL, OWN = "all", "own"
# Rights over something that has an owner or a name; every other right is held for all or not at all.
_OF_STUDIES = frozenset({"studies.read", "studies.run", "blobs.read"})
_OWNED = _OF_STUDIES | {"account.use", "tokens.read", "tokens.write", "blobs.write"}


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """One right in one scope."""

    right: Right
    scope: str

    @property
    def text(self) -> str:
        """Return how people write it."""
        return f"{self.right}:{self.scope}"

    def covers(self, other: "Permission") -> bool:
        """Return whether who holds this may pass `other` on: the same right, no wider.

        What is one's own covers a study by name: whether it is one's own is asked again at every use.
        """
        if self.right != other.right:
            return False
        by_name = self.scope == OWN and other.right in _OF_STUDIES and other.scope != ALL
        return self.scope in {ALL, other.scope} or by_name

    def permits(self, name: str, *, is_own: bool) -> bool:
        """Return whether it reaches the thing of this name."""
        return is_own if self.scope == OWN else self.scope in {ALL, name}


def _held(texts: str) -> frozenset[Permission]:
    return frozenset(parse_permission(text) for text in texts.split())


def parse_permission(text: str) -> Permission:
    """Return the permission that a text such as ``studies.read:heart-1`` stands for; without a scope it is ``all``.

    Raises:
        InputError: ``permission_malformed``.
    """
    name, _, scope = text.partition(":")
    scope = scope or ALL
    right = next((one for one in RIGHTS if one == name), None)
    if right is None:
        raise InputError("permission_malformed", f"{name[:64]!r} is none of {', '.join(RIGHTS)}")
    named = right in _OF_STUDIES or right == "operators.grant"
    if scope != ALL and not (scope == OWN and right in _OWNED):
        try:
            check_id(scope, "scope")
        except MitralError as error:
            raise InputError("permission_malformed", error.detail) from error
        if scope == OWN or not named:
            raise InputError("permission_malformed", f"{right} has no scope {scope!r}")
    return Permission(right, scope)


# Everybody uses an account of his own and sees who takes part in what.
_EVERYBODY = "account.use:own tokens.read:own tokens.write:own sites.read rosters.read studies.read "
# An administrator decides who takes part and not what is computed; a researcher the other way round; an auditor reads
# everything and changes nothing but his own account. Giving a role away is a right of its own, apart from using it: so
# nobody gives what he was not given to give, and an administrator makes researchers without being one.
ROLES: Mapping[str, frozenset[Permission]] = MappingProxyType(
    {
        "administrator": _held(
            _EVERYBODY + "sites.write rosters.write operators.read operators.write tokens.read tokens.write audit.read "
            "audit.erase "
            "operators.grant:administrator operators.grant:researcher operators.grant:auditor operators.grant:viewer"
        ),
        "researcher": _held(_EVERYBODY + "studies.run:own blobs.write:own blobs.read:own"),
        "auditor": _held(_EVERYBODY + "operators.read tokens.read audit.read"),
        "viewer": _held(_EVERYBODY),
    }
)


def is_covered(held: Iterable[Permission], wanted: Permission) -> bool:
    """Return whether one of the held permissions covers the wanted one."""
    return any(one.covers(wanted) for one in held)
