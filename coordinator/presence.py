"""Who is there: kept in memory, because a poll must not cost a commit (PROTOCOLS A11)."""

import threading
from datetime import datetime, timedelta


class Presence:
    """When each site was heard of last, and when its connection broke."""

    def __init__(self, online_seconds: float, gather_seconds: float, started_at: datetime) -> None:
        """Start knowing nobody; for `gather_seconds` everybody may still turn up."""
        self._online = timedelta(seconds=online_seconds)
        self._gather = timedelta(seconds=gather_seconds)
        self._started_at = started_at
        self._seen: dict[str, datetime] = {}
        self._gone: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def saw(self, site: str, now: datetime) -> bool:
        """Note a sign of life; return whether the site was offline before."""
        with self._lock:
            was_online = self._is_online(site, now)
            self._seen[site] = now
            self._gone.pop(site, None)
            return not was_online

    def lost(self, site: str, now: datetime) -> None:
        """Note that the site's connection broke while it waited for work: it is offline at once."""
        with self._lock:
            self._gone[site] = now

    def is_online(self, site: str, now: datetime) -> bool:
        """Return whether the site was heard of recently and has not hung up since."""
        with self._lock:
            return self._is_online(site, now)

    def is_expected(self, site: str, now: datetime) -> bool:
        """Return whether an offline site deserves a short wait: it just hung up, or we have just started."""
        with self._lock:
            since = self._gone.get(site, self._seen.get(site, self._started_at))
            return not self._is_online(site, now) and now - since < self._gather

    def last_seen(self, site: str) -> datetime | None:
        """Return when the site was heard of last in the life of this process."""
        with self._lock:
            return self._seen.get(site)

    def expected_until(self, site: str) -> datetime:
        """Return when the short wait for an offline site is over."""
        with self._lock:
            return self._gone.get(site, self._seen.get(site, self._started_at)) + self._gather

    def _is_online(self, site: str, now: datetime) -> bool:
        seen = self._seen.get(site)
        return seen is not None and site not in self._gone and now - seen <= self._online


class Holders:
    """When the process that holds a site's lease asked for work last: another one may not take over while it does."""

    def __init__(self, online_seconds: float, started_at: datetime) -> None:
        """Start knowing nobody: for `online_seconds` every holder may still be there."""
        self._online = timedelta(seconds=online_seconds)
        self._started_at = started_at
        self._seen: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def saw(self, site: str, now: datetime) -> None:
        """Note that the holder asked."""
        with self._lock:
            self._seen[site] = now

    def is_here(self, site: str, now: datetime) -> bool:
        """Return whether the holder has to be taken for alive."""
        with self._lock:
            return now - self._seen.get(site, self._started_at) <= self._online
