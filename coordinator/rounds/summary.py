"""Rounds and studies as operators see them."""

import threading
from collections import OrderedDict

from coordinator.presence import Presence
from coordinator.storage import rounds, studies
from coordinator.storage.database import Transaction
from coordinator.storage.rounds import Round
from coordinator.storage.studies import Study
from shared.canonical import JsonObject
from shared.clock import Clock
from shared.protocol.study import RoundView, StudyView

# What an ended round looks like never changes, and a study with hundreds of them is looked at after every commit.
_ended: OrderedDict[str, JsonObject] = OrderedDict()
_ENDED_KEPT = 20_000
_ended_lock = threading.Lock()


def round_json(tx: Transaction, round_: Round) -> JsonObject:
    """Return one opened round's view as JSON; those of ended rounds are remembered."""
    ctx_hash = round_.ctx_hash or ""
    with _ended_lock:
        known = _ended.get(ctx_hash)
    if known is not None:
        return known
    made = round_view(tx, round_).as_json()
    if round_.ended_at is not None:
        with _ended_lock:
            _ended[ctx_hash] = made
            if len(_ended) > _ENDED_KEPT:
                _ended.popitem(last=False)
    return made


def round_view(tx: Transaction, round_: Round) -> RoundView:
    """Return one opened round; who did what, how many masked bytes came, and what it led to. Never an update."""
    ctx_hash = round_.ctx_hash or ""
    uploaded = rounds.read_uploaders(tx, ctx_hash)
    return RoundView(
        study=round_.study,
        index=round_.position or 1,
        kind=round_.kind,
        round=round_.number,
        ctx_hash=ctx_hash,
        state=round_.state,
        reason=round_.reason,
        invited=round_.ctx.sites,
        uploaded=sorted(uploaded),
        refused=rounds.read_refusals(tx, ctx_hash),
        survivors=round_.survivors,
        opened_at=round_.opened_at or "",
        closed_at=round_.closed_at,
        published_at=round_.ended_at if round_.state == "PUBLISHED" else None,
        upload_bytes=uploaded,
        model=round_.model,
        result_model=round_.result_model,
        metrics=round_.metrics,
    )


def study_view(tx: Transaction, study: Study) -> StudyView:
    """Return a study with all its rounds."""
    approvals = studies.read_approvals(tx, study.study)
    return StudyView.check(
        {
            "study": study.study,
            "title": study.plan.title,
            "plan": study.plan_hash,
            "state": study.state,
            "reason": study.reason,
            "sites": study.plan.sites,
            "approved_by": sorted(site for site, (_, decision) in approvals.items() if decision == "approve"),
            "model": study.model,
            "best_model": study.best_model,
            "best_round": study.best_round,
            "best_metrics": study.best_metrics,
            "test_metrics": study.test_metrics,
            "rounds": [round_json(tx, one) for one in rounds.read_rounds(tx, study.study)],
        }
    )


def what_sites_do(tx: Transaction, study: Study, presence: Presence, clock: Clock) -> dict[str, JsonObject]:
    """Return for each site of a study whether it is online and what it is doing in the live round."""
    live = rounds.read_live(tx, study.study)
    now = clock.now()
    found: dict[str, JsonObject] = {}
    for site in study.plan.sites:
        online = presence.is_online(site, now)
        doing = "idle"
        if live is not None and live.ctx_hash is not None and site in live.ctx.sites:
            doing = _doing(tx, live, site)
        found[site] = {"online": online, "doing": doing if online or doing.startswith("refused") else "offline"}
    return found


def _doing(tx: Transaction, live: Round, site: str) -> str:
    ctx_hash = live.ctx_hash or ""
    refused = rounds.read_refusals(tx, ctx_hash)
    if site in refused:
        return f"refused:{refused[site]}"
    if site in rounds.read_responders(tx, ctx_hash):
        return "unmasked"
    if site in rounds.read_decisions(tx, ctx_hash):
        return "decided"
    if site in rounds.read_uploaders(tx, ctx_hash):
        return "uploaded"
    return "training" if live.state == "OPEN" else "idle"
