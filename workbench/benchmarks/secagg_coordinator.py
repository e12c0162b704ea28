"""The coordinator's part of the secure-aggregation benchmark, in a process that does nothing else.

Its resident memory over idle is a published figure, so it imports only what the coordinator's mathematics needs.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.canonical import JsonObject, parse_strict
from shared.errors import PeerFault
from shared.secagg.layout import VectorLayout
from shared.secagg.opening import DealerCommitments, ReleasedShares, open_secrets
from shared.secagg.pair_secrets import blob_commitments, blob_size
from shared.secagg.quantization import dequantize
from shared.secagg.tail import TailItem
from shared.secagg.unmasking import MaskedSum, unmask


def aggregate(folder: Path, result: NDArray[np.float32], *, verify: bool = False) -> JsonObject:
    """Unmask the uploads in `folder`, dequantise them into `result`; return CPU seconds and the total weight.

    With `verify` also the SHA-256 of the summed integer words, whose time is counted.
    """
    began = time.process_time()
    job = parse_strict((folder / "job.json").read_bytes())
    tail = tuple(TailItem(name, limbs, length) for name, limbs, length in job["tail"])
    layout = VectorLayout(job["d"], tail, job["b"], len(job["cohort"]))
    total_weight = len(job["survivors"]) * job["w_cap"]  # the true one comes with the tail; the work is the same
    clips = [(layout.d, float(job["clip"]))]
    digest = hashlib.sha256()

    def source(site: str, index: int) -> memoryview:
        with (folder / f"{site}.{index}").open("rb") as file:
            return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))

    def sink(index: int, words: NDArray[np.int32]) -> None:
        start = layout.chunk_start(index)
        out = result[start : start + len(words)]
        dequantize(words, clips, q=job["q"], w_cap=job["w_cap"], total_weight=total_weight, start=start, out=out)
        if verify:
            digest.update(words.astype("<i4", copy=False).data)

    values = unmask(_masked_sum(folder, job, layout), source, sink)
    seconds = time.process_time() - began
    return {"cpu_seconds": seconds, "weight": values["weight"][0], "words_sha256": digest.hexdigest()}


def _masked_sum(folder: Path, job: JsonObject, layout: VectorLayout) -> MaskedSum:
    ctx_hash, cohort, survivors = bytes.fromhex(job["ctx_hash"]), job["cohort"], job["survivors"]
    dealers = _Dealers(folder, cohort, job["manifests"])
    responses = {
        site: ReleasedShares(
            {dealer: bytes.fromhex(share) for dealer, share in response["b"].items()},
            {
                dealer: {peer: bytes.fromhex(share) for peer, share in shares.items()}
                for dealer, shares in response["s"].items()
            },
        )
        for site, response in job["responses"].items()
    }
    opening = open_secrets(ctx_hash, cohort, survivors, job["t"], responses=responses, dealers=dealers)
    hashes = {site: job["manifests"][site]["vec"]["chunk_sha256"] for site in survivors}
    return MaskedSum(ctx_hash, layout, cohort, survivors, hashes, opening.self_secrets, opening.pair_seeds)


class _Dealers(Mapping[str, DealerCommitments]):
    """The dealers' commitments, read from their blobs one dealer at a time: all of them together grow as n^3."""

    def __init__(self, folder: Path, cohort: Sequence[str], manifests: Mapping[str, JsonObject]) -> None:
        self._folder = folder
        self._cohort = cohort
        self._manifests = manifests

    def __iter__(self) -> Iterator[str]:
        return iter(self._manifests)

    def __len__(self) -> int:
        return len(self._manifests)

    def __getitem__(self, dealer: str) -> DealerCommitments:
        manifest, n = self._manifests[dealer], len(self._cohort)
        blobs = (self._folder / f"{dealer}.shares").read_bytes()
        shares, start = {}, 0
        for recipient in self._cohort:
            own = recipient == dealer
            blob = blobs[start : start + blob_size(n, own=own)]
            if hashlib.sha256(blob).hexdigest() != manifest["shares"][recipient]:
                raise PeerFault("chunk_hash", f"the blob of {dealer} for {recipient} is not the one in its manifest")
            shares[recipient] = blob_commitments(blob, n, own=own)
            start += len(blob)
        seeds = {peer: bytes.fromhex(commitment) for peer, commitment in manifest["seed_commit"].items()}
        return DealerCommitments(bytes.fromhex(manifest["b_commit"]), seeds, shares)


def _status(field: str) -> int:
    """Return a memory field of this process in bytes; 0 where the system has no such file."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def main(folder: Path) -> None:
    """Aggregate once for every line on standard input (``measure`` or ``verify``) and print a report as a line."""
    idle = _status("VmRSS")
    dimension = parse_strict((folder / "job.json").read_bytes())["d"]
    result = np.ones(dimension, np.float32)
    for line in sys.stdin:
        report = aggregate(folder, result, verify=line.strip() == "verify")
        sys.stdout.write(json.dumps({**report, "peak_bytes": _status("VmHWM") - idle}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
