"""One step of a study's round: what the driver does after every commit, at start-up and at deadlines."""

from dataclasses import dataclass, field
from datetime import datetime

from coordinator import cohort
from coordinator.audit import AuditLog
from coordinator.blobs.store import BlobStore
from coordinator.blobs.uploads import Uploads
from coordinator.keys import Keys
from coordinator.presence import Presence
from coordinator.rounds import aggregate, close, masked_update
from coordinator.rounds import open as opening
from coordinator.storage import rosters, rounds, sites, studies
from coordinator.storage.database import Database, Transaction
from coordinator.storage.rounds import Round
from coordinator.storage.studies import Study
from shared.clock import Clock, parse_timestamp
from shared.errors import MitralError, Unavailable
from shared.metrics import figures
from shared.model_state import flatten, from_bytes, layout_of, to_bytes, unflatten
from shared.statistics import statistics_from_sums
from shared.strategies.strategy import apply_aggregate

MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Desk:
    """What the steps work with."""

    database: Database
    log: AuditLog
    blobs: BlobStore
    uploads: Uploads
    keys: Keys
    presence: Presence
    clock: Clock
    gather_seconds: float
    threads: int
    tried: dict[str, int] = field(default_factory=dict)  # responders at the last attempt to open a context's secrets


def sweep_study(desk: Desk, study_id: str) -> datetime | None:
    """Do everything a study's round is due for; return when to look again by the clock, None when events decide."""
    while True:
        with desk.database.reading("look at a study") as tx:
            study = studies.read_study(tx, study_id)
            round_ = None if study is None else rounds.read_live(tx, study_id)
        if study is None:
            return None
        moved, again_at = _step(desk, study, round_)
        if not moved:
            return again_at


def sweep_files(desk: Desk) -> None:
    """Delete what a crash between a commit and its deletion left on disk (attack row 26).

    That is everything of ended rounds, and the uploads of those who were left out of a survivor set.
    """
    with desk.database.reading("list live rounds") as tx:
        live = {round_.ctx_hash: round_ for round_ in rounds.read_all_live(tx)}
    for ctx_hash in desk.uploads.contexts():
        round_ = live.get(ctx_hash)
        if round_ is None:
            desk.uploads.wipe(ctx_hash)
        elif round_.stmt is not None:
            for site in set(round_.ctx.sites) - set(round_.survivors):
                desk.uploads.wipe_site(ctx_hash, site)


def _step(desk: Desk, study: Study, round_: Round | None) -> tuple[bool, datetime | None]:
    now = desk.clock.now()
    if round_ is None:
        with desk.database.transaction("plan a round") as tx:
            fresh = studies.read_study(tx, study.study)
            return fresh is not None and opening.plan_next(tx, desk.log, fresh, now), None
    if round_.state == "PLANNED":
        return _open(desk, study, now) if study.state == "running" else (False, None)
    if round_.state == "AGGREGATED":
        return _publish(desk, study, round_), None
    return _advance(desk, study, round_, now)


def _advance(desk: Desk, study: Study, round_: Round, now: datetime) -> tuple[bool, datetime | None]:
    """Move a round that waits for the hospitals: OPEN, CLOSING, CERTIFIED or UNMASKING."""
    if round_.state == "UNMASKING" and _aggregate(desk, round_):
        return True, None
    if _is_outdated(desk, round_):
        return _retire(desk, round_, now, "roster_changed", "another roster came into force"), None
    if round_.state == "OPEN":
        return _watch_window(desk, study, round_, now)
    expires_at = parse_timestamp(round_.expires_at or "")
    if now >= expires_at:
        return _expire(desk, round_, now), None
    if _is_hopeless(desk, study, round_):
        return _retire(desk, round_, now, "too_few_left", "too many hospitals withdrew or were revoked"), None
    return False, expires_at


def _open(desk: Desk, study: Study, now: datetime) -> tuple[bool, datetime | None]:
    with desk.database.transaction("open a round") as tx:
        fresh, round_ = studies.read_study(tx, study.study), rounds.read_live(tx, study.study)
        if fresh is None or round_ is None or round_.state != "PLANNED" or fresh.state != "running":
            return True, None  # something moved meanwhile: look again
        chosen = opening.choose_cohort(tx, fresh, round_, desk.presence, desk.gather_seconds, now)
        if chosen.sites:
            opening.open_round(tx, desk.log, fresh, round_, chosen.sites, now)
            return True, None
        if fresh.reason != chosen.waiting_for:
            studies.set_study(tx, fresh.study, reason=chosen.waiting_for)
            tx.touch("operators")
        return False, chosen.look_again_at


def _watch_window(desk: Desk, study: Study, seen: Round, now: datetime) -> tuple[bool, datetime | None]:
    again_at = masked_update.next_deadline(seen, now)
    if now < masked_update.first_deadline(seen):
        with desk.database.reading("look at an upload window") as tx:
            quiet = not _is_everybody_in(tx, study, seen)
        if quiet:
            return False, again_at
    with desk.database.transaction("watch an upload window") as tx:
        round_ = rounds.read_round(tx, seen.ctx_hash or "")
        if round_ is None or round_.state != "OPEN":
            return True, None
        moved = masked_update.on_deadline(tx, desk.log, desk.uploads, desk.presence, round_, now)
        if moved:
            return True, None
    return False, again_at


def _is_everybody_in(tx: Transaction, study: Study, round_: Round) -> bool:
    ctx_hash = round_.ctx_hash or ""
    answered = set(rounds.read_uploaders(tx, ctx_hash)) | set(rounds.read_refusals(tx, ctx_hash))
    return answered >= set(round_.ctx.sites) & cohort.able(tx, study)


def _expire(desk: Desk, seen: Round, now: datetime) -> bool:
    with desk.database.transaction("expire a round") as tx:
        round_ = rounds.read_round(tx, seen.ctx_hash or "")
        if round_ is not None and round_.state in {"CLOSING", "CERTIFIED", "UNMASKING"}:
            code = "no_certificate" if round_.state == "CLOSING" else "no_shares"
            reason = f"the context expired while {round_.state}"
            close.lose(tx, desk.log, round_, code, reason, desk.uploads.wipe, now)
    return True


def _is_outdated(desk: Desk, seen: Round) -> bool:
    with desk.database.reading("compare rosters") as tx:
        active = rosters.read_active(tx)
    return active is not None and active.roster_hash != seen.ctx.roster


def _is_hopeless(desk: Desk, study: Study, seen: Round) -> bool:
    """Return whether fewer than t can still answer: hospitals that withdrew or were revoked sign nothing more."""
    ctx = seen.ctx
    with desk.database.reading("count who can answer") as tx:
        read = rounds.read_decisions if seen.state == "CLOSING" else rounds.read_responders
        answered = set(read(tx, ctx.ctx_hash))
        return len(answered | (set(ctx.sites) & cohort.able(tx, study))) < ctx.t


def _retire(desk: Desk, seen: Round, now: datetime, code: str, because: str) -> bool:
    """End a round for which the hospitals sign nothing more, instead of waiting for its expiry."""
    with desk.database.transaction("retire a round") as tx:
        round_ = rounds.read_round(tx, seen.ctx_hash or "")
        if round_ is not None and round_.state == seen.state:
            end = close.abandon if round_.state == "OPEN" else close.lose
            end(tx, desk.log, round_, code, f"{because} while {round_.state}", desk.uploads.wipe, now)
    return True


def _aggregate(desk: Desk, seen: Round) -> bool:
    with desk.database.reading("collect a round") as tx:
        collected = aggregate.collect(tx, seen)
    ctx_hash, count = seen.ctx.ctx_hash, len(collected.responses)
    if count < seen.ctx.t or desk.tried.get(ctx_hash) == count:
        return False
    with desk.uploads.attempting(ctx_hash) as ended:
        if ended < MOST_ATTEMPTS:
            result = aggregate.aggregate(collected, desk.uploads, desk.blobs, desk.keys.kem, desk.threads)
        else:  # the other studies shall not die with this round again and again
            why = f"the coordinator's process ended {ended} times while it added the updates up"
            result = aggregate.Failure("aggregation_failed", why)
    with desk.database.transaction("keep an aggregate") as tx:
        round_ = rounds.read_round(tx, seen.ctx_hash or "")
        if round_ is None or round_.state != "UNMASKING":
            return True
        blamed = aggregate.complained_about(collected)
        for site, why in blamed.items():
            sites.set_barred(tx, site, why)
        now = desk.clock.now()
        if blamed and isinstance(result, aggregate.Incomplete):
            # Among c+1 who cannot read a dealer's blobs is an honest one: waiting would only waste days (R4).
            result = aggregate.Failure("dealer_false", f"{', '.join(sorted(blamed))} dealt unreadable shares", blamed)
        if isinstance(result, aggregate.Sum):
            aggregate.accept_sum(tx, round_, result)
            return True
        if isinstance(result, aggregate.Failure):
            aggregate.accept_failure(tx, desk.log, desk.uploads, round_, result, now)
            return True
        desk.tried[ctx_hash] = count
        aggregate.note_false_responders(tx, desk.log, round_, result.false_responders, now)
        return False


def _publish(desk: Desk, study: Study, seen: Round) -> bool:
    failure: MitralError | None = None
    try:
        result = _result(desk, study, seen)
    except Unavailable:
        raise  # a full disk, say: nothing is lost, the driver tries again
    except MitralError as error:
        failure = error
    with desk.database.transaction("publish a round") as tx:
        round_ = rounds.read_round(tx, seen.ctx_hash or "")
        if round_ is None or round_.state != "AGGREGATED":
            return True
        now = desk.clock.now()
        if failure is None:
            close.publish(tx, desk.log, round_, result, desk.uploads.wipe, now)
        else:
            close.lose(tx, desk.log, round_, failure.code, failure.detail, desk.uploads.wipe, now)
    desk.tried.pop(seen.ctx_hash or "", None)
    desk.log.sign_checkpoint(desk.database)
    return True


def _result(desk: Desk, study: Study, round_: Round) -> close.Published:
    plan, tail = study.plan, close.read_tail(round_)
    model, statistics, metrics = study.model, None, None
    if round_.purpose == "statistics":
        statistics = statistics_from_sums(tail, len(round_.survivors))
    if round_.purpose == "update":
        received = from_bytes(desk.blobs.read(round_.model))
        layout = layout_of(received)
        words = aggregate.read_aggregate(round_.ctx, desk.blobs.read(round_.aggregate_sha256 or ""))
        flat = apply_aggregate(plan, layout, flatten(layout, received), words, tail["weight"][0])
        model = desk.blobs.put(to_bytes(unflatten(layout, flat)))
    if {"score_histogram", "test_histogram"} & set(tail):
        try:
            metrics = figures(tail, plan.metrics["bins"]).as_json()
        except MitralError as error:
            if error.code != "metrics_too_few_cases":
                raise
    return close.Published(model, None if metrics is None else dict(metrics), statistics)
