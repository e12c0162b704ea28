"""How a round ends: published in one transaction, or abandoned, or lost (PROTOCOLS A7 R4, A10)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from coordinator.audit import COORDINATOR_ACTOR, SYSTEM_ACTOR, AuditLog, Fact
from coordinator.rounds import agenda
from coordinator.rounds.machine import Event, next_state
from coordinator.rounds.open import plan_next, read_progress
from coordinator.storage import model_versions, pairings, rounds, sites, studies
from coordinator.storage.database import Transaction
from coordinator.storage.rounds import Round
from shared.canonical import JsonObject, canonical_bytes
from shared.clock import timestamp
from shared.protocol.outcome import Outcome
from shared.secagg.differencing import set_apart

Wipe = Callable[[str], None]
_ENDED_COMPARED = 8  # far enough back to pass metrics contexts and rounds without survivors


@dataclass(frozen=True, slots=True)
class Published:
    """What the aggregate led to; computed before the transaction. `metrics` are of the version the round received."""

    model: str
    metrics: JsonObject | None
    statistics: JsonObject | None


def publish(tx: Transaction, log: AuditLog, round_: Round, result: Published, wipe: Wipe, now: datetime) -> None:
    """Publish outcome, model version, metrics and log entries, and plan what follows, all in this transaction."""
    study = studies.read_study(tx, round_.study)
    if study is None or round_.aggregate_sha256 is None or round_.ctx_hash is None:
        raise LookupError(round_.study)
    ctx = round_.ctx
    outcome = Outcome(
        ctx_hash=ctx.ctx_hash, U=round_.survivors, aggregate_sha256=round_.aggregate_sha256, model_sha256=result.model
    )
    index = study.outcome_count + 1
    head = rounds.read_log_size(tx)  # the entry of the result is the first one this transaction appends
    rounds.set_round(
        tx, round_.id, state=next_state(round_.state, "publish"), outcome=outcome.canonical().decode(),
        outcome_index=index, result_model=result.model, metrics=_text(result.metrics), ended_at=timestamp(now),
        log_index=head, reason=None,
    )  # fmt: skip
    changes: JsonObject = {"prev": outcome.outcome_hash, "outcome_count": index}
    if round_.purpose == "update":
        changes |= {"model": result.model, "model_round": round_.number, "failed_on_model": 0}
        model_versions.add_version(tx, study.study, result.model, round_.number, timestamp(now))
    studies.add_blob(tx, study.study, round_.aggregate_sha256, "aggregate")
    studies.add_blob(tx, study.study, result.model, "model")
    if result.statistics is not None:
        changes |= {"statistics": _text(result.statistics), "failed_on_model": 0}
    if result.metrics is not None:
        record = model_versions.set_test_metrics if round_.purpose == "test" else model_versions.set_metrics
        record(tx, study.study, round_.model, _text(result.metrics) or "")
    studies.set_study(tx, study.study, **changes, **_best(tx, study.study))
    tx.touch("agents", "operators", f"study/{study.study}")
    rounds.wipe_responses(tx, ctx.ctx_hash)
    tx.after_commit.append(lambda: wipe(ctx.ctx_hash))
    log.append_many(tx, [*_facts(round_, outcome, result), *_differencing(tx, round_)], now)
    _go_on(tx, log, study.study, now)


def abandon(tx: Transaction, log: AuditLog, round_: Round, code: str, reason: str, wipe: Wipe, now: datetime) -> None:
    """End a round in which nothing was opened; its uploads are deleted unread."""
    _end(tx, log, round_, "abandon", code, reason, wipe, now)


def lose(
    tx: Transaction, log: AuditLog, round_: Round, code: str, reason: str, wipe: Wipe, now: datetime, *,
    kept_out: dict[str, str] | None = None, new_bundles: list[str] | None = None,
) -> None:  # fmt: skip
    """End a round whose sum cannot be had any more.

    `kept_out` sites stay out of cohorts until an administrator readmits them; `new_bundles` sites pair anew.
    """
    for site, why in (kept_out or {}).items():
        sites.set_barred(tx, site, why)
    pairings.set_renew(tx, round_.study, new_bundles or [])
    _end(tx, log, round_, "lose", code, reason, wipe, now, kept_out=sorted(kept_out or {}))


def _end(
    tx: Transaction, log: AuditLog, round_: Round, event: Event, code: str, reason: str, wipe: Wipe, now: datetime,
    kept_out: list[str] | None = None,
) -> None:  # fmt: skip
    state = next_state(round_.state, event)
    study = studies.read_study(tx, round_.study)
    if study is None:
        raise LookupError(round_.study)
    rounds.set_round(tx, round_.id, state=state, reason=reason, ended_at=timestamp(now))
    if round_.purpose in {"update", "statistics"} and round_.ctx_hash is not None:
        studies.set_study(tx, study.study, failed_on_model=study.failed_on_model + 1)
    tx.touch("agents", "operators", f"study/{study.study}")
    if round_.ctx_hash is not None:
        ctx_hash = round_.ctx_hash
        rounds.wipe_responses(tx, ctx_hash)
        tx.after_commit.append(lambda: wipe(ctx_hash))
        data: JsonObject = {"ctx_hash": ctx_hash, "code": code, "round": round_.number, "kind": round_.kind}
        if kept_out:
            data["kept_out"] = kept_out
        type_ = "round.abort" if event == "abandon" else "round.lost"
        fact = Fact(type_, COORDINATOR_ACTOR, data, study.study, ("round", ctx_hash), outcome="minor")
        log.append_many(tx, [fact, *_differencing(tx, round_)], now)
    _go_on(tx, log, study.study, now)


def _differencing(tx: Transaction, round_: Round) -> list[Fact]:
    """Return the alert that this sum and the last one differ by a single site's update; a lost sum counts as one."""
    if round_.purpose != "update" or not round_.survivors:
        return []
    ended = rounds.read_newest_ended(tx, round_.study, _ENDED_COMPARED)
    before = next((one for one in ended if one.id != round_.id and one.purpose == "update" and one.survivors), None)
    site = None if before is None else set_apart(before.survivors, round_.survivors)
    if before is None or site is None:
        return []
    detail = "two sums over survivors that differ by one site say more about it than one does"
    data: JsonObject = {"detail": detail, "site": site, "ctx_hash": round_.ctx_hash, "before": before.ctx_hash}
    subject = ("round", round_.ctx_hash or "")
    return [Fact("alert.differencing", SYSTEM_ACTOR, data, round_.study, subject, outcome="minor")]


def _go_on(tx: Transaction, log: AuditLog, study_id: str, now: datetime) -> None:
    study = studies.read_study(tx, study_id)
    if study is not None:
        plan_next(tx, log, study, now)


def _best(tx: Transaction, study_id: str) -> JsonObject:
    study = studies.read_study(tx, study_id)
    if study is None:
        raise LookupError(study_id)
    best = agenda.best_version(read_progress(tx, study))
    return {
        "best_model": best.sha256,
        "best_round": best.round,
        "best_metrics": _text(best.metrics),
        "test_metrics": _text(best.test_metrics),
    }


def _facts(round_: Round, outcome: Outcome, result: Published) -> list[Fact]:
    subject = ("round", outcome.ctx_hash)
    data: JsonObject = {
        "ctx_hash": outcome.ctx_hash,
        "stmt_hash": round_.stmt_hash,
        "outcome": outcome.as_json(),
        "outcome_hash": outcome.outcome_hash,
    }
    facts = [Fact("round.result", COORDINATOR_ACTOR, data, round_.study, subject)]
    if round_.purpose == "update":
        published = {"model": result.model, "round": round_.number, "parent": round_.model}
        facts.append(Fact("model.published", COORDINATOR_ACTOR, published, round_.study, ("model", result.model)))
    if result.metrics is not None:
        part = "test" if round_.purpose == "test" else "validation"
        measured = {"model": round_.model, "part": part, "metrics": result.metrics}
        facts.append(Fact("metrics.published", COORDINATOR_ACTOR, measured, round_.study, ("model", round_.model)))
    return facts


def _text(value: JsonObject | None) -> str | None:
    return None if value is None else canonical_bytes(value).decode()


def read_tail(round_: Round) -> dict[str, list[int]]:
    """Return the tail values that the aggregation left behind."""
    return {name: [int(value) for value in values] for name, values in json.loads(round_.tail_json or "{}").items()}
