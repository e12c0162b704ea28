"""Studies that name this site, their plans, and the steward's approvals."""

from dataclasses import dataclass
from typing import Any

from shared.protocol.study import Plan
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study; `plan` is None until its blob was fetched and checked."""

    study: str
    plan_hash: str
    plan: Plan | None
    state: str


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """What the steward decided."""

    study: str
    plan_hash: str
    dataset: str
    decision: str
    decided_at: str
    entry: int | None  # of the site's own log, where the decision stands with its terms, signed

    @property
    def approved(self) -> bool:
        """Return whether it is an approval that still stands."""
        return self.decision == "approve"


def read_study(tx: Transaction, study: str) -> StoredStudy | None:
    """Return one study."""
    return _read(tx.row("SELECT study, plan_hash, plan, state FROM study WHERE study = :study", study=study))


def read_studies(tx: Transaction) -> list[StoredStudy]:
    """Return all studies."""
    rows = tx.rows("SELECT study, plan_hash, plan, state FROM study ORDER BY study")
    return [found for row in rows if (found := _read(row))]


def add_study(tx: Transaction, study: str, plan_hash: str, plan: bytes, state: str) -> None:
    """Add a study with its checked plan."""
    tx.add("study", study=study, plan_hash=plan_hash, plan=plan, state=state)


def set_state(tx: Transaction, study: str, state: str) -> None:
    """Note what the coordinator says about a study."""
    tx.run("UPDATE study SET state = :state WHERE study = :study AND state <> :state", study=study, state=state)


def read_approval(tx: Transaction, study: str) -> StoredApproval | None:
    """Return the steward's decision about a study."""
    row = tx.row(
        "SELECT study, plan_hash, dataset, decision, decided_at, entry FROM study_approval WHERE study = :study",
        study=study,
    )
    return None if row is None else StoredApproval(*row)


def set_approval(tx: Transaction, approval: StoredApproval) -> None:
    """Store the steward's newest decision."""
    tx.run(
        "INSERT INTO study_approval (study, plan_hash, dataset, decision, decided_at, entry)"
        " VALUES (:study, :plan_hash, :dataset, :decision, :decided_at, :entry) ON CONFLICT (study) DO UPDATE SET"
        " plan_hash = excluded.plan_hash, dataset = excluded.dataset, decision = excluded.decision,"
        " decided_at = excluded.decided_at, entry = excluded.entry",
        study=approval.study,
        plan_hash=approval.plan_hash,
        dataset=approval.dataset,
        decision=approval.decision,
        decided_at=approval.decided_at,
        entry=approval.entry,
    )


def _read(row: Any) -> StoredStudy | None:  # noqa: ANN401 (a row of the query above)
    if row is None:
        return None
    study, plan_hash, plan, state = row
    return StoredStudy(study, plan_hash, None if plan is None else Plan.parse(plan), state)
