"""R1 at the coordinator: manifests are checked against the staged bytes, the window is watched (PROTOCOLS A7, A11)."""

from datetime import datetime, timedelta

from coordinator import cohort
from coordinator.audit import AuditLog, Fact
from coordinator.blobs.uploads import Uploads
from coordinator.presence import Presence
from coordinator.rounds import close, confirm_survivors, seed_commits
from coordinator.rounds.machine import is_accepted, next_state
from coordinator.sites import SitePrincipal
from coordinator.storage import rounds, studies
from coordinator.storage.database import Transaction
from coordinator.storage.rounds import Round, Upload
from shared.canonical import sha256_hex
from shared.clock import parse_timestamp, timestamp
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.masked_update import Manifest, UploadRefusal
from shared.protocol.round_context import Context
from shared.secagg.layout import CHUNK_ELEMENTS, VectorLayout
from shared.secagg.pair_secrets import blob_size
from shared.secagg.tail import TailItem


def layout_of(ctx: Context) -> VectorLayout:
    """Return where the words of a context's vector lie."""
    tail = tuple(TailItem(entry.name, entry.limbs, entry.length) for entry in ctx.tail)
    return VectorLayout(ctx.d, tail, ctx.b, len(ctx.P))


def check_open(tx: Transaction, ctx_hash: str, site: str) -> Round:
    """Return the round if `site` may upload to it now. Nothing of a late upload is read, let alone kept.

    Raises:
        InputError: ``round_unknown``, ``upload_conflict`` when its manifest is here already.
        Refusal: ``round_closed``, ``site_not_invited``.
    """
    round_ = find(tx, ctx_hash, site)
    if not is_accepted(round_.state, "upload"):
        raise Refusal("round_closed", f"the round is {round_.state}; a late update is deleted unread")
    if site in rounds.read_uploaders(tx, ctx_hash):
        raise InputError("upload_conflict", f"the manifest of {site} was accepted; an update is uploaded once")
    return round_


def find(tx: Transaction, ctx_hash: str, site: str) -> Round:
    """Return a round that `site` was invited to.

    Raises:
        InputError: ``round_unknown``.
        Refusal: ``site_not_invited``.
    """
    round_ = rounds.read_round(tx, ctx_hash)
    if round_ is None:
        raise InputError("round_unknown", f"there is no context {ctx_hash[:64]!r}")
    if site not in round_.ctx.sites:
        raise Refusal("site_not_invited", f"{site} was not invited to this round")
    return round_


def shares_size(ctx: Context, site: str) -> int:
    """Return how long the share blobs of a site are, one after the other."""
    n = len(ctx.P)
    return sum(blob_size(n, own=other == site) for other in ctx.sites)


def split_shares(ctx: Context, site: str, shares: bytes) -> dict[str, bytes]:
    """Cut the share blobs of a site at their recipients.

    Raises:
        PeerFault: ``shares_length``.
    """
    if len(shares) != shares_size(ctx, site):
        raise PeerFault(
            "shares_length", f"the share blobs of {site} have {len(shares)} bytes, not {shares_size(ctx, site)}"
        )
    blobs, start = {}, 0
    for other in ctx.sites:
        length = blob_size(len(ctx.P), own=other == site)
        blobs[other] = shares[start : start + length]
        start += length
    return blobs


def check_manifest(uploads: Uploads, ctx: Context, message: SignedMessage) -> Manifest:
    """Check a manifest against the context and against every staged byte; done before the transaction.

    Raises:
        PeerFault: ``message_malformed``, ``manifest_mismatch`` (names what differs), ``upload_incomplete``,
            ``shares_length``.
    """
    manifest = Manifest.check(message.body)
    layout, site = layout_of(ctx), manifest.site
    others = sorted(set(ctx.sites) - {site})
    vec = manifest.vec
    _require(manifest.ctx_hash == ctx.ctx_hash, "it is about another context")
    _require(
        (vec.elems, vec.b, vec.chunk_elems) == (layout.elements, ctx.b, CHUNK_ELEMENTS), "the vector has another form"
    )
    _require(len(vec.chunk_sha256) == layout.chunk_count, f"it does not list {layout.chunk_count} chunks")
    _require(sorted(manifest.seed_commit) == others, "seed_commit does not name exactly the other invited sites")
    _require(sorted(manifest.shares) == ctx.sites, "shares does not name exactly the invited sites")
    staged = uploads.chunks(ctx.ctx_hash, site)
    missing = [index for index in range(layout.chunk_count) if index not in staged]
    if missing:
        raise PeerFault("upload_incomplete", f"chunk {missing[0]} of {layout.chunk_count} is not here")
    different = [index for index, digest in enumerate(vec.chunk_sha256) if staged[index] != digest]
    _require(not different, f"chunk {different[0] if different else 0} has another hash than the manifest says")
    shares = uploads.shares(ctx.ctx_hash, site)
    if shares is None:
        raise PeerFault("upload_incomplete", "the share blobs are not here")
    for other, blob in split_shares(ctx, site, shares).items():
        _require(sha256_hex(blob) == manifest.shares[other], f"the share blob for {other} has another hash")
    uploads.sync(ctx.ctx_hash, site)
    return manifest


def accept(
    tx: Transaction, log: AuditLog, uploads: Uploads, presence: Presence, principal: SitePrincipal,
    message: SignedMessage, manifest: Manifest, now: datetime,
) -> None:  # fmt: skip
    """Take a checked manifest; close the window when nobody is waited for any more.

    Raises:
        InputError: ``round_unknown``, ``upload_conflict``.
        Refusal: ``round_closed``, ``site_not_invited``.
    """
    site, ctx_hash = principal.site, manifest.ctx_hash
    round_ = check_open(tx, ctx_hash, site)
    layout = layout_of(round_.ctx)
    upload = Upload(site, message.digest, message.envelope, layout.upload_bytes, timestamp(now))
    rounds.add_upload(tx, ctx_hash, upload)
    tx.touch("operators")
    data = {"ctx_hash": ctx_hash, "site": site, "manifest_hash": message.digest, "bytes": layout.upload_bytes}
    fact = Fact(
        "round.upload", principal.actor, data, round_.study, ("round", ctx_hash), evidence=(message.envelope_digest,)
    )
    log.append_statement(tx, message, fact, now)
    seed_commits.note(tx, log, round_, site, now)
    on_deadline(tx, log, uploads, presence, round_, now)


def refuse(
    tx: Transaction, log: AuditLog, uploads: Uploads, presence: Presence, principal: SitePrincipal,
    message: SignedMessage, ctx_hash: str, now: datetime,
) -> None:  # fmt: skip
    """Take a hospital's reasoned no; it never fails the round for the others.

    Raises:
        InputError: ``round_unknown``, ``upload_conflict``.
        Refusal: ``round_closed``, ``site_not_invited``.
        PeerFault: ``message_malformed``.
    """
    refusal = UploadRefusal.check(message.body)
    round_ = check_open(tx, ctx_hash, principal.site)
    if refusal.ctx_hash != ctx_hash:
        raise PeerFault("message_malformed", "the refusal is about another context")
    if principal.site in rounds.read_refusals(tx, ctx_hash):
        raise InputError("statement_conflict", f"{principal.site} has refused this context in other words")
    rounds.add_refusal(tx, ctx_hash, principal.site, refusal.code, refusal.detail)
    tx.touch("operators")
    data = {"ctx_hash": ctx_hash, "site": principal.site, "code": refusal.code}
    fact = Fact(
        "round.refused", principal.actor, data, round_.study, ("round", ctx_hash), evidence=(message.envelope_digest,)
    )
    log.append_statement(tx, message, fact, now)
    on_deadline(tx, log, uploads, presence, round_, now)


def on_deadline(
    tx: Transaction, log: AuditLog, uploads: Uploads, presence: Presence, round_: Round, now: datetime
) -> bool:
    """Decide about the upload window: close it, extend it once, give up, or wait; return whether anything changed."""
    ctx, ctx_hash = round_.ctx, round_.ctx_hash or ""
    received, refused = rounds.read_uploads(tx, ctx_hash), rounds.read_refusals(tx, ctx_hash)
    study = studies.read_study(tx, round_.study)
    able = set(ctx.sites) if study is None else cohort.able(tx, study)
    waiting = [site for site in ctx.sites if site in able and site not in received and site not in refused]
    uploaded = seed_commits.consistent(ctx_hash, received)
    until, expires_at = parse_timestamp(round_.upload_until or ""), parse_timestamp(ctx.expires)
    if now >= expires_at:
        close.abandon(
            tx, log, round_, "expired", "the context expired before its survivors were fixed", uploads.wipe, now
        )
        return True
    if len(uploaded) + len(waiting) < ctx.m:
        reason = f"{len(refused)} of {len(ctx.P)} sites refused ({', '.join(sorted(set(refused.values())))})"
        if len(uploaded) < len(received):
            reason += f", {len(received) - len(uploaded)} contradicted others"
        close.abandon(tx, log, round_, "too_many_refusals", reason, uploads.wipe, now)
        return True
    if len(uploaded) >= ctx.m:
        return _close_or_wait(tx, log, uploads, presence, round_, waiting, now)
    if now < until:
        return False
    if not round_.extended:
        longer = min(expires_at, until + (until - parse_timestamp(round_.opened_at or "")))
        rounds.set_round(
            tx, round_.id, state=next_state(round_.state, "extend"), extended=True, upload_until=timestamp(longer)
        )
        tx.touch("agents", "operators", f"study/{round_.study}")
        return True
    reason = f"{len(uploaded)} of at least {ctx.m} updates arrived in twice the upload window"
    close.abandon(tx, log, round_, "too_few_uploads", reason, uploads.wipe, now)
    return True


def first_deadline(round_: Round) -> datetime:
    """Return when the upload window ends for the first time: the grace period's end, or the window's own."""
    return parse_timestamp(round_.grace_until or round_.upload_until or "")


def next_deadline(round_: Round, now: datetime) -> datetime | None:
    """Return when the window has to be looked at again; None when every deadline is past."""
    times = [parse_timestamp(text) for text in (round_.grace_until, round_.upload_until, round_.expires_at) if text]
    return min((moment for moment in times if moment > now), default=None)


def _close_or_wait(
    tx: Transaction, log: AuditLog, uploads: Uploads, presence: Presence, round_: Round, waiting: list[str],
    now: datetime,
) -> bool:  # fmt: skip
    until = parse_timestamp(round_.upload_until or "")
    if not waiting or now >= until or (round_.grace_until and now >= parse_timestamp(round_.grace_until)):
        return confirm_survivors.propose(tx, log, uploads, presence, round_, now)
    if round_.grace_until is None:
        study = studies.read_study(tx, round_.study)
        seconds = 0 if study is None else study.plan.deadlines.grace_seconds
        rounds.set_round(tx, round_.id, grace_until=timestamp(min(until, now + timedelta(seconds=seconds))))
        tx.touch(f"study/{round_.study}")  # the driver learns of the new deadline
    return False


def _require(holds: object, detail: str) -> None:
    if not holds:
        raise PeerFault("manifest_mismatch", detail)
