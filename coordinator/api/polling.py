"""Waiting inside a long poll: for a ring of the bell, the caller's hanging up, or the end of the wait."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from coordinator.bell import Bell

Answer = TypeVar("Answer")


class HungUp(Exception):
    """The caller closed the connection while it waited."""


async def wait_for_news(
    request: Request, bell: Bell, wait_seconds: float, look: Callable[[], Awaitable[tuple[bool, Answer]]]
) -> Answer:
    """Return what `look` finds as soon as it says there is news, or what it found last after `wait_seconds`.

    Raises:
        HungUp: the caller is gone.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_seconds
    with bell.listen() as ear:
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            while True:
                ear.event.clear()
                has_news, answer = await look()
                if has_news or bell.stopping or loop.time() >= until:
                    return answer
                ring = asyncio.ensure_future(ear.event.wait())
                try:
                    await asyncio.wait(
                        {ring, gone}, timeout=max(0.0, until - loop.time()), return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    ring.cancel()
                if gone.done():
                    raise HungUp
        finally:
            gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
