"""Operators, their tokens and what each role may do: the one permission table (ARCHITECTURE section 5)."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.storage import operators as stored
from coordinator.storage.database import Transaction
from shared.audit.entries import Actor
from shared.canonical import tagged_hash
from shared.clock import parse_timestamp, timestamp
from shared.crypto.secret import Secret
from shared.errors import InputError, Refusal
from shared.ids import check_id

TOKEN_PREFIX = "MT1-"  # noqa: S105 (a public prefix, not a secret)
_TOKEN_BYTES = 20

Permission = Literal[
    "whoami",
    "sites.read",
    "sites.write",
    "rosters.read",
    "rosters.write",
    "operators.read",
    "operators.write",
    "studies.read",
    "studies.run",
    "blobs.write",
    "blobs.read",
    "audit.read",
    "audit.erase",
]
Role = Literal["administrator", "researcher", "auditor", "viewer"]

_EVERYBODY: frozenset[Permission] = frozenset({"whoami", "sites.read", "rosters.read", "studies.read"})
# An administrator decides who takes part and not what is computed; a researcher the other way round. Administrators
# make operators of every role: that one of them made a researcher for himself cannot be excluded here, it stands in the
# log with his name, and what is computed still needs the approval of every hospital's steward.
PERMISSIONS: Mapping[str, frozenset[Permission]] = MappingProxyType(
    {
        "administrator": _EVERYBODY
        | {"sites.write", "rosters.write", "operators.read", "operators.write", "audit.read", "audit.erase"},
        "researcher": _EVERYBODY | {"studies.run", "blobs.write", "blobs.read"},
        "auditor": _EVERYBODY | {"operators.read", "audit.read"},
        "viewer": _EVERYBODY,
    }
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    operator: str
    role: str

    def check(self, permission: Permission) -> None:
        """Return if the role holds the permission.

        Raises:
            Refusal: ``permission_denied``.
        """
        if permission not in PERMISSIONS.get(self.role, frozenset()):
            raise Refusal("permission_denied", f"{self.operator} is {self.role}; {permission} is not among its rights")


def add_operator(
    tx: Transaction, log: AuditLog, by: Principal | None, operator: str, role: str, days: int | None, now: datetime
) -> Secret:
    """Add an operator and return its token, which is shown this once and stored as a hash only.

    Raises:
        InputError: ``id_malformed``, ``role_unknown``, ``operator_exists``.
    """
    check_id(operator, "operator")
    if role not in PERMISSIONS:
        raise InputError("role_unknown", f"{role!r} is none of {', '.join(PERMISSIONS)}")
    if days is not None and not 1 <= days <= 3650:
        raise InputError("field_invalid", "days: 1 to 3650")
    if stored.read_operator(tx, operator) is not None:
        raise InputError("operator_exists", f"there is an operator {operator!r} already; names are not used twice")
    token = TOKEN_PREFIX + base64.b32encode(os.urandom(_TOKEN_BYTES)).decode("ascii")
    until = None if days is None else timestamp(now + timedelta(days=days))
    stored.add_operator(tx, operator, role, token_hash(token), timestamp(now), until)
    data = {"role": role, "expires_at": until}
    log.append(tx, Fact("operator.added", actor_of(by), data, subject=("operator", operator)), now)
    return Secret(token.encode())


def remove_operator(tx: Transaction, log: AuditLog, by: Principal, operator: str, now: datetime) -> None:
    """Take an operator's access away.

    Raises:
        InputError: ``operator_unknown``; ``operator_last`` for the last administrator.
    """
    found = stored.read_operator(tx, operator)
    if found is None or found.removed_at is not None:
        raise InputError("operator_unknown", f"there is no operator {operator!r}")
    others = [one for one in stored.read_operators(tx) if one.role == "administrator" and one.removed_at is None]
    if found.role == "administrator" and len(others) == 1:
        raise InputError("operator_last", f"{operator} is the last administrator")
    stored.set_removed(tx, operator, timestamp(now))
    log.append(tx, Fact("operator.removed", actor_of(by), {"role": found.role}, subject=("operator", operator)), now)


def authenticate(tx: Transaction, token: str, now: datetime) -> Principal:
    """Return whose token this is.

    Raises:
        Refusal: ``token_invalid`` for one that is unknown, expired or taken away.
    """
    found = stored.read_by_token(tx, token_hash(token))
    expired = found is not None and found.expires_at is not None and parse_timestamp(found.expires_at) <= now
    if found is None or found.removed_at is not None or expired:
        raise Refusal("token_invalid", "the token is unknown, has expired or was taken away")
    return Principal(found.operator, found.role)


def token_hash(token: str) -> str:
    """Return what is stored of a token; 160 random bits need no slow hash."""
    return tagged_hash("FED operator token", token.encode("utf-8", "replace")).hex()


def actor_of(principal: Principal | None) -> Actor:
    """Return the log's actor for an operator; without one it is the coordinator itself."""
    return COORDINATOR_ACTOR if principal is None else Actor("user", principal.operator, "token")
