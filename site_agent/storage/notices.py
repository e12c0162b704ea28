"""What a person should see at `mitral-site status`, this site's own figures, and single facts."""

import json
from dataclasses import dataclass

from shared.canonical import JsonObject
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning or alert, counted."""

    code: str
    subject: str
    detail: str
    last_at: str
    count: int


@dataclass(frozen=True, slots=True)
class OwnMetric:
    """This site's own figures of one context; they never leave."""

    study: str
    kind: str
    round: int
    metrics: JsonObject


def add_notice(tx: Transaction, code: str, subject: str, detail: str, at: str) -> None:
    """Add a notice, or count it once more."""
    tx.run(
        "INSERT INTO notice (code, subject, detail, first_at, last_at, count)"
        " VALUES (:code, :subject, :detail, :at, :at, 1) ON CONFLICT (code, subject) DO UPDATE"
        " SET detail = excluded.detail, last_at = excluded.last_at, count = count + 1",
        code=code,
        subject=subject,
        detail=detail[:2000],
        at=at,
    )


def remove_subject(tx: Transaction, subject: str) -> None:
    """Take the notices about something back whose reasons have gone."""
    tx.run("DELETE FROM notice WHERE subject = :subject", subject=subject)


def read_notices(tx: Transaction) -> list[Notice]:
    """Return all notices, newest first."""
    rows = tx.rows("SELECT code, subject, detail, last_at, count FROM notice ORDER BY last_at DESC")
    return [Notice(*row) for row in rows]


def set_fact(tx: Transaction, name: str, value: str) -> None:
    """Store a single fact about the agent."""
    tx.run(
        "INSERT INTO fact (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        name=name,
        value=value,
    )


def add_to_count(tx: Transaction, name: str, more: int) -> None:
    """Add to a fact that counts."""
    set_fact(tx, name, str(int(read_facts(tx).get(name, "0")) + more))


def read_facts(tx: Transaction) -> dict[str, str]:
    """Return all facts."""
    return {row.name: row.value for row in tx.rows("SELECT name, value FROM fact")}


def add_own_metric(tx: Transaction, ctx_hash: str, metric: OwnMetric, model: str, at: str) -> None:
    """Store this site's figures of a context."""
    tx.run(
        "INSERT INTO own_metric (ctx_hash, study, round, kind, model, metrics, computed_at) VALUES"
        " (:ctx_hash, :study, :round, :kind, :model, :metrics, :at) ON CONFLICT (ctx_hash) DO NOTHING",
        ctx_hash=ctx_hash,
        study=metric.study,
        round=metric.round,
        kind=metric.kind,
        model=model,
        metrics=json.dumps(metric.metrics),
        at=at,
    )


def read_own_metrics(tx: Transaction, study: str) -> list[OwnMetric]:
    """Return this site's figures of a study, in order."""
    rows = tx.rows(
        'SELECT study, kind, "round", metrics FROM own_metric WHERE study = :study ORDER BY computed_at, "round"',
        study=study,
    )
    return [OwnMetric(row.study, row.kind, row.round, json.loads(row.metrics)) for row in rows]
