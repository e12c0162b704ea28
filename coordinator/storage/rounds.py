"""Rounds (contexts) and what belongs to one: uploads, refusals, decisions, responses, attestations, complaints."""

import functools
import json
from dataclasses import dataclass

from coordinator.storage.database import Transaction, Value
from shared.canonical import JsonObject
from shared.protocol.confirm_survivors import Statement
from shared.protocol.outcome import Outcome
from shared.protocol.round_context import Context


@dataclass(frozen=True, slots=True)
class Round:
    """One context from PLANNED to its end."""

    id: int
    study: str
    kind: str
    purpose: str
    number: int
    position: int | None
    state: str
    reason: str | None
    model: str
    planned_at: str
    ctx_hash: str | None
    ctx_json: str | None
    opened_at: str | None
    upload_until: str | None
    extended: bool
    grace_until: str | None
    expires_at: str | None
    closed_at: str | None
    stmt_json: str | None
    stmt_hash: str | None
    aggregate_sha256: str | None
    tail_json: str | None
    result_model: str | None
    metrics_json: str | None
    outcome_json: str | None
    outcome_index: int | None
    log_index: int | None
    ended_at: str | None

    @property
    def ctx(self) -> Context:
        """Return the frozen context; there is none while PLANNED."""
        return _context(self.ctx_json or "")

    @property
    def stmt(self) -> Statement | None:
        """Return the proposed statement about the survivors."""
        return None if self.stmt_json is None else _statement(self.stmt_json)

    @property
    def survivors(self) -> list[str]:
        """Return U, empty before CLOSING."""
        return [] if self.stmt is None else self.stmt.U

    @property
    def outcome(self) -> Outcome | None:
        """Return what was published."""
        return None if self.outcome_json is None else Outcome.parse(self.outcome_json.encode())

    @property
    def metrics(self) -> JsonObject | None:
        """Return the metrics of the received model version."""
        return None if self.metrics_json is None else json.loads(self.metrics_json)


@dataclass(frozen=True, slots=True)
class Upload:
    """An accepted manifest."""

    site: str
    manifest_hash: str
    envelope: bytes
    byte_count: int
    received_at: str


@functools.lru_cache(maxsize=64)
def _context(text: str) -> Context:
    return Context.parse(text.encode())


@functools.lru_cache(maxsize=64)
def _statement(text: str) -> Statement:
    return Statement.parse(text.encode())


LIVE = "('PLANNED', 'OPEN', 'CLOSING', 'CERTIFIED', 'UNMASKING', 'AGGREGATED')"


def read_round(tx: Transaction, ctx_hash: str) -> Round | None:
    """Return the round of a context."""
    row = tx.row("SELECT * FROM round WHERE ctx_hash = :ctx_hash", ctx_hash=ctx_hash)
    return None if row is None else Round(*row)


def read_live(tx: Transaction, study: str) -> Round | None:
    """Return the study's unfinished round; there is at most one."""
    row = tx.row(f"SELECT * FROM round WHERE study = :study AND state IN {LIVE} ORDER BY id", study=study)  # noqa: S608
    return None if row is None else Round(*row)


def read_all_live(tx: Transaction) -> list[Round]:
    """Return every unfinished round."""
    return [Round(*row) for row in tx.rows(f"SELECT * FROM round WHERE state IN {LIVE} ORDER BY id")]  # noqa: S608


def read_rounds(tx: Transaction, study: str) -> list[Round]:
    """Return the study's rounds that were opened, in order of opening."""
    query = "SELECT * FROM round WHERE study = :study AND position IS NOT NULL ORDER BY position"
    return [Round(*row) for row in tx.rows(query, study=study)]


def read_newest_ended(tx: Transaction, study: str, limit: int) -> list[Round]:
    """Return the ended rounds among those of the study that were opened last, newest first."""
    query = "SELECT * FROM round WHERE study = :study AND position IS NOT NULL ORDER BY position DESC LIMIT :limit"
    return [Round(*row) for row in tx.rows(query, study=study, limit=limit) if row.ended_at is not None]


def read_outcomes(tx: Transaction, study: str, after: int, limit: int) -> list[Round]:
    """Return published rounds by outcome index."""
    query = "SELECT * FROM round WHERE study = :study AND outcome_index > :after ORDER BY outcome_index LIMIT :limit"
    return [Round(*row) for row in tx.rows(query, study=study, after=after, limit=limit)]


def add_planned(tx: Transaction, study: str, kind: str, purpose: str, number: int, model: str, at: str) -> None:
    """Add a round that waits for its cohort."""
    tx.add(
        "round", study=study, kind=kind, purpose=purpose, number=number, state="PLANNED", model=model, planned_at=at,
        extended=False,
    )  # fmt: skip


def read_last_number(tx: Transaction, study: str, kind: str) -> int:
    """Return the highest round number used for a kind of context."""
    found = tx.value("SELECT MAX(number) FROM round WHERE study = :study AND kind = :kind", study=study, kind=kind)
    return int(found or 0)


def read_last_position(tx: Transaction, study: str) -> int:
    """Return how many rounds of the study were opened."""
    return int(tx.value("SELECT MAX(position) FROM round WHERE study = :study", study=study) or 0)


def set_round(tx: Transaction, round_id: int, **values: Value) -> None:
    """Change columns of a round; the names are constants of the caller."""
    tx.change("round", "id", round_id, **values)


def read_uploads(tx: Transaction, ctx_hash: str) -> dict[str, Upload]:
    """Return the accepted uploads of a context by site."""
    query = (
        "SELECT site, manifest_hash, envelope, byte_count, received_at FROM upload WHERE ctx_hash = :c ORDER BY site"
    )
    return {row.site: Upload(*row) for row in tx.rows(query, c=ctx_hash)}


def read_uploaders(tx: Transaction, ctx_hash: str) -> dict[str, int]:
    """Return how many masked bytes each uploader sent."""
    query = "SELECT site, byte_count FROM upload WHERE ctx_hash = :c ORDER BY site"
    return {row.site: row.byte_count for row in tx.rows(query, c=ctx_hash)}


def add_upload(tx: Transaction, ctx_hash: str, upload: Upload) -> None:
    """Keep an accepted manifest."""
    tx.add(
        "upload", ctx_hash=ctx_hash, site=upload.site, manifest_hash=upload.manifest_hash, envelope=upload.envelope,
        byte_count=upload.byte_count, received_at=upload.received_at,
    )  # fmt: skip


def read_refusals(tx: Transaction, ctx_hash: str) -> dict[str, str]:
    """Return the refusal codes of a context by site."""
    return {row.site: row.code for row in tx.rows("SELECT site, code FROM refusal WHERE ctx_hash = :c", c=ctx_hash)}


def add_refusal(tx: Transaction, ctx_hash: str, site: str, code: str, detail: str) -> None:
    """Keep a hospital's no."""
    tx.add("refusal", ctx_hash=ctx_hash, site=site, code=code, detail=detail)


def read_decisions(tx: Transaction, ctx_hash: str) -> dict[str, bytes]:
    """Return the decision envelopes of a context by site."""
    query = "SELECT site, envelope FROM decision WHERE ctx_hash = :c ORDER BY site"
    return {row.site: row.envelope for row in tx.rows(query, c=ctx_hash)}


def add_decision(tx: Transaction, ctx_hash: str, site: str, envelope: bytes) -> None:
    """Keep a decision."""
    tx.add("decision", ctx_hash=ctx_hash, site=site, envelope=envelope)


def read_responders(tx: Transaction, ctx_hash: str) -> dict[str, str]:
    """Return the payload hashes of the unmask responses by site."""
    query = "SELECT site, payload_hash FROM response WHERE ctx_hash = :c ORDER BY site"
    return {row.site: row.payload_hash for row in tx.rows(query, c=ctx_hash)}


def add_response(tx: Transaction, ctx_hash: str, site: str, payload_hash: str, sealed: bytes | None) -> None:
    """Record that a site released its shares, and keep them sealed if they are still needed."""
    tx.add("response", ctx_hash=ctx_hash, site=site, payload_hash=payload_hash, sealed=sealed)


def read_responses(tx: Transaction, ctx_hash: str) -> dict[str, bytes]:
    """Return the sealed responses of a context by site."""
    query = "SELECT site, sealed FROM response WHERE ctx_hash = :c AND sealed IS NOT NULL ORDER BY site"
    return {row.site: row.sealed for row in tx.rows(query, c=ctx_hash)}


def wipe_responses(tx: Transaction, ctx_hash: str) -> None:
    """Forget the sealed responses of a context; that they were there stays known."""
    tx.run("UPDATE response SET sealed = NULL WHERE ctx_hash = :c", c=ctx_hash)


def read_attestations(tx: Transaction, ctx_hash: str) -> dict[str, bytes]:
    """Return the attestation envelopes of a context by site."""
    query = "SELECT site, envelope FROM attestation WHERE ctx_hash = :c ORDER BY site"
    return {row.site: row.envelope for row in tx.rows(query, c=ctx_hash)}


def add_attestation(tx: Transaction, study: str, ctx_hash: str, site: str, model: str, envelope: bytes) -> None:
    """Keep an attestation."""
    tx.add("attestation", study=study, ctx_hash=ctx_hash, site=site, model=model, envelope=envelope)


def add_complaint(
    tx: Transaction, digest: str, site: str, about: str, ctx_hash: str | None, pairing_hash: str | None, code: str
) -> None:
    """Keep a complaint."""
    tx.add(
        "complaint", digest=digest, site=site, about=about, ctx_hash=ctx_hash, pairing_hash=pairing_hash, code=code
    )  # fmt: skip


def has_complained(tx: Transaction, site: str, about: str) -> bool:
    """Return whether a site has complained about a bundle of another one before."""
    query = "SELECT 1 FROM complaint WHERE site = :site AND about = :about AND pairing_hash IS NOT NULL"
    return tx.row(query, site=site, about=about) is not None


def read_complainants(tx: Transaction, ctx_hash: str) -> dict[str, set[str]]:
    """Return who complained about whom in a context."""
    found: dict[str, set[str]] = {}
    for row in tx.rows("SELECT about, site FROM complaint WHERE ctx_hash = :c", c=ctx_hash):
        found.setdefault(row.about, set()).add(row.site)
    return found


def read_log_size(tx: Transaction) -> int:
    """Return the index the next log entry of this transaction will get."""
    return int(tx.value("SELECT size FROM log_head WHERE id = 1"))
