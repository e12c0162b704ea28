"""Refused callers in the log: written apart from what they tried, and not more often than once a minute each (B4)."""

import threading
from datetime import datetime, timedelta

from coordinator.audit import AuditLog, Fact
from coordinator.storage.database import Database
from shared.audit.entries import Actor
from shared.errors import MitralError

_ONCE_IN = timedelta(minutes=1)
_MOST_UNKNOWN = 120  # entries about callers nobody knows, per minute; the next entry says how many were left out
_SOURCES_KEPT = 10_000
_UNKNOWN = Actor("system", "unknown", "none")
# Who could not show who they are, and who is known and may not.
_AUTHENTICATION = frozenset(
    {
        "token_missing",
        "token_invalid",
        "certificate_required",
        "certificate_malformed",
        "certificate_superseded",
        "certificate_expired",
        "signature_invalid",
        "oidc_refused",
    }
)
_AUTHORISATION = frozenset(
    {
        "permission_denied",
        "grant_denied",
        "oidc_unknown",
        "site_mismatch",
        "site_revoked",
        "site_not_approved",
        "study_not_owned",
    }
)


def is_authentication(code: str) -> bool:
    """Return whether an error says that somebody could not show who they are."""
    return code in _AUTHENTICATION


class Denials:
    """Writes denials; remembers when each was written last."""

    def __init__(self, database: Database, log: AuditLog) -> None:
        """Write to this log."""
        self._database = database
        self._log = log
        self._last: dict[tuple[str, str, str], datetime] = {}
        self._minute: datetime | None = None
        self._unknown = 0
        self._left_out = 0
        self._lock = threading.Lock()

    def note(
        self, error: MitralError, actor: Actor | None, permission: str, route: str, address: str, now: datetime
    ) -> None:
        """Log a refusal if it is one of those that an auditor asks for and was not just logged for this source.

        `permission` is what the route asks for, `address` where the caller is; it is personal and only committed to.
        """
        if is_authentication(error.code):
            type_, data = "authn.fail", {"reason": error.code, "route": route}
        elif error.code in _AUTHORISATION:
            type_, data = "authz.deny", {"permission": permission, "reason": error.code, "route": route}
        else:
            return
        who = actor or _UNKNOWN
        source = address if actor is None else f"{who.kind}/{who.id}"
        left_out = self._due((source, error.code, route), now, is_known=actor is not None)
        if left_out is None:
            return
        more = {"left_out": left_out} if left_out else {}
        private = {"address": address} if address else {}
        with self._database.transaction("log a denial") as tx:
            self._log.append(tx, Fact(type_, who, {**data, **more}, outcome="minor", private=private), now)

    def _due(self, key: tuple[str, str, str], now: datetime, *, is_known: bool) -> int | None:
        """Return how many entries were left out before this one; None when it is left out itself."""
        with self._lock:
            last = self._last.get(key)
            if last is not None and now - last < _ONCE_IN:
                return None
            if not is_known:
                if self._minute is None or now - self._minute >= _ONCE_IN:
                    self._minute, self._unknown = now, 0
                self._unknown += 1
                if self._unknown > _MOST_UNKNOWN:
                    self._left_out += 1
                    return None
            if len(self._last) >= _SOURCES_KEPT:
                self._last.clear()
            self._last[key] = now
            left_out, self._left_out = self._left_out, 0
            return left_out
