"""Both ends of a pair publish the same commitment to its seed; who is left out when two do not (PROTOCOLS A7 R1, A11).

One of two contradicting sites is corrupt, and nobody can tell which. Leaving out the one with the most contradictions
keeps a site that contradicts everybody from pushing the honest ones out, however early it uploads.
"""

import base64
import functools
import json
from collections.abc import Mapping
from datetime import datetime

from coordinator.audit import SYSTEM_ACTOR, AuditLog, Fact
from coordinator.storage import pairings, rounds
from coordinator.storage.database import Transaction
from coordinator.storage.rounds import Round, Upload
from shared.canonical import sha256_hex
from shared.protocol.masked_update import Manifest


def consistent(ctx_hash: str, uploads: Mapping[str, Upload]) -> dict[str, Upload]:
    """Return the uploads of which no two contradict each other: until then, the most contradicted one is left out.

    Between equals the context's hash decides, anew in every round: to come first or to have a good name does not help.
    """
    kept = dict(uploads)
    against = {site: set(contradicting(kept, read_manifest(upload))) for site, upload in uploads.items()}
    while any(against.values()):
        out = max(kept, key=lambda site: (len(against[site]), sha256_hex(f"{ctx_hash} {site}".encode())))
        del kept[out]
        for sites in against.values():
            sites.discard(out)
        against[out] = set()
    return kept


def contradicting(uploads: Mapping[str, Upload], manifest: Manifest) -> list[str]:
    """Return the sites that commit to another seed for their pair with the manifest's site."""
    theirs = {site: read_manifest(upload) for site, upload in uploads.items() if site != manifest.site}
    return [
        site for site, other in theirs.items()
        if other.seed_commit.get(manifest.site) != manifest.seed_commit.get(site)
    ]  # fmt: skip


def note(tx: Transaction, log: AuditLog, round_: Round, site: str, now: datetime) -> None:
    """Log what contradicts the newest upload, with both manifests as evidence, and ask both ends for new bundles."""
    uploads = rounds.read_uploads(tx, round_.ctx_hash or "")
    newest = uploads[site]
    for other in contradicting(uploads, read_manifest(newest)):
        pairings.set_renew(tx, round_.study, [site, other])
        data = {
            "detail": "two sites commit to different seeds",
            "ctx_hash": round_.ctx_hash,
            "pair": sorted([site, other]),
        }
        evidence = (sha256_hex(newest.envelope), sha256_hex(uploads[other].envelope))
        subject = ("round", round_.ctx_hash or "")
        fact = Fact("alert.seed_commit", SYSTEM_ACTOR, data, round_.study, subject, "serious", evidence=evidence)
        log.append(tx, fact, now)


def read_manifest(upload: Upload) -> Manifest:
    """Return the manifest of an upload whose envelope was verified when it was accepted."""
    return _manifest(upload.envelope)


@functools.lru_cache(maxsize=256)  # the cohort of a round, at most 200 sites
def _manifest(envelope: bytes) -> Manifest:
    return Manifest.parse(base64.b64decode(json.loads(envelope)["payload"]))
