"""What can go wrong during one operation, and the two ways a process of the simulation dies."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "request lost", "response lost", "duplicated", "delayed", "corrupted", "proxy page", "site killed",
    "coordinator killed",
]  # fmt: skip
NETWORK: tuple[FaultKind, ...] = (
    "request lost", "response lost", "duplicated", "delayed", "corrupted", "proxy page",
)  # fmt: skip
SITE_KILLED: tuple[FaultKind, ...] = ("site killed",)
COORDINATOR_KILLED: tuple[FaultKind, ...] = ("coordinator killed",)
KILLS = SITE_KILLED + COORDINATOR_KILLED


class SiteKilled(BaseException):
    """An agent's process is gone; nothing below the simulation catches this and tidies up."""


class CoordinatorKilled(BaseException):
    """The coordinator's process is gone."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: it strikes the `nth` request (network faults) or the `nth` point (kills) of an operation.

    A fault may name its `point` ("PUT manifest", "before bind"); `nth` then counts only those.
    """

    kind: FaultKind
    nth: int = 0
    point: str | None = None


class Armed:
    """A fault waiting for its moment; it strikes once."""

    def __init__(self, fault: Fault | None) -> None:
        self._fault = fault
        self._left = 0 if fault is None else fault.nth

    def strikes(self, kinds: Collection[FaultKind], where: str, who: str) -> FaultKind | None:
        """Return the fault, if it is one of `kinds` and its moment is this request or point."""
        del who
        fault = self._fault
        if fault is None or fault.kind not in kinds or fault.point not in {None, where}:
            return None
        self._left -= 1
        return fault.kind if self._left == -1 else None


class Saboteur(Armed):
    """Strikes every place once: each request of each site, or each point of each side. It stays from op to op.

    `prefix` limits it to some places, `victim` to one site's.
    """

    def __init__(self, kind: FaultKind, prefix: str = "", victim: str | None = None) -> None:
        super().__init__(None)
        self._kind, self._prefix, self._victim = kind, prefix, victim
        self.struck: set[str] = set()

    def strikes(self, kinds: Collection[FaultKind], where: str, who: str) -> FaultKind | None:
        place = f"{who}: {where}" if self._kind in NETWORK else where
        if (
            self._kind not in kinds
            or self._victim not in {None, who}
            or not where.startswith(self._prefix)
            or place in self.struck
        ):
            return None
        self.struck.add(place)
        return self._kind
