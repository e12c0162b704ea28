"""Refused callers in the log: written apart from what they tried, and not more often than once a minute each (B4)."""

import threading
from datetime import datetime, timedelta

from coordinator.audit import AuditLog, Fact
from coordinator.storage.database import Database
from shared.audit.entries import Actor
from shared.errors import MitralError

_ONCE_IN = timedelta(minutes=1)
_SOURCES_KEPT = 10_000
_UNKNOWN = Actor("system", "unknown", "none")
# Who could not show who they are, and who is known and may not.
_AUTHENTICATION = frozenset(
    {"token_invalid", "certificate_malformed", "certificate_superseded", "certificate_expired", "signature_invalid"}
)
_AUTHORISATION = frozenset(
    {"permission_denied", "site_mismatch", "site_revoked", "site_not_approved", "study_not_owned"}
)


class Denials:
    """Writes denials; remembers when each was written last."""

    def __init__(self, database: Database, log: AuditLog) -> None:
        """Write to this log."""
        self._database = database
        self._log = log
        self._last: dict[tuple[str, str], datetime] = {}
        self._lock = threading.Lock()

    def note(self, error: MitralError, actor: Actor | None, route: str, now: datetime) -> None:
        """Log a refusal if it is one of those that an auditor asks for and was not just logged."""
        if error.code in _AUTHENTICATION:
            type_, data = "authn.fail", {"reason": error.code, "route": route}
        elif error.code in _AUTHORISATION:
            type_, data = "authz.deny", {"permission": route, "reason": error.code}
        else:
            return
        who = actor or _UNKNOWN
        if self._is_due(f"{who.kind}/{who.id}", error.code, now):
            with self._database.transaction("log a denial") as tx:
                self._log.append(tx, Fact(type_, who, data, outcome="minor"), now)

    def _is_due(self, source: str, code: str, now: datetime) -> bool:
        with self._lock:
            last = self._last.get((source, code))
            if last is not None and now - last < _ONCE_IN:
                return False
            if len(self._last) >= _SOURCES_KEPT:
                self._last.clear()
            self._last[source, code] = now
            return True
