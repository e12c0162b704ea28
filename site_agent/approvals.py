"""Approvals: nothing is approved by default; the steward approves exactly one plan for exactly one data set."""

from dataclasses import dataclass
from datetime import datetime

from shared.clock import parse_timestamp, timestamp
from shared.errors import InputError, Refusal
from shared.protocol.study import Plan
from site_agent.identity import SiteIdentity
from site_agent.rounds.machine import State
from site_agent.rounds.refusal import queue_refusal
from site_agent.rounds.wipe import wipe_study
from site_agent.signing import sign_and_queue
from site_agent.storage import datasets, rounds, studies
from site_agent.storage.database import Transaction
from site_agent.storage.studies import StoredApproval

_NOT_SENT = {State.BOUND, State.TRAINED, State.SEALED}


@dataclass(frozen=True, slots=True)
class Consent:
    """What a context is checked against: the approved plan and the data set that goes with it."""

    plan: Plan
    plan_hash: str
    dataset: str


def approve(
    tx: Transaction, identity: SiteIdentity, study: str, dataset: str, plan_hash: str | None, now: datetime
) -> StoredApproval:
    """Approve a study in the steward's name, with the data set that is used for it.

    Raises:
        InputError: ``study_unknown``, ``dataset_unknown``.
        Refusal: ``plan_hash_mismatch`` when `plan_hash` is another plan's, ``plan_expired``.
    """
    stored = studies.read_study(tx, study)
    if stored is None or stored.plan is None:
        raise InputError("study_unknown", f"no study {study!r} has arrived; `mitral-site studies list` shows them")
    if plan_hash is not None and plan_hash.strip().lower() != stored.plan_hash:
        raise Refusal("plan_hash_mismatch", f"{study} has the plan {stored.plan_hash}")
    if parse_timestamp(stored.plan.not_after) < now:
        raise Refusal("plan_expired", f"the plan of {study} ran out at {stored.plan.not_after}")
    if datasets.read_dataset(tx, dataset) is None:
        raise InputError("dataset_unknown", f"no data set {dataset!r}; `mitral-site data list` shows them")
    return _decide(tx, identity, StoredApproval(study, stored.plan_hash, dataset, "approve", timestamp(now)), now)


def withdraw(tx: Transaction, identity: SiteIdentity, study: str, now: datetime) -> StoredApproval:
    """Take an approval back: nothing more is bound, sent or signed for the study, and its shared secrets are erased.

    An update that was delivered before cannot be taken back from the sum: the others can open it without this site.

    Raises:
        InputError: ``study_unknown``.
    """
    earlier = studies.read_approval(tx, study)
    if earlier is None:
        raise InputError("study_unknown", f"study {study!r} was never approved here")
    if not earlier.approved:
        return earlier
    reason = Refusal("study_not_approved", f"the approval of {study} was withdrawn")
    for stored in rounds.read_open_rounds(tx):
        if stored.study == study and stored.state in _NOT_SENT and rounds.read_refusal(tx, stored.ctx_hash) is None:
            queue_refusal(tx, identity, stored.ctx, reason, now)  # so that nobody waits for this site's update
    wipe_study(tx, study, "withdrawn")
    return _decide(
        tx, identity, StoredApproval(study, earlier.plan_hash, earlier.dataset, "withdraw", timestamp(now)), now
    )


def read_consent(tx: Transaction, study: str, now: datetime) -> Consent:
    """Return what the steward approved for a study.

    Raises:
        Refusal: ``study_not_approved``, ``plan_not_approved``, ``plan_expired``.
    """
    stored, approval = studies.read_study(tx, study), studies.read_approval(tx, study)
    if approval is None or not approval.approved:
        raise Refusal("study_not_approved", f"the steward has not approved {study}")
    if stored is None or stored.plan is None or stored.plan_hash != approval.plan_hash:
        raise Refusal("plan_not_approved", f"the steward approved another plan of {study}")
    if parse_timestamp(stored.plan.not_after) < now:
        raise Refusal("plan_expired", f"the plan of {study} ran out at {stored.plan.not_after}")
    return Consent(stored.plan, stored.plan_hash, approval.dataset)


def _decide(tx: Transaction, identity: SiteIdentity, approval: StoredApproval, now: datetime) -> StoredApproval:
    earlier = studies.read_approval(tx, approval.study)
    if earlier is not None and (earlier.plan_hash, earlier.dataset, earlier.decision) == (
        approval.plan_hash,
        approval.dataset,
        approval.decision,
    ):
        return earlier
    studies.set_approval(tx, approval)
    body = {
        "v": "SA1",
        "kind": "study",
        "study": approval.study,
        "plan": approval.plan_hash,
        "decision": approval.decision,
    }
    path = f"/v1/studies/{approval.study}/approvals/{identity.site}"
    sign_and_queue(tx, identity, "approval", body, path=path, now=now, study=approval.study)
    return approval
