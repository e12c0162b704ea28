"""R4: shares to secrets, masks off chunk by chunk, the sum into a blob; outside any transaction (PROTOCOLS A7)."""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from coordinator.audit import SYSTEM_ACTOR, AuditLog, Fact
from coordinator.blobs.store import BlobStore
from coordinator.blobs.uploads import Uploads
from coordinator.rounds import close
from coordinator.rounds.machine import next_state
from coordinator.rounds.masked_update import layout_of, split_shares
from coordinator.rounds.seed_commits import read_manifest
from coordinator.rounds.unmask import check_response, open_response
from coordinator.storage import rosters, rounds
from coordinator.storage.database import Transaction
from coordinator.storage.rounds import Round, Upload
from shared.canonical import from_b64u, hash_bytes
from shared.crypto.identity import VerifyKey
from shared.crypto.sealing import KemPrivateKey
from shared.errors import Misuse, MitralError, PeerFault
from shared.protocol.masked_update import Manifest
from shared.protocol.round_context import Context
from shared.protocol.unmask import SealedUnmaskResponse
from shared.secagg.opening import DealerCommitments, Opening, ReleasedShares, open_secrets
from shared.secagg.pair_secrets import blob_commitments
from shared.secagg.roster import site_keys
from shared.secagg.tail import limb_bits
from shared.secagg.unmasking import MaskedSum, unmask


@dataclass(frozen=True, slots=True)
class Collected:
    """Everything the aggregation needs from the database; read in one transaction."""

    round: Round
    uploads: Mapping[str, Upload]
    responses: Mapping[str, bytes]
    keys: Mapping[str, VerifyKey]
    complainants: Mapping[str, set[str]]


@dataclass(frozen=True, slots=True)
class Sum:
    """The published sum: the aggregate's blob and the tail's values."""

    sha256: str
    tail: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no sum: the round is lost."""

    code: str
    reason: str
    kept_out: dict[str, str] = field(default_factory=dict)
    new_bundles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Some secrets still lack shares; responders named here released wrong ones."""

    missing: int
    false_responders: dict[str, set[str]]


def collect(tx: Transaction, round_: Round) -> Collected:
    """Read what the aggregation needs."""
    ctx_hash = round_.ctx_hash or ""
    roster = rosters.read_by_hash(tx, round_.ctx.roster)
    if roster is None:
        raise Misuse("roster_missing", f"the roster of context {ctx_hash} is gone")
    return Collected(
        round=round_,
        uploads=rounds.read_uploads(tx, ctx_hash),
        responses=rounds.read_responses(tx, ctx_hash),
        keys=site_keys(roster.roster),
        complainants=rounds.read_complainants(tx, ctx_hash),
    )


def aggregate(
    collected: Collected, uploads: Uploads, blobs: BlobStore, kem: KemPrivateKey, workers: int
) -> Sum | Failure | Incomplete:
    """Open the secrets and take the masks off; return the sum, or why there is none (yet)."""
    round_ = collected.round
    ctx, survivors = round_.ctx, round_.survivors
    manifests = {site: read_manifest(collected.uploads[site]) for site in survivors}
    opening = _open(collected, manifests, uploads, kem)
    if opening.false_dealers:
        guilty = sorted(opening.false_dealers)
        why = "dealt shares that do not open what it committed to"
        return Failure("dealer_false", f"{', '.join(guilty)} {why}", dict.fromkeys(guilty, why), guilty)
    if not opening.is_complete:
        return Incomplete(len(opening.missing), opening.false_responders)
    job = MaskedSum(
        ctx_hash=ctx.digest,
        layout=layout_of(ctx),
        cohort=ctx.sites,
        survivors=survivors,
        chunk_sha256={site: manifest.vec.chunk_sha256 for site, manifest in manifests.items()},
        self_secrets=opening.self_secrets,
        pair_seeds=opening.pair_seeds,
    )
    return _sum(job, ctx, uploads, blobs, workers)


def accept_sum(tx: Transaction, round_: Round, result: Sum) -> None:
    """Remember the sum; from here on the round can be published from blobs alone."""
    rounds.set_round(
        tx, round_.id, state=next_state(round_.state, "aggregate"), aggregate_sha256=result.sha256,
        tail=json.dumps({name: [str(value) for value in values] for name, values in result.tail.items()}),
    )  # fmt: skip
    tx.touch("operators")


def accept_failure(
    tx: Transaction, log: AuditLog, uploads: Uploads, round_: Round, failure: Failure, now: datetime
) -> None:
    """End the round as lost."""
    close.lose(
        tx, log, round_, failure.code, failure.reason, uploads.wipe, now, kept_out=failure.kept_out,
        new_bundles=failure.new_bundles,
    )  # fmt: skip


def note_false_responders(
    tx: Transaction, log: AuditLog, round_: Round, false_responders: dict[str, set[str]], now: datetime
) -> None:
    """Write down who released shares that do not fit; their entries were left out, the round goes on."""
    for site, dealers in sorted(false_responders.items()):
        data = {"detail": "a site released wrong shares", "ctx_hash": round_.ctx_hash, "dealers": sorted(dealers)}
        fact = Fact("alert.share_false", SYSTEM_ACTOR, data, round_.study, ("site", site), outcome="serious")
        log.append(tx, fact, now)


def complained_about(collected: Collected) -> dict[str, str]:
    """Return the dealers about whose blobs at least min(c+1, |U|-1) sites complain (PROTOCOLS R4)."""
    ctx, survivors = collected.round.ctx, collected.round.survivors
    bound = min(ctx.c + 1, len(survivors) - 1)
    return {
        about: f"{len(sites)} sites could not read its share blobs"
        for about, sites in collected.complainants.items()
        if about in survivors and len(sites & set(ctx.sites)) >= bound
    }


def _open(collected: Collected, manifests: Mapping[str, Manifest], uploads: Uploads, kem: KemPrivateKey) -> Opening:
    ctx = collected.round.ctx
    responses = {}
    for site, sealed in collected.responses.items():
        try:
            message = open_response(kem, SealedUnmaskResponse.parse(sealed), ctx.ctx_hash, site, collected.keys)
            response = check_response(message, collected.round)
        except MitralError:
            continue  # it fits neither the roster nor the statement; one bad answer must not hold up the others
        responses[site] = ReleasedShares(
            b={dealer: from_b64u(share) for dealer, share in response.b.items()},
            s={
                dealer: {peer: from_b64u(share) for peer, share in seeds.items()}
                for dealer, seeds in response.s.items()
            },
        )
    dealers = {
        site: _commitments(ctx, manifest, uploads.shares(ctx.ctx_hash, site) or b"", list(responses))
        for site, manifest in manifests.items()
    }
    return open_secrets(
        ctx.digest, ctx.sites, collected.round.survivors, ctx.t, responses=responses, dealers=dealers
    )  # fmt: skip


def _commitments(ctx: Context, manifest: Manifest, shares: bytes, recipients: list[str]) -> DealerCommitments:
    blobs = split_shares(ctx, manifest.site, shares)
    n = len(ctx.P)
    return DealerCommitments(
        b_commit=hash_bytes(manifest.b_commit),
        seed_commit={site: hash_bytes(value) for site, value in manifest.seed_commit.items()},
        shares={site: blob_commitments(blobs[site], n, own=site == manifest.site) for site in recipients},
    )


def _sum(job: MaskedSum, ctx: Context, uploads: Uploads, blobs: BlobStore, workers: int) -> Sum | Failure:
    draft = blobs.draft()

    def source(site: str, index: int) -> memoryview:
        chunk = uploads.chunk(ctx.ctx_hash, site, index)
        if chunk is None:
            raise PeerFault("chunk_size", f"chunk {index} of {site} is not on disk any more")
        return chunk

    def sink(_index: int, words: NDArray[np.int32]) -> None:
        draft.write(np.ascontiguousarray(words, dtype="<i4").data)

    try:
        tail = unmask(job, source, sink, workers=workers or os.cpu_count() or 1)
    except PeerFault as error:
        draft.discard()
        return Failure(error.code, error.detail, new_bundles=list(job.cohort))
    except BaseException:
        draft.discard()
        raise
    draft.write(tail_bytes(ctx, tail))
    return Sum(blobs.keep(draft), tail)


def tail_bytes(ctx: Context, tail: Mapping[str, list[int]]) -> bytes:
    """Return the tail of an aggregate as uint32 words: what it decodes to is what counts, low limb first.

    The checksum words are zero: they were checked against the masked words and mean nothing without them.
    """
    bits = limb_bits(ctx.b, len(ctx.P))
    words: list[int] = []
    for entry in ctx.tail:
        values = tail.get(entry.name, [0] * entry.length)
        for value in values:
            words += [value >> bits * limb & (1 << bits) - 1 for limb in range(entry.limbs - 1)]
            words.append(value >> bits * (entry.limbs - 1))
    return struct.pack(f"<{len(words)}I", *words)


def read_aggregate(ctx: Context, raw: bytes) -> NDArray[np.int32]:
    """Return the main words of an aggregate."""
    return np.frombuffer(raw, dtype="<i4", count=ctx.d).astype(np.int32)
