"""Blobs: ranges for resumed downloads, streamed uploads."""

import re

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import Response, StreamingResponse

from coordinator.api.bodies import content_length, required_length, stream_into
from coordinator.api.call import Call, JsonAnswer
from coordinator.storage import studies
from shared.canonical import hash_bytes
from shared.errors import InputError, PeerFault

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?")
_AT_ONCE = 2**16


def get_for_site(call: Call) -> Response:
    """Return a blob of a study that names the site."""
    sha256 = call.path["sha256"]
    with call.coordinator.database.reading("find a blob's studies") as tx:
        found = studies.read_blob_studies(tx, sha256)
    if not any(call.site.site in study.plan.sites for study in found):
        raise InputError("blob_unknown", f"there is no blob {sha256[:64]!r} for {call.site.site}")
    return _answer(call, sha256)


def get_for_operator(call: Call) -> Response:
    """Return a blob of one of the researcher's own studies."""
    sha256 = call.path["sha256"]
    with call.coordinator.database.reading("find a blob's studies") as tx:
        found = studies.read_blob_studies(tx, sha256)
    if not any(call.operator.may("blobs.read", study.study, study.owner) for study in found):
        raise InputError("blob_unknown", f"there is no blob {sha256[:64]!r} in a study of {call.operator.operator}")
    return _answer(call, sha256)


async def put(call: Call) -> Response:
    """Store a blob: the initial model of a study that will be submitted."""
    sha256 = call.path["sha256"]
    hash_bytes(sha256)
    size = content_length(call.request)
    if size is None:
        raise InputError("length_required", "this route needs a Content-Length")
    if size > call.coordinator.settings.max_blob_bytes:
        raise InputError("body_too_large", f"a blob may have {call.coordinator.settings.max_blob_bytes} bytes")
    required_length(call.request, size)
    blobs = call.coordinator.blobs
    draft = await run_in_threadpool(blobs.draft)
    await stream_into(call.request, draft, size)
    if draft.sha256 != sha256:
        draft.discard()
        raise PeerFault("blob_mismatch", f"the body has the digest {draft.sha256}")
    await run_in_threadpool(blobs.keep, draft)
    call.coordinator.senders.add((call.operator.operator, sha256))
    return JsonAnswer({"sha256": sha256})


def _answer(call: Call, sha256: str) -> Response:
    size = call.coordinator.blobs.size(sha256)
    if size is None:
        raise InputError("blob_unknown", f"the blob {sha256} is not in the store")
    headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes", "Cache-Control": "private, immutable, max-age=31536000"}
    start, end, status = 0, size, 200
    wanted = call.request.headers.get("range")
    if wanted is not None:
        start, end = _range(wanted, size)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status = 206
    headers["Content-Length"] = str(end - start)
    pieces = call.coordinator.blobs.pieces(sha256, start, end - start)
    if end - start <= _AT_ONCE:
        return Response(b"".join(pieces), status, headers, "application/octet-stream")
    return StreamingResponse(iterate_in_threadpool(pieces), status, headers, "application/octet-stream")


def _range(text: str, size: int) -> tuple[int, int]:
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InputError("range_invalid", f"{text[:80]!r} is not one range of bytes")
    start = int(match[1])
    end = min(size, int(match[2]) + 1) if match[2] else size
    if start >= size or end <= start:
        raise InputError("range_invalid", f"the blob has {size} bytes")
    return start, end
