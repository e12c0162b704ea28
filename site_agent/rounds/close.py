"""R5 at the site: follow the chain of outcomes, recompute every model version, attest it, wipe (PROTOCOLS A7, W6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from shared.audit.log_checkpoint import decode_vkey
from shared.audit.proofs import verify_inclusion_bundle
from shared.canonical import JsonObject, from_b64u, sha256_hex
from shared.clock import timestamp
from shared.crypto.identity import VerifyKey
from shared.crypto.signed_envelope import open_envelope
from shared.errors import PeerFault
from shared.model_state import flatten, from_bytes, layout_of, to_bytes, unflatten
from shared.protocol.outcome import Attestation, PublishedOutcome
from shared.protocol.study import Plan
from shared.protocol.work import EndedCommand, StudyCommand
from shared.secagg.roster import site_keys
from shared.secagg.tail import decode_tail
from shared.statistics import statistics_from_sums
from shared.strategies.strategy import apply_aggregate
from site_agent.rounds.differencing import note_differencing
from site_agent.rounds.job import erase_result
from site_agent.rounds.machine import State
from site_agent.rounds.masked_update import vector_layout_of
from site_agent.rounds.session import Session
from site_agent.rounds.wipe import wipe_round
from site_agent.signing import sign_and_queue
from site_agent.storage import outcomes, rosters, rounds, studies
from site_agent.storage.outcomes import StoredOutcome
from site_agent.storage.rosters import StoredRoster
from site_agent.traffic import Traffic

PAGE = 50
KEPT_MODELS = 3
Origin = Literal["recomputed", "attested"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A published sum: centred main words and the tail's values."""

    words: np.ndarray[tuple[int], np.dtype[np.int32]]
    tail: dict[str, list[int]]


def answer(session: Session, work: StudyCommand, now: datetime) -> None:
    """Verify the outcomes of a study that are new, one after the other; each is committed before the next is looked at.

    Raises:
        PeerFault: an outcome does not follow, is not in the log, or leads to another model; nothing after it is taken.
        Retry: the network failed.
    """
    while True:
        with session.database.reading("read outcomes") as tx:
            newest, active = outcomes.read_newest(tx, work.study), rosters.read_active(tx)
            stored = studies.read_study(tx, work.study)
        index = 0 if newest is None else newest.index
        if index >= work.outcomes or active is None or stored is None or stored.plan is None:
            return
        page = session.client.read_outcomes(work.study, index)
        for published in page[:PAGE]:
            newest = take_outcome(session, stored.plan, active, newest, published, now)
        if not page:
            raise PeerFault("outcome_missing", f"{work.outcomes} outcomes were announced, {index} can be had")


def take_outcome(
    session: Session, plan: Plan, active: StoredRoster, newest: StoredOutcome | None, published: PublishedOutcome,
    now: datetime,
) -> StoredOutcome:  # fmt: skip
    """Verify one outcome, take over what it leads to, attest a recomputed model, and wipe the round.

    Raises:
        PeerFault: ``outcome_invalid``, ``outcome_not_logged``, ``model_differs``, ``model_not_attested``.
    """
    ctx, outcome = published.ctx, published.outcome
    check_follows(plan, newest, published)
    log_index = check_logged(active, published)
    origin: Origin | None = None
    statistics: JsonObject | None = None
    if ctx.kind == "update":
        origin = accept_model(session, plan, active, published)
    elif ctx.kind == "statistics":
        statistics = statistics_from_sums(read_aggregate(session, published).tail, len(outcome.U))
    taken = StoredOutcome(
        plan.study, published.index, ctx.ctx_hash, ctx.kind, ctx.round, outcome.outcome_hash, outcome.model_sha256,
        tuple(outcome.U),
    )  # fmt: skip
    with session.database.transaction("take outcome") as tx:
        outcomes.add_outcome(tx, taken, log_index)
        if origin is not None:
            outcomes.add_model_version(tx, plan.study, outcome.model_sha256, published.index, origin)
        if statistics is not None:
            outcomes.set_statistics(tx, plan.study, statistics, published.index)
        superseded = rounds.read_last_round(tx, plan.study, ctx.kind) > ctx.round
        if origin == "recomputed" and not superseded and not outcomes.has_attestation(tx, plan.study, ctx.round):
            body = {"study": plan.study, "round": ctx.round, "ctx_hash": ctx.ctx_hash, "model": outcome.model_sha256}
            path = f"/v1/rounds/{ctx.ctx_hash}/attestation/{session.site}"
            signed = sign_and_queue(
                tx, session.identity, "attestation", body, path=path, now=now, ctx_hash=ctx.ctx_hash, study=plan.study
            )
            outcomes.add_attestation(tx, plan.study, ctx.round, outcome.model_sha256, signed.seq)
            tx.after_commit.append(session.queued)
        note_differencing(tx, session.site, ctx, outcome.U, now)
        bound = rounds.read_round(tx, ctx.ctx_hash)
        if bound is not None:
            wipe_round(tx, bound, "published")
    session.desk.give_up(plan.study, ctx.ctx_hash)
    session.folder.erase_round(ctx.ctx_hash)
    session.log.info(
        "outcome", study=plan.study, round=ctx.round, kind=ctx.kind, model=outcome.model_sha256, how=origin
    )
    return taken


def answer_ended(session: Session, work: EndedCommand, now: datetime) -> None:
    """Wipe a context that ended without an outcome; its tombstone and what was sealed once stay."""
    del now
    with session.database.transaction("round ended") as tx:
        stored = rounds.read_round(tx, work.ctx_hash)
        if stored is None or stored.state == State.WIPED:
            return
        wipe_round(tx, stored, work.state)
    session.desk.give_up(stored.study, work.ctx_hash)
    session.folder.erase_round(work.ctx_hash)
    session.log.info("ended", study=work.study, ctx_hash=work.ctx_hash, state=work.state, reason=work.reason)


def wipe_expired(session: Session, now: datetime) -> None:
    """Wipe contexts whose time is over by this site's clock; the tombstone keeps them from being bound again."""
    moment = timestamp(now)
    with session.database.reading("read open rounds") as tx:
        over = [stored for stored in rounds.read_open_rounds(tx) if stored.expires <= moment]
    for stored in over:
        with session.database.transaction("round expired") as tx:
            wipe_round(tx, stored, "expired")


def erase_over(session: Session) -> None:
    """Stop working on contexts that are over here and erase their files, whoever ended them: a clock, the steward."""
    on_disk = session.folder.rounds_on_disk()  # before the states: nothing has files before it is bound
    if not on_disk:
        return
    with session.database.reading("read round states") as tx:
        live = {stored.ctx_hash for stored in rounds.read_open_rounds(tx)}
        over = {ctx_hash: rounds.read_round(tx, ctx_hash) for ctx_hash in on_disk - live}
    for ctx_hash, stored in over.items():
        if stored is not None:
            session.desk.give_up(stored.study, ctx_hash)
        session.folder.erase_round(ctx_hash)


def erase_leftovers(session: Session) -> None:
    """Remove files that a crash left behind after the commit that made them useless; called once at every start."""
    erase_over(session)
    with session.database.reading("read round states") as tx:
        states = {stored.ctx_hash: stored.state for stored in rounds.read_open_rounds(tx)}
    for ctx_hash, state in states.items():
        if state not in {State.BOUND, State.TRAINED}:
            erase_result(session.folder, ctx_hash)


def check_follows(plan: Plan, newest: StoredOutcome | None, published: PublishedOutcome) -> None:
    """Check that an outcome is the next link of the study's chain.

    Raises:
        PeerFault: ``outcome_invalid`` naming what does not fit.
    """
    ctx, outcome = published.ctx, published.outcome
    current = plan.initial_model if newest is None else newest.model
    survivors = outcome.U
    flaws = [
        (published.index != (0 if newest is None else newest.index) + 1, "it is not the next one"),
        (ctx.study != plan.study or ctx.plan != plan.plan_hash, "its context is of another study or plan"),
        (outcome.ctx_hash != ctx.ctx_hash, "it is about another context"),
        (ctx.prev != (None if newest is None else newest.outcome_hash), "its context does not follow the last outcome"),
        (ctx.kind == "update" and ctx.model != current, "it starts from another model than the study's"),
        (ctx.kind != "update" and outcome.model_sha256 != current, "it changes the model without an update"),
        (survivors != sorted(set(survivors)) or not set(survivors) <= set(ctx.sites), "its survivors are not of P"),
        (len(survivors) < ctx.m, "it has too few survivors"),
    ]
    flaw = next((detail for wrong, detail in flaws if wrong), None)
    if flaw is not None:
        raise PeerFault("outcome_invalid", f"outcome {published.index} of {plan.study}: {flaw}")


def check_logged(active: StoredRoster, published: PublishedOutcome) -> int:
    """Verify that the outcome stands in the log, under a checkpoint signed by the roster's log key; return its index.

    Raises:
        PeerFault: ``outcome_not_logged``, and what `verify_inclusion_bundle` raises.
    """
    vkey = decode_vkey(active.roster["coordinator"]["log_vkey"])
    proved = verify_inclusion_bundle(published.inclusion, vkey, vkey.name)
    entry, outcome = proved.entry, published.outcome
    logged = entry["data"].get("outcome")
    same = logged in (outcome.as_json(), outcome.outcome_hash)
    if entry["type"] != "round.result" or entry["data"].get("ctx_hash") != outcome.ctx_hash or not same:
        raise PeerFault("outcome_not_logged", f"entry {proved.index} of the log is not this outcome")
    return proved.index


def read_aggregate(session: Session, published: PublishedOutcome) -> Aggregate:
    """Fetch the published sum of a context and check its form.

    Raises:
        PeerFault: ``aggregate_malformed``, ``blob_damaged``.
    """
    ctx, outcome = published.ctx, published.outcome
    size = 4 * ctx.elements
    raw = session.client.read_blob(outcome.aggregate_sha256, size, Traffic.OUTCOME)
    if len(raw) != size:
        raise PeerFault("aggregate_malformed", f"the aggregate has {len(raw)} bytes, not {size}")
    layout = vector_layout_of(ctx)
    words = np.frombuffer(raw, "<i4", ctx.d)
    tail = decode_tail(layout.tail, np.frombuffer(raw, "<u4", offset=4 * ctx.d), ctx.b, len(ctx.P))
    if tail.get("n_sites") != [len(outcome.U)]:
        raise PeerFault("aggregate_malformed", f"the sum counts {tail.get('n_sites')} sites, {len(outcome.U)} survived")
    return Aggregate(words, tail)


def accept_model(session: Session, plan: Plan, active: StoredRoster, published: PublishedOutcome) -> Origin:
    """Accept the model version an update led to: recomputed here, or attested by c+1 pinned sites (R5).

    A site that has the model the round started from always recomputes. One that was away takes the word of c+1 sites
    and saves the way through every version it missed; without that many it fetches the model and recomputes too.

    Raises:
        PeerFault: ``model_differs`` when this site computes another model.
    """
    before, wanted = published.ctx.model, published.outcome.model_sha256
    if not session.folder.model(before).exists():
        vouching = check_attestations(site_keys(active.roster), published) - {session.site}
        if len(vouching) > int(active.roster["c"]):
            return "attested"
    raw = recompute(plan, session.read_model(before), read_aggregate(session, published))
    if sha256_hex(raw) != wanted:
        found = sha256_hex(raw)
        raise PeerFault("model_differs", f"the sum of outcome {published.index} leads to {found}, not to {wanted}")
    session.keep_model(wanted, raw)
    _forget_models(session, keep={before, wanted, plan.initial_model})
    return "recomputed"


def recompute(plan: Plan, model: bytes, aggregate: Aggregate) -> bytes:
    """Return the bytes of the model version that an aggregate leads to.

    Raises:
        PeerFault: ``aggregate_malformed``, ``model_not_finite``.
    """
    state = from_bytes(model)
    layout = layout_of(state)
    weight = aggregate.tail.get("weight", [0])[0]
    moved = apply_aggregate(plan, layout, flatten(layout, state), aggregate.words, weight)
    return to_bytes(unflatten(layout, moved))


def check_attestations(keys: Mapping[str, VerifyKey], published: PublishedOutcome) -> set[str]:
    """Return the pinned sites whose attestation of exactly this model verifies; the others' are ignored."""
    ctx, wanted = published.ctx, published.outcome.model_sha256
    vouching = set()
    for site, envelope in published.attestations.items():
        try:
            message = open_envelope(from_b64u(envelope), "attestation", keys)
            said = Attestation.check(message.body)
        except PeerFault:
            continue
        expected = (site, ctx.study, ctx.round, ctx.ctx_hash, wanted)
        if message.keyid == site and (said.site, said.study, said.round, said.ctx_hash, said.model) == expected:
            vouching.add(site)
    return vouching


def _forget_models(session: Session, keep: set[str]) -> None:
    """Remove model versions that are neither new nor in use; any of them can be fetched again by its digest."""
    with session.database.reading("read models in use") as tx:
        used = {stored.ctx.model for stored in rounds.read_open_rounds(tx)} | outcomes.read_current_models(tx)
    files = sorted(session.folder.models(), key=lambda file: file.stat().st_mtime)
    for file in files[:-KEPT_MODELS]:
        if file.stem not in keep | used:
            file.unlink(missing_ok=True)
