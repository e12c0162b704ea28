"""The phases of a round on the wire: chunks, shares, manifest, refusal, decision, unmask, attestation."""

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from coordinator import complaints
from coordinator import statements as rules
from coordinator.api import statements
from coordinator.api.bodies import required_length, stream_into
from coordinator.api.call import Call, JsonAnswer
from coordinator.blobs.hashed_file import HashedFile
from coordinator.rounds import attestation, confirm_survivors, masked_update, unmask
from coordinator.sites import check_active
from coordinator.storage.rounds import Round
from shared.errors import InputError, MitralError
from shared.protocol.unmask import SealedUnmaskResponse


async def put_chunk(call: Call) -> Response:
    """Stream a chunk of a masked update to disk."""
    index = call.number("chunk")
    round_ = await run_in_threadpool(_check_open, call)
    layout = masked_update.layout_of(round_.ctx)
    if index >= layout.chunk_count:
        raise InputError("chunk_unknown", f"the vector has {layout.chunk_count} chunks, there is no chunk {index}")

    def keep(draft: HashedFile) -> str:
        return call.coordinator.uploads.keep_chunk(round_.ctx.ctx_hash, call.site.site, index, draft)

    return await _stage(call, round_, layout.chunk_bytes(index), keep)


async def put_shares(call: Call) -> Response:
    """Stream the share blobs to disk."""
    round_ = await run_in_threadpool(_check_open, call)

    def keep(draft: HashedFile) -> str:
        return call.coordinator.uploads.keep_shares(round_.ctx.ctx_hash, call.site.site, draft)

    return await _stage(call, round_, masked_update.shares_size(round_.ctx, call.site.site), keep)


def get_chunks(call: Call) -> Response:
    """Tell a restarted agent which chunks are here."""
    coordinator, site = call.coordinator, call.id("site")
    rules.check_path(call.site, site)
    with coordinator.database.reading("list chunks") as tx:
        masked_update.find(tx, call.path["ctx_hash"], site)
    chunks = coordinator.uploads.chunks(call.path["ctx_hash"], site)
    return JsonAnswer({"chunks": {str(index): digest for index, digest in chunks.items()}})


def put_manifest(call: Call) -> Response:
    """Take the manifest that completes an upload."""
    coordinator, ctx_hash = call.coordinator, call.path["ctx_hash"]
    message = statements.open_body(call, "manifest")
    with coordinator.database.reading("check a manifest") as tx:
        if rules.find(tx, message) is None:
            ctx = masked_update.check_open(tx, ctx_hash, call.site.site).ctx
        else:
            return statements.commit(call, "repeat a manifest", message, lambda *_: None)
    manifest = masked_update.check_manifest(coordinator.uploads, ctx, message)
    return statements.commit(
        call,
        "accept a masked update",
        message,
        lambda tx, site, signed: masked_update.accept(
            tx, coordinator.log, coordinator.uploads, coordinator.presence, site, signed, manifest,
            coordinator.clock.now(),
        ),
    )  # fmt: skip


def put_refusal(call: Call) -> Response:
    """Take a hospital's reasoned no."""
    coordinator, ctx_hash = call.coordinator, call.path["ctx_hash"]
    message = statements.open_body(call, "refusal")
    return statements.commit(
        call,
        "accept a refusal",
        message,
        lambda tx, site, signed: masked_update.refuse(
            tx, coordinator.log, coordinator.uploads, coordinator.presence, site, signed, ctx_hash,
            coordinator.clock.now(),
        ),
    )  # fmt: skip


def put_decision(call: Call) -> Response:
    """Take a decision about the survivors."""
    coordinator, ctx_hash = call.coordinator, call.path["ctx_hash"]
    message = statements.open_body(call, "decision")
    return statements.commit(
        call,
        "accept a decision",
        message,
        lambda tx, site, signed: confirm_survivors.accept(
            tx, coordinator.log, site, signed, masked_update.find(tx, ctx_hash, site.site), coordinator.clock.now()
        ),
    )


def get_unmask_request(call: Call) -> Response:
    """Return what a site verifies before it releases its shares."""
    site = call.id("site")
    rules.check_path(call.site, site)
    with call.coordinator.database.reading("build an unmask request") as tx:
        round_ = masked_update.find(tx, call.path["ctx_hash"], site)
        return JsonAnswer(unmask.request(tx, call.coordinator.uploads, round_, site).as_json())


def put_unmask(call: Call) -> Response:
    """Take a sealed unmask response."""
    coordinator, ctx_hash = call.coordinator, call.path["ctx_hash"]
    key = statements.own_key(call)
    sealed = SealedUnmaskResponse.parse(call.body)
    message = unmask.open_response(coordinator.keys.kem, sealed, ctx_hash, call.site.site, {call.site.site: key})
    with coordinator.database.reading("check an unmask response") as tx:
        round_ = masked_update.find(tx, ctx_hash, call.site.site)
    if round_.stmt is not None:
        unmask.check_response(message, round_)
    return statements.commit(
        call,
        "accept an unmask response",
        message,
        lambda tx, site, signed: unmask.accept(
            tx,
            coordinator.log,
            site,
            signed,
            call.body,
            masked_update.find(tx, ctx_hash, site.site),
            coordinator.clock.now(),
        ),
    )


def put_attestation(call: Call) -> Response:
    """Take a site's word that it computed the same model version."""
    coordinator, ctx_hash = call.coordinator, call.path["ctx_hash"]
    message = statements.open_body(call, "attestation")
    return statements.commit(
        call,
        "accept an attestation",
        message,
        lambda tx, site, signed: attestation.accept(
            tx, coordinator.log, site, signed, ctx_hash, coordinator.clock.now()
        ),
    )


def put_complaint(call: Call) -> Response:
    """Take evidence that something did not open."""
    coordinator, digest = call.coordinator, call.path["digest"]
    message = statements.open_body(call, "complaint")
    return statements.commit(
        call,
        "accept a complaint",
        message,
        lambda tx, site, signed: complaints.accept(tx, coordinator.log, site, signed, digest, coordinator.clock.now()),
    )


def _check_open(call: Call) -> Round:
    coordinator = call.coordinator
    rules.check_path(call.site, call.id("site"))
    with coordinator.database.reading("check an upload") as tx:
        check_active(tx, call.site, coordinator.federation, coordinator.clock.now())
        return masked_update.check_open(tx, call.path["ctx_hash"], call.site.site)


async def _stage(call: Call, round_: Round, size: int, keep: Callable[[HashedFile], str]) -> Response:
    required_length(call.request, size)
    uploads, ctx_hash, site = call.coordinator.uploads, round_.ctx.ctx_hash, call.site.site
    draft = await run_in_threadpool(uploads.draft, ctx_hash, site)
    await stream_into(call.request, draft, size)

    def finish() -> str:
        digest = keep(draft)
        try:
            _check_open(call)  # the window may have closed meanwhile; then nothing of this may stay
        except MitralError as error:
            if error.code == "round_closed":
                _wipe_late(call, ctx_hash)
            raise
        return digest

    return JsonAnswer({"sha256": await run_in_threadpool(finish)})


def _wipe_late(call: Call, ctx_hash: str) -> None:
    with call.coordinator.database.reading("look at a late upload") as tx:
        survivors = masked_update.find(tx, ctx_hash, call.site.site).survivors
    if call.site.site not in survivors:
        call.coordinator.uploads.wipe_site(ctx_hash, call.site.site)
