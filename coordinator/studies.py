"""Studies: submitted by a researcher, approved by stewards by digest, started, paused, stopped."""

from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.blobs.store import BlobStore
from coordinator.blobs.uploads import Uploads
from coordinator.operators import Principal, actor_of
from coordinator.rounds import close
from coordinator.rounds.open import plan_next
from coordinator.sites import SitePrincipal
from coordinator.storage import model_versions, pairings, rosters, rounds
from coordinator.storage import studies as stored
from coordinator.storage.database import Transaction
from coordinator.storage.studies import Study
from shared.clock import parse_timestamp, timestamp
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import InputError, PeerFault, Refusal
from shared.model_state import Layout, from_bytes, layout_of
from shared.protocol.study import Plan, StudyApproval
from shared.secagg.parameters import check_overflow
from shared.strategies.registry import check_strategy
from shared.strategies.strategy import clip_runs
from shared.task_catalogue import check_metrics, check_task

_NORMALISE = {"federated", "none"}


def check_plan(plan: Plan, federation: str, layout: Layout, now: datetime) -> None:
    """Check what a plan says against what this release can do, before anybody is asked to approve it.

    Raises:
        InputError: ``plan_invalid`` naming the key; ``task_invalid``, ``metrics_invalid``, ``strategy_invalid``.
        Refusal: ``sa_overflow``, ``sa_word_bits``.
    """
    _require(plan.federation == federation, f"federation: this is {federation!r}")
    _require(plan.sites == sorted(set(plan.sites)), "sites: must be strictly ascending")
    _require(check_task(plan.task) == plan.task, "task: keys are missing; submit it with all defaults written out")
    _require(check_metrics(plan.metrics) == plan.metrics, "metrics: keys are missing")
    check_strategy(plan.strategy)
    clip_runs(plan, layout)
    numbers = plan.secure_aggregation
    check_overflow(len(plan.sites), numbers.q, numbers.b)
    _require(plan.preprocessing.get("normalise") in _NORMALISE, "preprocessing.normalise: 'federated' or 'none'")
    _require(plan.dimension == layout.size, f"dimension: the initial model has {layout.size} weights")
    _require(plan.dp is None, "dp: differential privacy is not available in this release")
    least = numbers.least_survivors
    _require(least is None or least <= len(plan.sites), "secure_aggregation.least_survivors: more than there are sites")
    _require(parse_timestamp(plan.not_after) > now, "not_after: lies in the past")
    _require(plan.deadlines.expire_seconds >= plan.deadlines.upload_seconds, "deadlines.expire_seconds: too short")


def read_initial_model(blobs: BlobStore, plan: Plan) -> Layout:
    """Return the layout of the first model version, which was uploaded before.

    Raises:
        InputError: ``initial_model_missing``.
        PeerFault: ``model_malformed``, ``model_not_finite``.
    """
    if blobs.size(plan.initial_model) is None:
        raise InputError("initial_model_missing", f"upload the model {plan.initial_model} first")
    return layout_of(from_bytes(blobs.read(plan.initial_model)))


def submit(tx: Transaction, log: AuditLog, blobs: BlobStore, by: Principal, plan: Plan, now: datetime) -> Study:
    """Take a checked plan; the identical plan again is the same study.

    Raises:
        InputError: ``study_exists`` for another plan under the same id.
        Refusal: ``permission_denied`` when the credential reaches other studies only.
    """
    by.check_on("studies.run", plan.study, by.operator)
    known = stored.read_study(tx, plan.study)
    if known is not None:
        if known.plan_hash != plan.plan_hash or known.owner != by.operator:
            raise InputError("study_exists", f"there is a study {plan.study!r} with another plan or owner")
        return known
    blobs.put(plan.canonical())
    stored.add_study(tx, plan, by.operator, timestamp(now))
    stored.add_blob(tx, plan.study, plan.plan_hash, "plan")
    stored.add_blob(tx, plan.study, plan.initial_model, "model")
    model_versions.add_version(tx, plan.study, plan.initial_model, 0, timestamp(now))
    tx.touch("agents", "operators")
    data = {"plan": plan.plan_hash, "initial_model": plan.initial_model, "sites": len(plan.sites)}
    log.append(tx, Fact("study.submitted", actor_of(by), data, plan.study, ("study", plan.study)), now)
    return read(tx, plan.study)


def approve(
    tx: Transaction, log: AuditLog, study: str, principal: SitePrincipal, message: SignedMessage, now: datetime
) -> None:
    """Take a steward's approval or withdrawal of exactly this plan.

    Raises:
        InputError: ``study_unknown``.
        Refusal: ``study_not_of_site``.
        PeerFault: ``approval_mismatch``, ``message_malformed``.
    """
    found, site = read(tx, study), principal.site
    approval = StudyApproval.check(message.body)
    if site not in found.plan.sites:
        raise Refusal("study_not_of_site", f"{site} is not among the sites of {study}")
    if approval.study != study or approval.plan != found.plan_hash:
        raise PeerFault("approval_mismatch", f"the approval is not of the plan of {study}")
    earlier = stored.read_approvals(tx, study).get(site)
    if approval.decision == "approve" and earlier is not None and earlier[1] == "withdraw":
        # With the withdrawal the site erased what it shared with the others, in both directions.
        pairings.set_renew(tx, study, list(found.plan.sites))
    stored.set_approval(tx, study, site, approval.plan, approval.decision, approval.seq, timestamp(now))
    tx.touch("agents", "operators", f"study/{study}")
    type_ = "plan.approved" if approval.decision == "approve" else "plan.withdrawn"
    data = {"site": site, "plan": approval.plan}
    fact = Fact(type_, principal.actor, data, study, ("study", study), evidence=(message.envelope_digest,))
    log.append_statement(tx, message, fact, now)


def start(tx: Transaction, log: AuditLog, by: Principal, study: str, now: datetime) -> None:
    """Let a submitted or paused study run.

    Raises:
        InputError: ``study_unknown``, ``study_state``.
        Refusal: ``study_not_owned``, ``study_expired``; ``roster_missing`` while no roster is active.
    """
    found = owned(tx, by, study)
    if found.state == "running":
        return
    if found.state not in {"submitted", "paused"}:
        raise InputError("study_state", f"{study} is {found.state}")
    if parse_timestamp(found.plan.not_after) <= now:
        raise Refusal("study_expired", f"the plan of {study} expired {found.plan.not_after}")
    if rosters.read_active(tx) is None:
        raise Refusal("roster_missing", "no roster is active yet: propose one, and let every site approve it")
    # A person decided to go on, so failed rounds on this model version are counted anew.
    stored.set_study(tx, study, state="running", reason=None, started_at=timestamp(now), failed_on_model=0)
    tx.touch("agents", "operators", f"study/{study}")
    plan_next(tx, log, read(tx, study), now)
    log.append(tx, Fact("study.started", actor_of(by), {}, study, ("study", study)), now)


def pause(tx: Transaction, log: AuditLog, by: Principal, study: str, now: datetime) -> None:
    """Open no further rounds; one that is under way is finished.

    Raises:
        InputError: ``study_unknown``, ``study_state``.
        Refusal: ``study_not_owned``, ``permission_denied``.
    """
    found = owned(tx, by, study)
    if found.state == "paused":
        return
    if found.state != "running":
        raise InputError("study_state", f"{study} is {found.state}")
    stored.set_study(tx, study, state="paused", reason="paused by its researcher")
    tx.touch("agents", "operators", f"study/{study}")
    log.append(tx, Fact("study.paused", actor_of(by), {}, study, ("study", study)), now)


def stop(tx: Transaction, log: AuditLog, uploads: Uploads, by: Principal, study: str, now: datetime) -> None:
    """End a study for good; a round that is under way ends without a sum.

    Raises:
        InputError: ``study_unknown``, ``study_state``.
        Refusal: ``study_not_owned``, ``permission_denied``.
    """
    found = owned(tx, by, study)
    if found.state == "stopped":
        return
    if found.state == "finished":
        raise InputError("study_state", f"{study} is finished")
    stored.set_study(tx, study, state="stopped", reason="stopped by its researcher")
    tx.touch("agents", "operators", f"study/{study}")
    log.append(tx, Fact("study.stopped", actor_of(by), {"reason": "researcher"}, study, ("study", study)), now)
    live = rounds.read_live(tx, study)
    if live is not None:
        end = close.abandon if live.state in {"PLANNED", "OPEN"} else close.lose
        end(tx, log, live, "study_stopped", "the study was stopped", uploads.wipe, now)


def read(tx: Transaction, study: str) -> Study:
    """Return a study.

    Raises:
        InputError: ``study_unknown``.
    """
    found = stored.read_study(tx, study)
    if found is None:
        raise InputError("study_unknown", f"there is no study {study[:64]!r}")
    return found


def owned(tx: Transaction, by: Principal, study: str) -> Study:
    """Return a study of this researcher that the credential reaches.

    Raises:
        InputError: ``study_unknown``.
        Refusal: ``study_not_owned``, ``permission_denied``.
    """
    found = read(tx, study)
    if found.owner != by.operator:
        raise Refusal("study_not_owned", f"{study} belongs to another researcher")
    by.check_on("studies.run", study, found.owner)
    return found


def _require(holds: object, detail: str) -> None:
    if not holds:
        raise InputError("plan_invalid", detail)
