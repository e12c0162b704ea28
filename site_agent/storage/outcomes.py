"""The chain of outcomes of a study, and the model versions it led to (PROTOCOLS A7 R5)."""

import json
from dataclasses import dataclass

from shared.canonical import JsonObject
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """An outcome this site has verified."""

    study: str
    index: int
    ctx_hash: str
    kind: str
    round: int
    outcome_hash: str
    model: str
    survivors: tuple[str, ...]


_SELECT = 'SELECT study, "index", ctx_hash, kind, round, outcome_hash, model, survivors FROM outcome '


def read_newest(tx: Transaction, study: str) -> StoredOutcome | None:
    """Return the newest outcome of a study."""
    return _read(tx.row(_SELECT + 'WHERE study = :study ORDER BY "index" DESC LIMIT 1', study=study))


def read_last_sums(tx: Transaction, study: str, but: str) -> list[tuple[int, list[str]]]:
    """Return (round, survivors) of the last update sum that was published and of the last one this site signed."""
    published = tx.row(
        "SELECT round, survivors FROM outcome WHERE study = :study AND kind = 'update' AND ctx_hash <> :but"
        ' ORDER BY "index" DESC LIMIT 1',
        study=study, but=but,
    )  # fmt: skip
    signed = tx.row(
        "SELECT r.round, d.survivors FROM decision d JOIN round r ON r.ctx_hash = d.ctx_hash"
        " WHERE r.study = :study AND r.kind = 'update' AND r.ctx_hash <> :but ORDER BY r.round DESC LIMIT 1",
        study=study, but=but,
    )  # fmt: skip
    return [(row.round, json.loads(row.survivors)) for row in (published, signed) if row is not None]


def read_current_models(tx: Transaction) -> set[str]:
    """Return the newest model version of every study."""
    rows = tx.rows(
        'SELECT model FROM outcome o WHERE "index" = (SELECT MAX("index") FROM outcome p WHERE p.study = o.study)'
    )
    return {row.model for row in rows}


def add_outcome(tx: Transaction, outcome: StoredOutcome, log_index: int) -> None:
    """Add a verified outcome."""
    tx.run(
        'INSERT INTO outcome (study, "index", ctx_hash, kind, round, outcome_hash, model, survivors, log_index) VALUES'
        " (:study, :number, :ctx_hash, :kind, :round, :outcome_hash, :model, :survivors, :log_index)",
        study=outcome.study,
        number=outcome.index,
        ctx_hash=outcome.ctx_hash,
        kind=outcome.kind,
        round=outcome.round,
        outcome_hash=outcome.outcome_hash,
        model=outcome.model,
        survivors=json.dumps(outcome.survivors),
        log_index=log_index,
    )


def add_model_version(tx: Transaction, study: str, model: str, outcome: int, origin: str) -> None:
    """Note that a model version was accepted; a version that comes back keeps its first reason."""
    tx.run(
        "INSERT INTO model_version (study, model, outcome, origin) VALUES (:study, :model, :outcome, :origin)"
        " ON CONFLICT (study, model) DO NOTHING",
        study=study,
        model=model,
        outcome=outcome,
        origin=origin,
    )


def has_model_version(tx: Transaction, study: str, model: str) -> bool:
    """Return whether a model version was accepted in a study."""
    return (
        tx.value("SELECT 1 FROM model_version WHERE study = :study AND model = :model", study=study, model=model)
        is not None
    )


def read_statistics(tx: Transaction, study: str) -> JsonObject | None:
    """Return the federated statistics of a study."""
    found = tx.value("SELECT statistics FROM statistics WHERE study = :study", study=study)
    return None if found is None else dict(json.loads(found))


def set_statistics(tx: Transaction, study: str, statistics: JsonObject, outcome: int) -> None:
    """Store the federated statistics of a study; the newest outcome's count."""
    tx.run(
        "INSERT INTO statistics (study, statistics, outcome) VALUES (:study, :statistics, :outcome)"
        " ON CONFLICT (study) DO UPDATE SET statistics = excluded.statistics, outcome = excluded.outcome",
        study=study,
        statistics=json.dumps(statistics),
        outcome=outcome,
    )


def has_attestation(tx: Transaction, study: str, number: int) -> bool:
    """Return whether this site attested a round's model version."""
    return (
        tx.value('SELECT 1 FROM attestation WHERE study = :study AND "round" = :number', study=study, number=number)
        is not None
    )


def add_attestation(tx: Transaction, study: str, number: int, model: str, seq: int) -> None:
    """Store the one attestation of a (study, round)."""
    tx.add("attestation", study=study, round=number, model=model, seq=seq)


def _read(row: tuple[object, ...] | None) -> StoredOutcome | None:
    if row is None:
        return None
    *values, survivors = row
    return StoredOutcome(*values, survivors=tuple(json.loads(str(survivors))))  # type: ignore[arg-type, misc]
