"""Waking long polls: rung after a commit that changed what somebody waits for."""

import asyncio
import threading
from typing import Self


class Bell:
    """One asyncio event per waiter, set from any thread."""

    def __init__(self) -> None:
        """Start silent."""
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.stopping = False

    def ring(self) -> None:
        """Wake everybody who waits now."""
        with self._lock:
            waiting = list(self._waiting)
        for loop, event in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # the loop has closed while its process stops
                continue

    def stop(self) -> None:
        """Wake everybody for good: the service is stopping."""
        self.stopping = True
        self.ring()

    def listen(self) -> "Ear":
        """Return a context that hears every ring from its start on, so that none is missed between look and wait."""
        return Ear(self)

    def add(self, ear: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        """Start to wake a waiter."""
        with self._lock:
            self._waiting.add(ear)

    def remove(self, ear: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        """Stop to wake a waiter."""
        with self._lock:
            self._waiting.discard(ear)


class Ear:
    """One waiter."""

    def __init__(self, bell: Bell) -> None:
        """Belong to the running loop."""
        self._bell = bell
        self.event = asyncio.Event()
        self._key = (asyncio.get_running_loop(), self.event)

    def __enter__(self) -> Self:
        """Start to hear."""
        self._bell.add(self._key)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to hear."""
        self._bell.remove(self._key)
