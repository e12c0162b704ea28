"""Bound contexts and what was sealed, decided and released for them; the constraints are W1 to W5 (PROTOCOLS A10)."""

import json
from dataclasses import dataclass, field

from shared.canonical import parse_strict
from shared.protocol.round_context import Context
from site_agent.storage.database import Transaction


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A bound context."""

    ctx_hash: str
    study: str
    round: int
    kind: str
    ctx: Context
    state: str
    expires: str
    upload_until: str | None


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """What was sealed; `own_shares` in index order, empty once released or wiped."""

    manifest_hash: str
    own_shares: list[bytes] = field(repr=False)
    chunk_sha256: list[str]
    upload_bytes: int


_SELECT = "SELECT ctx_hash, study, round, kind, ctx, state, expires, upload_until FROM round "


def read_round(tx: Transaction, ctx_hash: str) -> StoredRound | None:
    """Return a bound context."""
    row = tx.row(_SELECT + "WHERE ctx_hash = :ctx_hash", ctx_hash=ctx_hash)
    return None if row is None else _read(tuple(row))


def is_bound(tx: Transaction, study: str, number: int, kind: str) -> bool:
    """Return whether a context of this study, round and kind was ever bound."""
    found = tx.value(
        'SELECT 1 FROM round WHERE study = :study AND "round" = :number AND kind = :kind',
        study=study,
        number=number,
        kind=kind,
    )
    return found is not None


def read_open_rounds(tx: Transaction) -> list[StoredRound]:
    """Return the contexts that are not wiped."""
    return [_read(tuple(row)) for row in tx.rows(_SELECT + "WHERE state <> 'WIPED' ORDER BY bound_at")]


def read_last_round(tx: Transaction, study: str, kind: str) -> int:
    """Return the highest round number bound for a study and kind, 0 for none."""
    found = tx.value('SELECT MAX("round") FROM round WHERE study = :study AND kind = :kind', study=study, kind=kind)
    return int(found or 0)


def count_bound_since(tx: Transaction, study: str, moment: str) -> int:
    """Return how many contexts of a study were bound at or after a moment."""
    query = "SELECT COUNT(*) FROM round WHERE study = :study AND bound_at >= :moment"
    return int(tx.value(query, study=study, moment=moment))


def count_sealed(tx: Transaction, study: str, model: str) -> int:
    """Return how many updates this site has sealed from a model version."""
    return int(
        tx.value(
            "SELECT COUNT(*) FROM round r JOIN upload u ON u.ctx_hash = r.ctx_hash"
            " WHERE r.study = :study AND r.model = :model AND r.kind = 'update'",
            study=study,
            model=model,
        )
    )


def count_sealed_since(tx: Transaction, study: str, moment: str) -> int:
    """Return to how many training rounds of a study, bound at or after a moment, this site has contributed."""
    return int(
        tx.value(
            "SELECT COUNT(*) FROM round r JOIN upload u ON u.ctx_hash = r.ctx_hash"
            " WHERE r.study = :study AND r.kind = 'update' AND r.bound_at >= :moment",
            study=study,
            moment=moment,
        )
    )


def add_round(tx: Transaction, ctx: Context, *, upload_until: str | None, bound_at: str) -> None:
    """Bind a context (W1): one per (study, round, kind), for ever."""
    tx.add(
        "round", ctx_hash=ctx.ctx_hash, study=ctx.study, round=ctx.round, kind=ctx.kind, model=ctx.model,
        ctx=ctx.canonical().decode(), state="BOUND", expires=ctx.expires, upload_until=upload_until, bound_at=bound_at,
    )  # fmt: skip


def set_state(tx: Transaction, ctx_hash: str, state: str) -> None:
    """Store a state that `site_agent.rounds.machine` allowed."""
    tx.run("UPDATE round SET state = :state WHERE ctx_hash = :ctx_hash", ctx_hash=ctx_hash, state=state)


def set_wiped(tx: Transaction, ctx_hash: str, because: str) -> None:
    """Leave a tombstone: no secrets, no values, no shares."""
    tx.run(
        "UPDATE round SET state = 'WIPED', wiped_because = :because WHERE ctx_hash = :ctx_hash",
        ctx_hash=ctx_hash,
        because=because,
    )
    erase_own_shares(tx, ctx_hash)


def add_upload(
    tx: Transaction, ctx_hash: str, *, manifest_hash: str, own_shares: list[bytes], chunk_sha256: list[str], size: int
) -> None:
    """Store what was sealed (W2)."""
    tx.add(
        "upload", ctx_hash=ctx_hash, manifest_hash=manifest_hash, chunk_sha256=json.dumps(chunk_sha256),
        own_shares=tx.seal(b"".join(own_shares), f"upload/{ctx_hash}"), upload_bytes=size,
    )  # fmt: skip


def read_upload(tx: Transaction, ctx_hash: str) -> StoredUpload | None:
    """Return what was sealed for a context."""
    row = tx.row(
        "SELECT manifest_hash, own_shares, chunk_sha256, upload_bytes FROM upload WHERE ctx_hash = :ctx_hash",
        ctx_hash=ctx_hash,
    )
    if row is None:
        return None
    plain = b"" if row.own_shares is None else tx.open(row.own_shares, f"upload/{ctx_hash}")
    shares = [plain[start : start + 32] for start in range(0, len(plain), 32)]
    return StoredUpload(row.manifest_hash, shares, json.loads(row.chunk_sha256), row.upload_bytes)


def erase_own_shares(tx: Transaction, ctx_hash: str) -> None:
    """Erase the site's shares of its own secrets."""
    tx.run("UPDATE upload SET own_shares = NULL WHERE ctx_hash = :ctx_hash", ctx_hash=ctx_hash)


def read_released_item(tx: Transaction, study: str, model: str, item: str) -> str | None:
    """Return the context in which a deterministic item was sealed, if it was."""
    found = tx.value(
        "SELECT ctx_hash FROM released_item WHERE study = :study AND model = :model AND item = :item",
        study=study,
        model=model,
        item=item,
    )
    return None if found is None else str(found)


def add_released_item(tx: Transaction, study: str, model: str, item: str, ctx_hash: str) -> None:
    """Note that a deterministic item is sealed now (W5)."""
    tx.add("released_item", study=study, model=model, item=item, ctx_hash=ctx_hash)


def read_decision(tx: Transaction, ctx_hash: str) -> str | None:
    """Return the hash of the statement this site signed for a context."""
    found = tx.value("SELECT statement_hash FROM decision WHERE ctx_hash = :ctx_hash", ctx_hash=ctx_hash)
    return None if found is None else str(found)


def add_decision(tx: Transaction, ctx_hash: str, statement_hash: str, survivors: list[str], seq: int) -> None:
    """Store the one decision of a context (W3)."""
    tx.add(
        "decision", ctx_hash=ctx_hash, statement_hash=statement_hash, survivors=json.dumps(survivors), seq=seq
    )  # fmt: skip


def read_release(tx: Transaction, ctx_hash: str) -> str | None:
    """Return the hash of the statement shares were released for."""
    found = tx.value("SELECT statement_hash FROM release WHERE ctx_hash = :ctx_hash", ctx_hash=ctx_hash)
    return None if found is None else str(found)


def add_release(tx: Transaction, ctx_hash: str, statement_hash: str, seq: int) -> None:
    """Store the one unmask response of a context (W4)."""
    tx.add("release", ctx_hash=ctx_hash, statement_hash=statement_hash, seq=seq)


def read_refusal(tx: Transaction, ctx_hash: str) -> str | None:
    """Return the code with which a context was refused."""
    found = tx.value("SELECT code FROM refusal WHERE ctx_hash = :ctx_hash", ctx_hash=ctx_hash)
    return None if found is None else str(found)


def add_refusal(tx: Transaction, ctx: Context, code: str, detail: str, at: str) -> None:
    """Store a refusal, once per context."""
    tx.add(
        "refusal", ctx_hash=ctx.ctx_hash, study=ctx.study, round=ctx.round, kind=ctx.kind, code=code, detail=detail,
        refused_at=at,
    )  # fmt: skip


def _read(row: tuple[object, ...]) -> StoredRound:
    ctx_hash, study, number, kind, ctx, state, expires, upload_until = row
    return StoredRound(
        str(ctx_hash), str(study), int(str(number)), str(kind), Context.check(parse_strict(str(ctx).encode())),
        str(state), str(expires), None if upload_until is None else str(upload_until),
    )  # fmt: skip
