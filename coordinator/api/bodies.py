"""Reading request bodies: limited, streamed where they are large, drained where they are refused."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from coordinator.blobs.hashed_file import HashedFile
from shared.errors import InputError, PeerFault

_DRAIN_BYTES = 16 * 2**20
_DRAIN_SECONDS = 60.0
_PATIENCE_SECONDS = 30.0
_LEAST_BYTES_PER_SECOND = 2**15  # whoever sends more slowly than that only wants to hold a connection open


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body.

    Raises:
        InputError: ``body_too_large``.
        PeerFault: ``body_truncated``.
    """
    declared = content_length(request)
    if declared is not None and declared > limit:
        await drain(request)
        raise InputError("body_too_large", f"the body has {declared} bytes, this route takes {limit}")
    parts, size = [], 0
    async for piece in _pieces(request, limit):
        size += len(piece)
        if size > limit:
            raise InputError("body_too_large", f"the body is longer than the {limit} bytes this route takes")
        parts.append(piece)
    return b"".join(parts)


async def stream_into(request: Request, draft: HashedFile, size: int) -> None:
    """Write a body of exactly `size` bytes into a draft; on any failure the draft is gone.

    Raises:
        InputError: ``body_too_large``.
        PeerFault: ``body_truncated``.
        Unavailable: ``storage_full``.
    """
    try:
        async for piece in _pieces(request, size):
            check_size(draft.byte_count + len(piece), size, at_most=True)
            draft.write(piece)
        check_size(draft.byte_count, size)
    except BaseException:
        draft.discard()
        raise


async def drain(request: Request) -> None:
    """Throw a body away unread, so that the sender sees the answer and not a broken connection; up to 16 MiB."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > _DRAIN_BYTES:
                    return
    except (ClientDisconnect, RuntimeError, TimeoutError):  # it hung up, or the body was read before, or it dawdles
        return


def content_length(request: Request) -> int | None:
    """Return the declared length of the body, if any.

    Raises:
        InputError: ``number_malformed``.
    """
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InputError("number_malformed", "Content-Length is not a number")
    return int(text)


def check_size(found: int, expected: int, *, at_most: bool = False) -> None:
    """Return if a body has `expected` bytes, or may still come to have them.

    Raises:
        InputError: ``body_too_large``.
        PeerFault: ``body_truncated``.
    """
    if found > expected:
        raise InputError("body_too_large", f"the body has {found} bytes or more, {expected} are expected here")
    if found < expected and not at_most:
        raise PeerFault("body_truncated", f"the body has {found} bytes, {expected} are expected here")


def required_length(request: Request, expected: int) -> None:
    """Check the declared length of a body that must have exactly `expected` bytes, before a byte of it is read.

    Raises:
        InputError: ``length_required``, ``body_too_large``.
        PeerFault: ``body_truncated``.
    """
    declared = content_length(request)
    if declared is None:
        raise InputError("length_required", "this route needs a Content-Length")
    check_size(declared, expected)


async def _pieces(request: Request, size: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE_SECONDS + size / _LEAST_BYTES_PER_SECOND
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(until):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise PeerFault("body_truncated", "the body did not come in the time that its length allows") from error
        except ClientDisconnect as error:
            raise PeerFault("body_truncated", "the connection broke before the end of the body") from error
        yield piece
