"""PLANNED and OPEN: what comes next, the cohort, the frozen context (PROTOCOLS A7 R0)."""

from datetime import datetime, timedelta

from coordinator import cohort
from coordinator.audit import COORDINATOR_ACTOR, AuditLog, Fact
from coordinator.presence import Presence
from coordinator.rounds import agenda
from coordinator.rounds.machine import next_state
from coordinator.storage import model_versions, pairings, rosters, rounds, studies
from coordinator.storage.database import Transaction
from coordinator.storage.rosters import StoredRoster
from coordinator.storage.rounds import Round
from coordinator.storage.studies import Study
from shared.clock import timestamp
from shared.protocol.round_context import Context, Participant, clip_hash, dp_hash
from shared.protocol.vector_layout import Part, vector_layout
from shared.secagg.roster import is_expired

_ITEMS: dict[Part, str] = {"validation": "score_histogram", "test": "test_histogram"}


def plan_next(tx: Transaction, log: AuditLog, study: Study, now: datetime) -> bool:
    """Plan the study's next round, or pause or finish it; return whether anything changed.

    It is the last thing in its transaction that writes, apart from the log.
    """
    if study.state != "running" or rounds.read_live(tx, study.study) is not None:
        return False
    progress = read_progress(tx, study)
    step = agenda.next_step(progress)
    tx.touch("agents", "operators", f"study/{study.study}")
    subject = ("study", study.study)
    if isinstance(step, agenda.Next):
        kind = agenda.KINDS[step.purpose]
        number = rounds.read_last_number(tx, study.study, kind) + 1
        rounds.add_planned(tx, study.study, kind, step.purpose, number, step.model, timestamp(now))
    elif isinstance(step, agenda.Pause):
        studies.set_study(tx, study.study, state="paused", reason=step.reason)
        log.append(tx, Fact("study.paused", COORDINATOR_ACTOR, {"reason": step.reason}, study.study, subject), now)
    else:
        studies.set_study(tx, study.study, state="finished", reason=step.reason)
        log.append(tx, Fact("study.finished", COORDINATOR_ACTOR, {"reason": step.reason}, study.study, subject), now)
    return True


def read_progress(tx: Transaction, study: Study) -> agenda.Progress:
    """Return what a study has behind it."""
    return agenda.Progress(
        plan=study.plan,
        versions=model_versions.read_versions(tx, study.study),
        rounds=rounds.read_rounds(tx, study.study),
        model=study.model,
        failed_on_model=study.failed_on_model,
    )


def choose_cohort(
    tx: Transaction, study: Study, round_: Round, presence: Presence, gather_seconds: float, now: datetime
) -> cohort.Cohort:
    """Return whom to invite to a planned round, or why to wait."""
    roster = rosters.read_active(tx)
    if roster is None:
        return cohort.Cohort([], "no roster is active yet")
    if is_expired(roster.roster, now):
        return cohort.Cohort([], f"roster version {roster.version} ran out: propose a new one, every site approves it")
    return cohort.choose(
        cohort.members(tx, study, roster),
        pairings.read_readable(tx, study.study),
        roster,
        presence,
        study=study,
        kind=round_.kind,
        waiting_since=max(
            datetime.fromisoformat(round_.planned_at), datetime.fromisoformat(study.started_at or round_.planned_at)
        ),
        gather_seconds=gather_seconds,
        now=now,
    )


def open_round(tx: Transaction, log: AuditLog, study: Study, round_: Round, sites: list[str], now: datetime) -> Context:
    """Freeze the context over these sites, write it to the log and offer it.

    Raises:
        Refusal: ``sa_overflow`` and the like are excluded by the cohort's checks before.
    """
    roster = rosters.read_active(tx)
    if roster is None:
        raise LookupError("a cohort was chosen without a roster")
    ctx = freeze(tx, study, round_, roster, sites, now)
    position = rounds.read_last_position(tx, study.study) + 1
    until = now + timedelta(seconds=study.plan.deadlines.upload_seconds)
    rounds.set_round(
        tx, round_.id, state=next_state(round_.state, "open"), position=position, ctx_hash=ctx.ctx_hash,
        ctx=ctx.canonical().decode(), opened_at=timestamp(now), upload_until=timestamp(until), expires_at=ctx.expires,
        reason=None,
    )  # fmt: skip
    pairings.count_use(tx, [participant.pairing for participant in ctx.P])
    for item in {entry.name for entry in ctx.tail} & set(_ITEMS.values()):
        model_versions.add_asked(tx, study.study, ctx.model, item, ctx.ctx_hash)
    if study.reason is not None:
        studies.set_study(tx, study.study, reason=None)
    tx.touch("agents", "operators", f"study/{study.study}")
    data = {
        "ctx_hash": ctx.ctx_hash,
        "round": ctx.round,
        "kind": ctx.kind,
        "model": ctx.model,
        "plan": ctx.plan,
        "roster": ctx.roster,
        "n": len(ctx.P),
        "t": ctx.t,
        "m": ctx.m,
    }
    log.append(tx, Fact("round.open", COORDINATOR_ACTOR, data, study.study, ("round", ctx.ctx_hash)), now)
    return ctx


def freeze(
    tx: Transaction, study: Study, round_: Round, roster: StoredRoster, sites: list[str], now: datetime
) -> Context:
    """Return the context of a round with these sites; everything in it follows from the plan and the state."""
    plan = study.plan
    t, c, m = cohort.round_numbers(len(sites), roster, study)
    bundles = pairings.read_current(tx, study.study)
    kind = agenda.KINDS[round_.purpose]  # type: ignore[index]
    d, b, q, tail = vector_layout(plan, kind, len(sites), _score(tx, study, round_))
    return Context(
        v="SA1",
        kind=kind,
        group=0,
        study=study.study,
        roster=roster.roster_hash,
        round=round_.number,
        model=round_.model,
        plan=study.plan_hash,
        prev=study.prev,
        P=[Participant(site=site, pairing=bundles[site].pairing_hash) for site in sites],
        t=t,
        c=c,
        m=m,
        d=d,
        tail=tail,
        b=b,
        q=q,
        w_cap=plan.secure_aggregation.w_cap,
        clip=clip_hash(plan.secure_aggregation.clip),
        dp=dp_hash(plan.dp),
        expires=timestamp(now + timedelta(seconds=plan.deadlines.expire_seconds)),
    )


def _score(tx: Transaction, study: Study, round_: Round) -> Part | None:
    if round_.purpose == "statistics":
        return None
    part: Part = "test" if round_.purpose == "test" else "validation"
    if round_.purpose == "update" and model_versions.is_asked(tx, study.study, round_.model, _ITEMS[part]):
        return None  # a version's histogram is asked once, whatever became of that context (ADR 0004)
    return part
