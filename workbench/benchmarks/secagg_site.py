"""The site's part of the secure-aggregation benchmark: a made-up federation and one site's work of a round in it."""

import os
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.canonical import JsonObject
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import sign_envelope
from shared.errors import InputError
from shared.secagg import pair_secrets
from shared.secagg.layout import VectorLayout
from shared.secagg.masking import MaskedVector, MaskingContext, mask_update
from shared.secagg.parameters import check_overflow, corrupt_bound, least_survivors, threshold
from shared.secagg.quantization import Quantizer, RandomBits
from shared.secagg.tail import CHECKSUM_ITEM, SITE_COUNT, TailItem, limbs_for

WEIGHT_CAP = 20_000
CLIP = 3.0
MOST_DISTINCT_BYTES = 2**31  # of vectors in memory; beyond that they repeat, and together still exceed any cache


@dataclass(frozen=True)
class MadeUpFederation:
    """Sites with pair secrets, a context and updates; made up, but of the real sizes."""

    cohort: list[str]
    survivors: list[str]
    layout: VectorLayout
    t: int
    q: int
    ctx_hash: bytes = field(default_factory=lambda: os.urandom(32))
    pairing_key: bytes = field(default_factory=lambda: os.urandom(32))

    @classmethod
    def of(cls, sites: int, dimension: int, dropouts: int, bits: int, q: int | None) -> "MadeUpFederation":
        """Return a federation of these sizes; `q` None is the most bits that cannot overflow, at most 16.

        Raises:
            InputError: ``bench_arguments``.
            Refusal: ``sa_overflow``.
        """
        if not 3 <= sites <= 256 or dimension < 1 or not 8 <= bits <= 32:
            raise InputError("bench_arguments", "3 to 256 sites, at least one element and 8 to 32 bits are needed")
        t = threshold(sites, corrupt_bound(sites))
        if not 0 <= dropouts <= sites - least_survivors(sites, t):
            raise InputError(
                "bench_arguments", f"of {sites} sites at most {sites - least_survivors(sites, t)} may drop"
            )
        quantization = min(16, bits - (sites - 1).bit_length()) if q is None else q
        check_overflow(sites, quantization, bits)
        cohort = [f"site-{number:03d}" for number in range(sites)]
        weight = TailItem("weight", limbs_for(WEIGHT_CAP, bits, sites), 1)
        layout = VectorLayout(dimension, (weight, TailItem(SITE_COUNT, 1, 1), CHECKSUM_ITEM), bits, sites)
        return cls(cohort, cohort[: sites - dropouts], layout, t, quantization)

    def pairs(self, site: str) -> dict[str, bytes]:
        """Return PS with every other site."""
        return {
            peer: sha256(self.pairing_key + "".join(pair_secrets.in_order(site, peer)).encode()).digest()
            for peer in self.cohort
            if peer != site
        }

    @property
    def distinct(self) -> int:
        """Return how many different vectors there are: one per site as long as they fit the memory."""
        return max(2, min(len(self.cohort), MOST_DISTINCT_BYTES // (4 * self.layout.d)))

    def update(self, number: int) -> NDArray[np.float32]:
        """Return a site's update, standard normal."""
        return np.random.default_rng(number % self.distinct).standard_normal(self.layout.d, np.float32)

    def weight(self, number: int) -> int:
        """Return a site's sample count."""
        return WEIGHT_CAP - 7 * number


@dataclass(frozen=True)
class SiteUpload:
    """What one site made, and the CPU it took."""

    cpu_seconds: float
    vector: MaskedVector
    manifest: JsonObject
    envelope: bytes
    shares: pair_secrets.ShareBlobs


def do_site_work(
    federation: MadeUpFederation,
    number: int,
    update: NDArray[np.float32],
    folder: Path | None,
    key: bytes | None = None,
) -> SiteUpload:
    """Do one site's work of a round; chunks and blobs go to `folder` if one is given, which is not counted."""
    site, cohort, ctx_hash = federation.cohort[number], federation.cohort, federation.ctx_hash
    pairs, signing_key = federation.pairs(site), SigningKey.generate()
    writing = 0.0

    def sink(index: int, chunk: memoryview) -> None:
        nonlocal writing
        if folder is not None:
            began = time.process_time()
            (folder / f"{site}.{index}").write_bytes(chunk)
            writing += time.process_time() - began

    began = time.process_time()
    self_secret = pair_secrets.new_self_secret(os.urandom)
    seeds = {peer: pair_secrets.mask_seed(pair, ctx_hash) for peer, pair in pairs.items()}
    random = RandomBits.fresh() if key is None else RandomBits(key)
    weight = federation.weight(number)
    vector = mask_update(
        MaskingContext(ctx_hash, site, cohort, self_secret=self_secret, seeds=seeds),
        federation.layout,
        update,
        Quantizer([(len(update), CLIP)], weight=weight, w_cap=WEIGHT_CAP, q=federation.q, random=random),
        tail={"weight": [weight], SITE_COUNT: [1]},
        sink=sink,
    )
    shares = pair_secrets.make_share_blobs(
        ctx_hash, site, cohort, federation.t, self_secret=self_secret, seeds=seeds, pairs=pairs, random=os.urandom
    )
    manifest: JsonObject = {
        "ctx_hash": ctx_hash.hex(),
        "site": site,
        "vec": {
            "elems": vector.elements,
            "b": federation.layout.b,
            "chunk_elems": federation.layout.chunk_elements,
            "chunk_sha256": list(vector.chunk_sha256),
        },
        "b_commit": pair_secrets.b_commit(ctx_hash, site, self_secret).hex(),
        "x_commit": None,
        "seed_commit": {peer: pair_secrets.seed_commit(ctx_hash, site, peer, seeds[peer]).hex() for peer in seeds},
        "shares": {peer: sha256(blob).hexdigest() for peer, blob in shares.blobs.items()},
        "seq": 1,
        "prev": "00" * 32,
    }
    envelope = sign_envelope("manifest", manifest, site, signing_key)
    return SiteUpload(time.process_time() - began - writing, vector, manifest, envelope, shares)
