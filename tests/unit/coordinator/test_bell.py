"""Long polls hear every ring from the moment they start to look, from any thread."""

import asyncio
import threading
from typing import Any

import pytest

from coordinator.api.polling import HungUp, wait_for_news
from coordinator.bell import Bell


class FakeRequest:
    """A request whose connection breaks when told."""

    def __init__(self) -> None:
        self.broken = asyncio.Event()
        self.first = True

    async def receive(self) -> dict[str, Any]:
        if self.first:
            self.first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.broken.wait()
        return {"type": "http.disconnect"}


def run(bell: Bell, news: list[bool], wait: float, during: Any = None) -> str:
    async def body() -> str:
        request = FakeRequest()
        looked = 0

        async def look() -> tuple[bool, str]:
            nonlocal looked
            found = news[min(looked, len(news) - 1)]
            looked += 1
            if during is not None:
                during(bell, request, looked)
            return found, f"look {looked}"

        return await asyncio.wait_for(wait_for_news(request, bell, wait, look), 10)  # type: ignore[arg-type]

    return asyncio.run(body())


def test_news_are_answered_at_once() -> None:
    assert run(Bell(), [True], 60) == "look 1"


def test_without_news_the_wait_ends_with_the_last_look() -> None:
    assert run(Bell(), [False], 0) == "look 1"
    assert run(Bell(), [False], 0.05) == "look 2"


def test_a_ring_during_the_look_is_not_missed() -> None:
    def ring(bell: Bell, _request: FakeRequest, looked: int) -> None:
        if looked == 1:
            thread = threading.Thread(target=bell.ring)
            thread.start()
            thread.join()

    assert run(Bell(), [False, True], 60, ring) == "look 2"


def test_a_ring_without_news_waits_on() -> None:
    def ring(bell: Bell, _request: FakeRequest, looked: int) -> None:
        if looked < 3:
            bell.ring()

    assert run(Bell(), [False, False, True], 60, ring) == "look 3"


def test_stopping_answers_everybody() -> None:
    def stop(bell: Bell, _request: FakeRequest, looked: int) -> None:
        if looked == 1:
            asyncio.get_running_loop().call_later(0.02, bell.stop)

    assert run(Bell(), [False], 60, stop) == "look 2"
    bell = Bell()
    bell.stop()
    assert run(bell, [False], 60) == "look 1"


def test_a_caller_that_hangs_up_is_noticed() -> None:
    def hang_up(_bell: Bell, request: FakeRequest, _looked: int) -> None:
        request.broken.set()

    with pytest.raises(HungUp):
        run(Bell(), [False], 60, hang_up)


def test_a_ring_with_nobody_there_and_after_everybody_left_is_harmless() -> None:
    bell = Bell()
    bell.ring()
    run(bell, [True], 60)
    bell.ring()
