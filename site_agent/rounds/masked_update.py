"""R0 and R1 at the site: bind, train, mask, seal; sending is the outbox's business (PROTOCOLS A7, A10 W1, W2, W5)."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from shared.canonical import JsonObject
from shared.clock import timestamp
from shared.errors import MitralError, Refusal, Unavailable
from shared.protocol.round_context import Context
from shared.protocol.study import Plan
from shared.protocol.work import OpenCommand
from shared.secagg.layout import CHUNK_ELEMENTS, VectorLayout
from shared.secagg.masking import MaskingContext, mask_update
from shared.secagg.pair_secrets import b_commit, make_share_blobs, mask_seed, new_self_secret, seed_commit
from shared.secagg.quantization import Quantizer, RandomBits
from shared.secagg.tail import CHECKSUM, TailItem
from shared.strategies.strategy import clip_runs
from site_agent import approvals, policy
from site_agent.answers import Retry
from site_agent.rounds import job as jobs
from site_agent.rounds.machine import Event, State
from site_agent.rounds.pairing import pair_secrets
from site_agent.rounds.refusal import refuse
from site_agent.rounds.session import Session, expired
from site_agent.rounds.wipe import wipe_round
from site_agent.signing import sign_and_queue
from site_agent.state_folder import sync_folder, write_whole
from site_agent.storage import rounds
from site_agent.storage.rounds import StoredRound
from site_agent.terms import seconds_until_open
from site_agent.training.result_file import TrainingResult

SHARES_FILE = "shares"
_HOPELESS = {"training_failed", "training_timeout"}  # a second attempt was made, or there is no time for one


def answer(session: Session, work: OpenCommand, now: datetime) -> None:
    """Bind a context that the policy allows, or refuse it; then see that its training goes on beside the loops.

    Repeating it is harmless at any point: what was bound is not bound again, what was sealed is not touched.

    Raises:
        Unavailable: ``disk_full``, ``approval_hours``; nothing was changed, try again.
    """
    ctx_hash = work.ctx.ctx_hash
    with session.database.reading("read round") as tx:
        stored, refused = rounds.read_round(tx, ctx_hash), rounds.read_refusal(tx, ctx_hash)
    if refused is not None:
        return
    if stored is None:
        try:
            _wait_for_hours(session, work, now)
            bind(session, work.ctx, work.upload_until, now)
        except Refusal as reason:
            refuse(session, work.ctx, reason, now)
            return
    elif stored.state not in {State.BOUND, State.TRAINED}:
        return
    session.desk.start(work.ctx.study, ctx_hash, lambda: carry_out(session, ctx_hash, work.upload_until))


def bind(session: Session, ctx: Context, upload_until: str | None, now: datetime) -> None:
    """Check R0 and the steward's terms, and commit BOUND (W1, W5); without `upload_until` only to help closing.

    Older contexts of the study and kind are wiped, nothing is signed for them.

    Raises:
        Refusal: the check that failed.
    """
    with session.database.transaction("bind") as tx:
        policy.check_context(tx, session.site, ctx, now)
        if upload_until is not None:
            approvals.check_contribution(tx, ctx, now)
        older = [
            stored for stored in rounds.read_open_rounds(tx) if (stored.study, stored.kind) == (ctx.study, ctx.kind)
        ]
        for stored in older:
            wipe_round(tx, stored, "a later round was bound")
        rounds.add_round(tx, ctx, upload_until=upload_until, bound_at=timestamp(now))
    for stored in older:
        session.desk.give_up(stored.study, stored.ctx_hash)
        session.folder.erase_round(stored.ctx_hash)
    session.log.info("bound", study=ctx.study, round=ctx.round, kind=ctx.kind, ctx_hash=ctx.ctx_hash)


def _wait_for_hours(session: Session, work: OpenCommand, now: datetime) -> None:
    """Let work begin in the steward's hours only: wait for them while the upload window lasts, refuse otherwise.

    Raises:
        Retry: ``approval_hours`` with the seconds until the hours begin.
        Refusal: ``approval_hours`` when the window is over before; what `approvals.read_consent` raises.
    """
    with session.database.reading("read hours") as tx:
        agreed = approvals.read_consent(tx, work.ctx.study, now).terms
    seconds = seconds_until_open(agreed, now)
    if seconds == 0:
        return
    detail = f"work on {work.ctx.study} begins at {', '.join(agreed.hours)} ({agreed.timezone})"
    if seconds >= session.seconds_left(work.upload_until):
        raise Refusal("approval_hours", detail)
    raise Retry("approval_hours", detail, seconds)


def carry_out(session: Session, ctx_hash: str, upload_until: str) -> None:
    """Take a bound context as far as SEALED: train, or go on from a stored result; a failure becomes a refusal.

    Raises:
        Unavailable: nothing was sent, try again (network, full disk, agent stopping).
    """
    with session.database.reading("read round") as tx:
        stored = rounds.read_round(tx, ctx_hash)
    if stored is None or stored.state not in {State.BOUND, State.TRAINED} or expired(stored, session.clock.now()):
        return
    try:
        with session.database.reading("read consent") as tx:
            consent = approvals.check_contribution(tx, stored.ctx, session.clock.now())
        trained = train(session, stored, consent, session.seconds_left(upload_until))
        if trained is not None:
            seal(session, stored.ctx, consent.plan, trained)
    except MitralError as reason:
        if isinstance(reason, Unavailable) and reason.code not in _HOPELESS:
            raise
        refuse(session, stored.ctx, reason, session.clock.now())


def train(session: Session, stored: StoredRound, consent: approvals.Consent, seconds: float) -> TrainingResult | None:
    """Run the context's job, or read the result of an earlier run; TRAINED is committed when this returns one."""
    ctx = stored.ctx
    job = jobs.build_job(session, ctx, consent)
    if stored.state == State.TRAINED:
        return session.trainer.read_result(job)
    if seconds <= 0:
        raise Refusal("upload_window_over", f"the upload window of round {ctx.round} is over")
    trained = _run_twice(session, ctx.study, job, seconds)
    check_result(ctx, trained)
    with session.database.transaction("trained") as tx:
        current = rounds.read_round(tx, stored.ctx_hash)
        wanted = current is not None and current.state == State.BOUND
        if current is not None and wanted:
            jobs.keep_own_figures(tx, ctx, consent.plan, trained.values, session.clock.now())
            session.move(tx, current, Event.TRAIN)
    if wanted:
        return trained
    jobs.erase_result(session.folder, stored.ctx_hash)  # closed, wiped or superseded meanwhile: of no use to anybody
    return None


def _run_twice(session: Session, study: str, job: JsonObject, seconds: float) -> TrainingResult:
    """Run a job; a child that died under it (out of memory, say) gets one more chance."""
    try:
        return session.trainer.run(study, job, seconds)
    except Unavailable as error:
        if error.code != "training_failed":
            raise
        session.log.warning("training again", code=error.code, detail=error.detail, study=study)
        return session.trainer.run(study, job, seconds)


def check_result(ctx: Context, trained: TrainingResult) -> None:
    """Check that a result has the values the context's tail asks for.

    Raises:
        Refusal: ``result_malformed``, ``update_not_finite``.
    """
    wanted = {entry.name: entry.length for entry in ctx.tail if entry.name not in {CHECKSUM, "n_sites"}}
    lengths = {name: len(values) for name, values in trained.values.items() if name in wanted}
    if lengths != wanted:
        raise Refusal("result_malformed", f"the child returned {sorted(lengths)}, the tail has {sorted(wanted)}")
    if ctx.d and (trained.update is None or trained.update.shape != (ctx.d,)):
        raise Refusal("result_malformed", f"the child returned no update of {ctx.d} elements")
    if trained.update is not None and not np.isfinite(trained.update).all():
        raise Refusal("update_not_finite", f"the update of round {ctx.round} holds NaN or infinity")


def seal(session: Session, ctx: Context, plan: Plan, trained: TrainingResult) -> None:
    """Mask the vector under fresh secrets, put everything on disk, and commit SEALED with the signed manifest (W2).

    Before the commit nothing has left, so a crash here means masking again under another b_i; after it, only these
    bytes are ever sent. The secrets live in this function's variables only.

    Raises:
        Refusal: ``study_not_approved``, ``roster_not_active`` and the like: what changed since the context was bound.
    """
    ctx_hash, site, cohort = ctx.digest, session.site, ctx.sites
    with session.database.reading("read pair secrets") as tx:
        pairs = pair_secrets(tx, site, ctx)
    self_secret = new_self_secret(session.random)
    seeds = {peer: mask_seed(pair, ctx_hash) for peer, pair in pairs.items()}
    folder = session.folder.upload(ctx.ctx_hash)
    folder.mkdir(mode=0o700, exist_ok=True)
    layout = vector_layout_of(ctx)
    weight = trained.values["weight"][0] if "weight" in trained.values else 1
    quantizer = Quantizer(
        _clips(session, ctx, plan),
        weight=weight if ctx.d else 1,
        w_cap=ctx.w_cap if ctx.d else 1,
        q=ctx.q,
        random=RandomBits(session.random(32)),
    )
    masking = MaskingContext(ctx_hash, site, cohort, self_secret=self_secret, seeds=seeds)
    vector = mask_update(
        masking,
        layout,
        _main_words(ctx, trained),
        quantizer,
        tail=_tail_values(ctx, trained),
        sink=lambda index, chunk: write_whole(folder / str(index), [chunk]),
    )
    shares = make_share_blobs(
        ctx_hash, site, cohort, ctx.t, self_secret=self_secret, seeds=seeds, pairs=pairs, random=session.random
    )
    write_whole(folder / SHARES_FILE, [shares.blobs[peer] for peer in cohort])
    sync_folder(folder)
    manifest: JsonObject = {
        "ctx_hash": ctx.ctx_hash,
        "vec": {
            "elems": vector.elements,
            "b": ctx.b,
            "chunk_elems": CHUNK_ELEMENTS,
            "chunk_sha256": list(vector.chunk_sha256),
        },
        "b_commit": b_commit(ctx_hash, site, self_secret).hex(),
        "x_commit": None,
        "seed_commit": {peer: seed_commit(ctx_hash, site, peer, seed).hex() for peer, seed in seeds.items()},
        "shares": {peer: jobs.digest_of(shares.blobs[peer]) for peer in cohort},
    }
    with session.database.transaction("sealed") as tx:
        current = rounds.read_round(tx, ctx.ctx_hash)
        if current is None or current.state != State.TRAINED:
            return  # closed without this site, or wiped: the masked bytes never existed for anybody
        # Training takes hours: what was right when the context was bound may have been withdrawn since.
        now = session.clock.now()
        approvals.check_contribution(tx, ctx, now)
        policy.check_roster_of(tx, ctx, now)
        policy.check_released_once(tx, ctx)
        for model, item in policy.deterministic_items(ctx):
            rounds.add_released_item(tx, ctx.study, model, item, ctx.ctx_hash)
        path = f"/v1/rounds/{ctx.ctx_hash}/manifest/{site}"
        signed = sign_and_queue(
            tx, session.identity, "manifest", manifest, path=path, now=now, ctx_hash=ctx.ctx_hash, study=ctx.study,
        )  # fmt: skip
        rounds.add_upload(
            tx, ctx.ctx_hash, manifest_hash=signed.digest, own_shares=shares.own_shares,
            chunk_sha256=list(vector.chunk_sha256), size=layout.upload_bytes,
        )  # fmt: skip
        session.move(tx, current, Event.SEAL)
        session.sealed_here.add(signed.seq)
        tx.after_commit.append(session.queued)
    jobs.erase_result(session.folder, ctx.ctx_hash)  # W6: nobody needs the clear update any more
    session.log.info("sealed", study=ctx.study, round=ctx.round, kind=ctx.kind, bytes=layout.upload_bytes)


def vector_layout_of(ctx: Context) -> VectorLayout:
    """Return where the words of a context's vector lie."""
    tail = tuple(TailItem(entry.name, entry.limbs, entry.length) for entry in ctx.tail)
    return VectorLayout(ctx.d, tail, ctx.b, len(ctx.P))


def _main_words(ctx: Context, trained: TrainingResult) -> NDArray[np.float32]:
    if ctx.d == 0 or trained.update is None:
        return np.empty(0, np.float32)
    return trained.update


def _tail_values(ctx: Context, trained: TrainingResult) -> dict[str, list[int]]:
    values = {**trained.values, "n_sites": [1]}
    return {entry.name: values[entry.name] for entry in ctx.tail if entry.name != CHECKSUM}


def _clips(session: Session, ctx: Context, plan: Plan) -> list[tuple[int, float]]:
    if ctx.d == 0:
        return []
    return [(stop, float(clip)) for _, stop, clip in clip_runs(plan, session.layout_of(ctx.study, ctx.model))]
