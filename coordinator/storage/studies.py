"""Studies, the stewards' approvals, and which blobs belong to which study."""

import functools
import json
from dataclasses import dataclass

from coordinator.storage.database import Transaction, Value
from shared.canonical import JsonObject
from shared.protocol.study import Plan


@dataclass(frozen=True, slots=True)
class Study:
    """A study and where it stands."""

    study: str
    plan_hash: str
    plan_json: str
    owner: str
    state: str
    reason: str | None
    submitted_at: str
    started_at: str | None
    model: str
    model_round: int
    failed_on_model: int
    best_model: str | None
    best_round: int | None
    best_metrics_json: str | None
    test_metrics_json: str | None
    statistics_json: str | None
    prev: str | None
    outcome_count: int

    @property
    def plan(self) -> Plan:
        """Return the study protocol."""
        return _plan(self.plan_json)

    @property
    def best_metrics(self) -> JsonObject | None:
        """Return the best version's metrics on validation data."""
        return None if self.best_metrics_json is None else json.loads(self.best_metrics_json)

    @property
    def test_metrics(self) -> JsonObject | None:
        """Return the best version's metrics on test data."""
        return None if self.test_metrics_json is None else json.loads(self.test_metrics_json)


@functools.lru_cache(maxsize=64)
def _plan(text: str) -> Plan:
    return Plan.parse(text.encode())


def read_study(tx: Transaction, study: str) -> Study | None:
    """Return one study."""
    row = tx.row("SELECT * FROM study WHERE study = :study", study=study)
    return None if row is None else Study(*row)


def read_studies(tx: Transaction) -> list[Study]:
    """Return all studies in the order of their submission."""
    return [Study(*row) for row in tx.rows("SELECT * FROM study ORDER BY submitted_at, study")]


def read_studies_in(tx: Transaction, state: str) -> list[Study]:
    """Return the studies in a state."""
    return [
        Study(*row) for row in tx.rows("SELECT * FROM study WHERE state = :state ORDER BY submitted_at", state=state)
    ]


def add_study(tx: Transaction, plan: Plan, owner: str, at: str) -> None:
    """Add a submitted study."""
    tx.add(
        "study", study=plan.study, plan_hash=plan.plan_hash, plan=plan.canonical().decode(), owner=owner,
        state="submitted", submitted_at=at, model=plan.initial_model, model_round=0, failed_on_model=0, outcome_count=0,
    )  # fmt: skip


def set_study(tx: Transaction, study: str, **values: Value) -> None:
    """Change columns of a study; the names are constants of the caller."""
    tx.change("study", "study", study, **values)


def read_approvals(tx: Transaction, study: str) -> dict[str, tuple[str, str]]:
    """Return (plan hash, decision) by site: each steward's newest word."""
    found = tx.rows(
        "SELECT site, plan_hash, decision FROM study_approval WHERE study = :study ORDER BY site", study=study
    )
    return {row.site: (row.plan_hash, row.decision) for row in found}


def set_approval(tx: Transaction, study: str, site: str, plan_hash: str, decision: str, seq: int, at: str) -> bool:
    """Keep a steward's decision unless a later one (by seq) is known; returns whether it was kept."""
    row = tx.row("SELECT seq FROM study_approval WHERE study = :study AND site = :site", study=study, site=site)
    if row is not None and row.seq >= seq:
        return False
    tx.run("DELETE FROM study_approval WHERE study = :study AND site = :site", study=study, site=site)
    tx.add("study_approval", study=study, site=site, plan_hash=plan_hash, decision=decision, seq=seq, decided_at=at)
    return True


def add_blob(tx: Transaction, study: str, sha256: str, kind: str) -> None:
    """Say that a blob belongs to a study."""
    tx.run(
        "INSERT INTO study_blob (study, sha256, kind) VALUES (:study, :sha256, :kind) ON CONFLICT DO NOTHING",
        study=study, sha256=sha256, kind=kind,
    )  # fmt: skip


def read_blob_studies(tx: Transaction, sha256: str) -> list[Study]:
    """Return the studies a blob belongs to."""
    found = tx.rows(
        "SELECT s.* FROM study s JOIN study_blob b ON b.study = s.study WHERE b.sha256 = :sha256", sha256=sha256
    )
    return [Study(*row) for row in found]
