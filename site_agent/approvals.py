"""Approvals: nothing is approved by default; the steward approves exactly one plan for exactly one data set.

What counts is the signed entry in the site's own log. A row that says something else than its entry approves nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from shared.canonical import JsonObject
from shared.clock import parse_timestamp, timestamp
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.round_context import Context
from shared.protocol.study import Plan
from site_agent import journal, terms
from site_agent.identity import SiteIdentity
from site_agent.journal import Keeper
from site_agent.rounds.machine import State
from site_agent.rounds.refusal import queue_refusal
from site_agent.rounds.wipe import wipe_study
from site_agent.signing import sign_and_queue
from site_agent.storage import datasets, rounds, studies
from site_agent.storage.database import Transaction
from site_agent.storage.studies import StoredApproval
from site_agent.terms import Terms

_NOT_SENT = {State.BOUND, State.TRAINED, State.SEALED}


@dataclass(frozen=True, slots=True)
class Consent:
    """What a context is checked against: the approved plan, the data set that goes with it, and the steward's terms."""

    plan: Plan
    plan_hash: str
    dataset: str
    terms: Terms
    decided_at: str


def approve(
    tx: Transaction,
    identity: SiteIdentity,
    study: str,
    dataset: str,
    plan_hash: str | None,
    now: datetime,
    given: Terms | None = None,
) -> StoredApproval:
    """Approve a study in the steward's name, with the data set that is used for it, under the terms that are `given`.

    Raises:
        InputError: ``study_unknown``, ``dataset_unknown``, ``hours_malformed``.
        Refusal: ``plan_hash_mismatch`` when `plan_hash` is another plan's, ``plan_expired``; what the plan asks for and
            the terms do not allow: ``approval_expired``, ``approval_epochs``, ``approval_budget``.
    """
    stored = studies.read_study(tx, study)
    if stored is None or stored.plan is None:
        raise InputError("study_unknown", f"no study {study!r} has arrived; `mitral-site studies list` shows them")
    if plan_hash is not None and plan_hash.strip().lower() != stored.plan_hash:
        raise Refusal("plan_hash_mismatch", f"{study} has the plan {stored.plan_hash}")
    if parse_timestamp(stored.plan.not_after) < now:
        raise Refusal("plan_expired", f"the plan of {study} ran out at {stored.plan.not_after}")
    registered = datasets.read_dataset(tx, dataset)
    if registered is None:
        raise InputError("dataset_unknown", f"no data set {dataset!r}; `mitral-site data list` shows them")
    agreed = given or terms.without_limits("the data steward", stored.plan.purpose)
    terms.check_plan(agreed, stored.plan, now)
    facts = {
        "study": study,
        "plan": stored.plan_hash,
        "dataset": dataset,
        "data_version": registered.digest,
        "terms": agreed.as_json(),
    }
    earlier = studies.read_approval(tx, study)
    if earlier is not None and earlier.approved and _is_said_already(tx, earlier, facts):
        return earlier
    approval = _write(tx, identity, journal.APPROVED, facts, now)
    if earlier is None or not earlier.approved or earlier.plan_hash != stored.plan_hash:
        _tell(tx, identity, approval, now)  # the terms are this hospital's own business
    return approval


def withdraw(tx: Transaction, identity: SiteIdentity, study: str, now: datetime, by: str = "") -> StoredApproval:
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
    facts = {"study": study, "plan": earlier.plan_hash, "dataset": earlier.dataset, "by": by or "the data steward"}
    withdrawn = _write(tx, identity, journal.WITHDRAWN, facts, now)
    _tell(tx, identity, withdrawn, now)
    return withdrawn


def read_consent(tx: Transaction, study: str, now: datetime) -> Consent:
    """Return what the steward approved for a study.

    Raises:
        Refusal: ``study_not_approved``, ``approval_unsigned``, ``plan_not_approved``, ``plan_expired``, and what
            `terms.check_plan` raises.
    """
    stored, approval = studies.read_study(tx, study), studies.read_approval(tx, study)
    if approval is None or not approval.approved:
        raise Refusal("study_not_approved", f"the steward has not approved {study}")
    agreed = read_terms(tx, approval)
    if stored is None or stored.plan is None or stored.plan_hash != approval.plan_hash:
        raise Refusal("plan_not_approved", f"the steward approved another plan of {study}")
    if parse_timestamp(stored.plan.not_after) < now:
        raise Refusal("plan_expired", f"the plan of {study} ran out at {stored.plan.not_after}")
    terms.check_plan(agreed, stored.plan, now)
    return Consent(stored.plan, stored.plan_hash, approval.dataset, agreed, approval.decided_at)


def check_contribution(tx: Transaction, ctx: Context, now: datetime) -> Consent:
    """Return the consent if this hospital may contribute to a context now: looked at before every step that would.

    A site whose limits are used up still helps the others to close and unmask their round.

    Raises:
        Refusal: as `read_consent`; ``approval_kind``, ``approval_rounds``, ``approval_hospitals``, ``approval_data``.
    """
    consent = read_consent(tx, ctx.study, now)
    terms.check_contribution(consent.terms, ctx, rounds.count_sealed_since(tx, ctx.study, consent.decided_at))
    registered, approval = datasets.read_dataset(tx, consent.dataset), studies.read_approval(tx, ctx.study)
    said = {} if approval is None else journal.read_entry(tx, approval.entry or 0).facts
    if registered is None or registered.digest != said.get("data_version"):
        raise Refusal("approval_data", f"{consent.dataset!r} is not the version that was approved for {ctx.study}")
    return consent


def read_terms(tx: Transaction, approval: StoredApproval) -> Terms:
    """Return the terms of an approval, from its signed entry in the site's own log.

    Raises:
        Refusal: ``approval_unsigned`` when there is none that says the same.
    """
    unsigned = Refusal("approval_unsigned", f"the approval of {approval.study} is not what the site's own log says")
    try:
        entry = journal.read_entry(tx, approval.entry or 0)
        newest = journal.read_last_about(tx, approval.study)
        agreed = Terms.check(entry.facts.get("terms", {}))
    except PeerFault as fault:
        raise unsigned from fault
    said = (entry.event, entry.at, *(entry.facts.get(name) for name in ("study", "plan", "dataset")))
    if newest != entry.head.number:
        raise unsigned
    if said != (journal.APPROVED, approval.decided_at, approval.study, approval.plan_hash, approval.dataset):
        raise unsigned
    return agreed


def _is_said_already(tx: Transaction, earlier: StoredApproval, facts: JsonObject) -> bool:
    try:
        read_terms(tx, earlier)
    except Refusal:
        return False
    return journal.read_entry(tx, earlier.entry or 0).facts == facts


def _write(tx: Transaction, identity: SiteIdentity, event: str, facts: JsonObject, now: datetime) -> StoredApproval:
    """Sign a decision into the site's own log, and make it the one that counts."""
    keeper = Keeper(identity.site, identity.fingerprint, identity.idk)
    head = journal.append(tx, keeper, event, facts, now)
    decision = "approve" if event == journal.APPROVED else "withdraw"
    approval = StoredApproval(facts["study"], facts["plan"], facts["dataset"], decision, timestamp(now), head.number)
    studies.set_approval(tx, approval)
    return approval


def _tell(tx: Transaction, identity: SiteIdentity, approval: StoredApproval, now: datetime) -> None:
    """Sign the decision for the coordinator and queue it; names and limits stay here."""
    body = {
        "v": "SA1",
        "kind": "study",
        "study": approval.study,
        "plan": approval.plan_hash,
        "decision": approval.decision,
    }
    path = f"/v1/studies/{approval.study}/approvals/{identity.site}"
    sign_and_queue(tx, identity, "approval", body, path=path, now=now, study=approval.study)
