"""A whole masked sum among made-up sites, step by step: upload, release, open, unmask (PROTOCOLS A7, A8)."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.secagg import pair_secrets
from shared.secagg.layout import VectorLayout
from shared.secagg.masking import MaskingContext, mask_update
from shared.secagg.opening import DealerCommitments, Opening, ReleasedShares, open_secrets
from shared.secagg.parameters import corrupt_bound, threshold
from shared.secagg.quantization import Quantizer, RandomBits, quantize
from shared.secagg.tail import CHECKSUM_ITEM, TailItem, limbs_for
from shared.secagg.unmasking import MaskedSum, unmask

W_CAP = 100


def random_source(seed: int) -> Callable[[int], bytes]:
    """Return a reproducible stand-in for the operating system's random bytes."""
    count = 0

    def random(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(f"{seed}/{count}".encode()).digest(size)

    return random


@dataclass
class Upload:
    """What one site sent, and what it keeps."""

    chunks: list[bytes]
    chunk_sha256: tuple[str, ...]
    b_commit: bytes
    seed_commit: dict[str, bytes]
    shares: pair_secrets.ShareBlobs
    self_secret: bytes
    plain: NDArray[np.int32]


@dataclass
class MaskedRound:
    """`n` sites ``s00``, ``s01``, ... in one context; everything follows from `seed`."""

    n: int
    d: int
    b: int = 16
    q: int = 8
    seed: int = 0
    chunk_elements: int = 64
    bins: int = 3
    checksum: bool = True
    equal_weights: bool = False
    uploads: dict[str, Upload] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cohort = [f"s{number:02d}" for number in range(self.n)]
        self.c = corrupt_bound(self.n)
        self.t = threshold(self.n, self.c)
        self.ctx_hash = hashlib.sha256(f"context {self.seed}".encode()).digest()
        self.random = random_source(self.seed)
        self.clips = [(self.d // 2, 0.5), (self.d, 2.0)] if self.d > 1 else [(self.d, 2.0)] * self.d
        tail = [
            TailItem("weight", limbs_for(W_CAP, self.b, self.n), 1),
            TailItem("n_sites", 1, 1),
            TailItem("score_histogram", limbs_for(1000, self.b, self.n), self.bins),
            *([CHECKSUM_ITEM] if self.checksum else []),
        ]
        self.layout = VectorLayout(self.d, tuple(tail), self.b, self.n, self.chunk_elements)

    def pair(self, i: str, k: str) -> bytes:
        lo, hi = pair_secrets.in_order(i, k)
        return hashlib.sha256(f"pair {self.seed} {lo} {hi}".encode()).digest()

    def pairs(self, site: str) -> dict[str, bytes]:
        return {peer: self.pair(site, peer) for peer in self.cohort if peer != site}

    def seeds(self, site: str) -> dict[str, bytes]:
        return {peer: pair_secrets.mask_seed(pair, self.ctx_hash) for peer, pair in self.pairs(site).items()}

    def weight(self, site: str) -> int:
        return W_CAP - (0 if self.equal_weights else self.cohort.index(site))

    def histogram(self, site: str) -> list[int]:
        return [(7 * self.cohort.index(site) + 300 * bin_) % 1001 for bin_ in range(self.bins)]

    def update(self, site: str) -> NDArray[np.float32]:
        return np.random.default_rng([self.seed, self.cohort.index(site)]).standard_normal(self.d, np.float32)

    def add_upload(self, site: str, update: NDArray[np.float32] | None = None) -> Upload:
        """Do the site's part of R1."""
        update = self.update(site) if update is None else update
        self_secret, seeds, key = pair_secrets.new_self_secret(self.random), self.seeds(site), self.random(32)
        weight = self.weight(site)
        chunks: list[bytes] = []
        vector = mask_update(
            MaskingContext(self.ctx_hash, site, self.cohort, self_secret=self_secret, seeds=seeds),
            self.layout,
            update,
            Quantizer(self.clips, weight=weight, w_cap=W_CAP, q=self.q, random=RandomBits(key)),
            tail={"weight": [weight], "n_sites": [1], "score_histogram": self.histogram(site)},
            sink=lambda _, chunk: chunks.append(bytes(chunk)),
        )
        self.uploads[site] = Upload(
            chunks,
            vector.chunk_sha256,
            pair_secrets.b_commit(self.ctx_hash, site, self_secret),
            {peer: pair_secrets.seed_commit(self.ctx_hash, site, peer, seed) for peer, seed in seeds.items()},
            pair_secrets.make_share_blobs(
                self.ctx_hash,
                site,
                self.cohort,
                self.t,
                self_secret=self_secret,
                seeds=seeds,
                pairs=self.pairs(site),
                random=self.random,
            ),
            self_secret,
            quantize(update, self.clips, weight=weight, w_cap=W_CAP, q=self.q, random=RandomBits(key)),
        )
        return self.uploads[site]

    def shares_for(self, dealer: str, recipient: str) -> list[bytes]:
        """Return what the recipient finds in the dealer's blob."""
        upload = self.uploads[dealer]
        if recipient == dealer:
            return upload.shares.own_shares
        blob, pair = upload.shares.blobs[recipient], self.pair(dealer, recipient)
        return pair_secrets.open_share_blob(
            self.ctx_hash, dealer, recipient, blob, n=self.n, commitment=upload.b_commit, pair=pair
        )

    def release(self, responder: str, survivors: Sequence[str]) -> ReleasedShares:
        """Do one site's part of R3."""
        b, s = {}, {}
        for dealer in survivors:
            shares = self.shares_for(dealer, responder)
            b[dealer] = shares[0]
            s[dealer] = {
                peer: shares[pair_secrets.secret_index(self.cohort, dealer, peer)]
                for peer in self.cohort
                if peer not in survivors
            }
        return ReleasedShares(b, s)

    def commitments(self, dealer: str) -> DealerCommitments:
        upload = self.uploads[dealer]
        shares = {
            peer: pair_secrets.blob_commitments(blob, self.n, own=peer == dealer)
            for peer, blob in upload.shares.blobs.items()
        }
        return DealerCommitments(upload.b_commit, upload.seed_commit, shares)

    def open(self, survivors: Sequence[str], responses: Mapping[str, ReleasedShares]) -> Opening:
        """Do the coordinator's first part of R4."""
        dealers = {dealer: self.commitments(dealer) for dealer in survivors}
        return open_secrets(self.ctx_hash, self.cohort, survivors, self.t, responses=responses, dealers=dealers)

    def open_all(self, survivors: Sequence[str], responders: Iterable[str]) -> Opening:
        """Let every responder release and open what that gives."""
        return self.open(survivors, {site: self.release(site, survivors) for site in responders})

    def unmask(
        self, survivors: Sequence[str], opening: Opening, *, workers: int = 1
    ) -> tuple[NDArray[np.int32], dict[str, list[int]]]:
        """Do the coordinator's second part of R4: the summed main words and the tail."""
        job = MaskedSum(
            self.ctx_hash,
            self.layout,
            self.cohort,
            survivors,
            {site: self.uploads[site].chunk_sha256 for site in survivors},
            opening.self_secrets,
            opening.pair_seeds,
        )
        words: list[NDArray[np.int32]] = []
        tail = unmask(
            job,
            lambda site, index: self.uploads[site].chunks[index],
            lambda _, main: words.append(main.copy()),
            workers=workers,
        )
        return np.concatenate([*words, np.empty(0, np.int32)]), tail

    def plain_sum(self, survivors: Sequence[str]) -> tuple[NDArray[np.int64], dict[str, list[int]]]:
        """Return what the masked sum has to come to."""
        total = sum((self.uploads[site].plain.astype(np.int64) for site in survivors), np.zeros(self.d, np.int64))
        histograms = [self.histogram(site) for site in survivors]
        return total, {
            "weight": [sum(self.weight(site) for site in survivors)],
            "n_sites": [len(survivors)],
            "score_histogram": [sum(column) for column in zip(*histograms, strict=True)],
        }
