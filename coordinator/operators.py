"""Operators: people and programs at the coordinator, each with one role that was given to them."""

from dataclasses import dataclass
from datetime import datetime

from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.permissions import ROLES, Permission, Right, is_covered
from coordinator.storage import accounts, tokens
from coordinator.storage import operators as stored
from coordinator.storage.database import Transaction
from shared.audit.entries import Actor
from shared.clock import timestamp
from shared.errors import InputError, Refusal
from shared.ids import check_id


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, with what credential, and how far that credential reaches."""

    operator: str
    role: str
    limits: frozenset[Permission] | None = None  # what a scoped token leaves of the role; None: all of it
    authn: str = "token"  # how they showed who they are, as the log says it
    credential: str = ""  # the id of the token or session
    expires_at: str | None = None  # until when the credential is valid

    def may(self, right: Right, name: str, owner: str) -> bool:
        """Return whether the right reaches the thing of this name and owner, by role and by credential."""
        is_own = owner == self.operator
        return all(
            any(one.right == right and one.permits(name, is_own=is_own) for one in held) for held in self._layers()
        )

    def holds(self, permission: Permission) -> bool:
        """Return whether this permission may be passed on."""
        return all(is_covered(held, permission) for held in self._layers())

    def check(self, right: Right) -> None:
        """Return if the right is held in any scope; what it reaches is checked where the thing is known.

        Raises:
            Refusal: ``permission_denied``.
        """
        if not all(any(one.right == right for one in held) for held in self._layers()):
            raise self._denial(right)

    def check_on(self, right: Right, name: str, owner: str) -> None:
        """Return if the right reaches the thing.

        Raises:
            Refusal: ``permission_denied``.
        """
        if not self.may(right, name, owner):
            raise self._denial(f"{right} for {name}")

    def check_grant(self, permission: Permission) -> None:
        """Return if the permission may be passed on: nobody grants what he does not hold.

        Raises:
            Refusal: ``grant_denied``.
        """
        if not self.holds(permission):
            raise Refusal("grant_denied", f"{self.operator} does not hold {permission.text} and cannot pass it on")

    def _layers(self) -> tuple[frozenset[Permission], ...]:
        role = ROLES.get(self.role, frozenset())
        return (role,) if self.limits is None else (role, self.limits)

    def _denial(self, what: str) -> Refusal:
        reach = "" if self.limits is None else " with this token"
        return Refusal("permission_denied", f"{self.operator} is {self.role}; {what} is not among its rights{reach}")


def add_operator(tx: Transaction, log: AuditLog, by: Principal | None, operator: str, role: str, now: datetime) -> None:
    """Add an operator without any credential; only the initialisation adds one without `by`.

    Raises:
        InputError: ``id_malformed``, ``role_unknown``, ``operator_exists``.
        Refusal: ``grant_denied``.
    """
    check_id(operator, "operator")
    _check_role(by, role)
    if stored.read_operator(tx, operator) is not None:
        raise InputError("operator_exists", f"there is an operator {operator!r} already; names are not used twice")
    stored.add_operator(tx, operator, role, timestamp(now))
    log.append(tx, Fact("operator.added", actor_of(by), {"role": role}, subject=("operator", operator)), now)


def change_role(tx: Transaction, log: AuditLog, by: Principal, operator: str, role: str, now: datetime) -> None:
    """Give an operator another role, who signs in anew. Nobody changes his own; the last administrator stays one.

    Raises:
        InputError: ``operator_unknown``, ``role_unknown``, ``operator_last``.
        Refusal: ``grant_denied``.
    """
    found = read(tx, operator)
    _check_role(by, role)
    if operator == by.operator:
        raise Refusal("grant_denied", f"{operator} cannot change his own role")
    if role == found.role:
        return
    by.check_grant(Permission("operators.grant", found.role))  # who may not give a role may not take it away either
    _check_not_last(tx, found)
    stored.set_role(tx, operator, role)
    # What was given to the earlier role does not grow with it: open links, sessions, tokens without limits.
    accounts.drop_links(tx, operator)
    tokens.end_unlimited(tx, operator, timestamp(now))
    data = {"role": role, "before": found.role}
    log.append(tx, Fact("role.changed", actor_of(by), data, subject=("operator", operator)), now)


def remove_operator(tx: Transaction, log: AuditLog, by: Principal, operator: str, now: datetime) -> None:
    """Take an operator's access away.

    Raises:
        InputError: ``operator_unknown``; ``operator_last`` for the last administrator.
        Refusal: ``grant_denied``.
    """
    found = read(tx, operator)
    by.check_grant(Permission("operators.grant", found.role))
    _check_not_last(tx, found)
    stored.set_removed(tx, operator, timestamp(now))
    log.append(tx, Fact("operator.removed", actor_of(by), {"role": found.role}, subject=("operator", operator)), now)


def read(tx: Transaction, operator: str) -> stored.Operator:
    """Return an operator who was not removed.

    Raises:
        InputError: ``operator_unknown``.
    """
    found = stored.read_operator(tx, operator)
    if found is None or found.removed_at is not None:
        raise InputError("operator_unknown", f"there is no operator {operator[:64]!r}")
    return found


def actor_of(principal: Principal | None) -> Actor:
    """Return the log's actor for an operator; without one it is the coordinator itself."""
    if principal is None:
        return COORDINATOR_ACTOR
    return Actor("user", principal.operator, principal.authn, principal.credential)


def _check_role(by: Principal | None, role: str) -> None:
    if role not in ROLES:
        raise InputError("role_unknown", f"{role[:64]!r} is none of {', '.join(ROLES)}")
    if by is not None:
        by.check_grant(Permission("operators.grant", role))


def _check_not_last(tx: Transaction, found: stored.Operator) -> None:
    others = [one for one in stored.read_operators(tx) if one.role == "administrator" and one.removed_at is None]
    if found.role == "administrator" and len(others) == 1:
        raise InputError("operator_last", f"{found.operator} is the last administrator")
