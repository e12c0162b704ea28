"""CPU, memory and bytes of one secure aggregation, beside a plain sum of the same vectors in the same minute.

Client: derive keys and commitments, seal shares, clip, quantise, checksum, mask, pack, hash, sign the manifest.
Coordinator: open the secrets, read chunks from files, verify their hashes, sum, unmask, check, dequantise into one
float32 vector; in a process of its own that never held anything else. The plain sum is what a coordinator without any
privacy does with vectors in memory: ``total = 0; total += vector`` for each. The three take turns. Not counted: writing
files, and the first touch of the memory that holds a result, which says more about the machine's host than about us.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import IO, Self, cast

import numpy as np
from numpy.typing import NDArray

from shared.canonical import JsonObject, canonical_bytes
from shared.errors import InputError, Unavailable
from shared.secagg import pair_secrets
from shared.secagg.quantization import RandomBits, quantize
from workbench.benchmarks.secagg_site import CLIP, WEIGHT_CAP, MadeUpFederation, SiteUpload, do_site_work


def run(
    sites: int,
    dimension: int,
    dropouts: int = 0,
    bits: int = 16,
    *,
    quantization_bits: int | None = None,
    repeats: int = 7,
) -> JsonObject:
    """Measure one aggregation of `dimension` words of `bits` bits from `sites` sites of which the last `dropouts` drop.

    CPU seconds are medians of `repeats`; ``coordinator_peak_bytes`` is the largest. ``exact``: the unmasked words are
    the integer sum of the quantised vectors and the tail holds the sum of the weights. Needs sites * dimension * bits
    / 8 bytes of temporary files and memory for the vectors, up to 2 GiB.

    Raises:
        InputError: ``bench_arguments``.
    """
    if repeats < 1:
        raise InputError("bench_arguments", "at least one repeat is needed")
    federation = MadeUpFederation.of(sites, dimension, dropouts, bits, quantization_bits)
    vectors = [federation.update(number) for number in range(federation.distinct)]
    total = np.ones(dimension, np.float32)  # zeros would be touched only inside the first measurement
    with tempfile.TemporaryDirectory(prefix="mitral-bench-") as name:
        prepared = _prepare(federation, Path(name))
        with _Coordinator(Path(name)) as coordinator:
            # The first pass over memory is slower than any later one; none of the three is judged by it.
            exact = coordinator.aggregate(verify=True)
            _plain_sum(sites, vectors, total)
            client, plain, reports = [], [], []
            for repeat in range(repeats):
                plain.append(_plain_sum(sites, vectors, total))
                number = repeat % len(vectors)
                client.append(do_site_work(federation, number, vectors[number], None).cpu_seconds)
                reports.append(coordinator.aggregate())
    coordinating = [report["cpu_seconds"] for report in reports]
    figures = {
        "client_cpu_seconds": median(client),
        "coordinator_cpu_seconds": median(coordinating),
        "plain_sum_cpu_seconds": median(plain),
    }
    return {
        "sites": sites,
        "dimension": dimension,
        "dropouts": dropouts,
        "bits": bits,
        "quantization_bits": federation.q,
        "repeats": repeats,
        **{name: round(seconds, 6) for name, seconds in figures.items()},
        "client_multiple": round(figures["client_cpu_seconds"] / figures["plain_sum_cpu_seconds"], 2),
        "client_multiple_range": _range(client, plain),
        "coordinator_multiple": round(figures["coordinator_cpu_seconds"] / figures["plain_sum_cpu_seconds"], 2),
        "coordinator_multiple_range": _range(coordinating, plain),
        "upload_bytes": prepared.upload_bytes,
        "upload_share_of_float32": round(prepared.upload_bytes / (4 * dimension), 4),
        "coordinator_peak_bytes": max(report["peak_bytes"] for report in [exact, *reports]),
        "exact": exact["words_sha256"] == prepared.words_sha256 and exact["weight"] == prepared.weight,
    }


def _range(seconds: Sequence[float], plain: Sequence[float]) -> list[float]:
    """Return the smallest and the largest multiple of the plain sum that was measured in the same turn."""
    multiples = [one / other for one, other in zip(seconds, plain, strict=True)]
    return [round(min(multiples), 2), round(max(multiples), 2)]


@dataclass(frozen=True)
class _Prepared:
    """What the coordinator must come to, and what each site sends."""

    words_sha256: str
    weight: int
    upload_bytes: int


def _prepare(federation: MadeUpFederation, folder: Path) -> _Prepared:
    """Let every site do its work, leave its upload and its unmask response in `folder`, and add up the plain words."""
    expected = np.zeros(federation.layout.d, np.int64)
    survivors = set(federation.survivors)
    lost = [site for site in federation.cohort if site not in survivors]
    responses: dict[str, JsonObject] = {site: {"b": {}, "s": {}} for site in federation.survivors[: federation.t]}
    manifests = {}
    upload_bytes = 0
    for number, site in enumerate(federation.cohort):
        if site not in survivors:
            continue
        update, key = federation.update(number), os.urandom(32)
        upload = do_site_work(federation, number, update, folder, key)
        expected += quantize(
            update,
            [(len(update), CLIP)],
            weight=federation.weight(number),
            w_cap=WEIGHT_CAP,
            q=federation.q,
            random=RandomBits(key),
        )
        blobs = [upload.shares.blobs[peer] for peer in federation.cohort]
        (folder / f"{site}.shares").write_bytes(b"".join(blobs))
        upload_bytes = max(upload_bytes, federation.layout.upload_bytes + len(b"".join(blobs)) + len(upload.envelope))
        manifests[site] = upload.manifest
        _release(federation, site, upload, lost, responses)
    job = {
        "ctx_hash": federation.ctx_hash.hex(),
        "cohort": federation.cohort,
        "survivors": federation.survivors,
        "t": federation.t,
        "q": federation.q,
        "w_cap": WEIGHT_CAP,
        "clip": str(CLIP),
        "d": federation.layout.d,
        "b": federation.layout.b,
        "tail": [[item.name, item.limbs, item.length] for item in federation.layout.tail],
        "manifests": manifests,
        "responses": responses,
    }
    (folder / "job.json").write_bytes(canonical_bytes(job))
    weight = sum(federation.weight(federation.cohort.index(site)) for site in survivors)
    return _Prepared(sha256(expected.astype("<i4").data).hexdigest(), weight, upload_bytes)


def _release(
    federation: MadeUpFederation, dealer: str, upload: SiteUpload, lost: Sequence[str], responses: dict[str, JsonObject]
) -> None:
    """Open the dealer's blobs as their recipients do and put the shares of this outcome into the unmask responses."""
    pairs = federation.pairs(dealer)
    for responder, response in responses.items():
        shares = upload.shares.own_shares
        if responder != dealer:
            shares = pair_secrets.open_share_blob(
                federation.ctx_hash,
                dealer,
                responder,
                upload.shares.blobs[responder],
                n=len(federation.cohort),
                commitment=bytes.fromhex(upload.manifest["b_commit"]),
                pair=pairs[responder],
            )
        places = {peer: pair_secrets.secret_index(federation.cohort, dealer, peer) for peer in lost}
        response["b"][dealer] = shares[0].hex()
        response["s"][dealer] = {peer: shares[place].hex() for peer, place in places.items()}


def _plain_sum(sites: int, vectors: Sequence[NDArray[np.float32]], total: NDArray[np.float32]) -> float:
    """Return the CPU seconds of the float32 sum of one vector per site."""
    began = time.process_time()
    total[:] = 0
    for number in range(sites):
        total += vectors[number % len(vectors)]
    return time.process_time() - began


class _Coordinator:
    """The process that does the coordinator's part, once per line on its standard input."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "workbench.benchmarks.secagg_coordinator", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._commands, self._reports = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def aggregate(self, *, verify: bool = False) -> JsonObject:
        """Aggregate once and return the report."""
        self._commands.write("verify\n" if verify else "measure\n")
        self._commands.flush()
        line = self._reports.readline()
        if not line:
            raise Unavailable("bench_failed", "the process that measures the coordinator has died")
        report: JsonObject = json.loads(line)
        return report


def main(arguments: Sequence[str] | None = None, write: Callable[[str], object] = sys.stdout.write) -> int:
    """Measure as the command line asks and write the figures."""
    parser = argparse.ArgumentParser(prog="bench secagg", description=__doc__)
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--dimension", type=int, default=10_000_000)
    parser.add_argument("--dropouts", type=int, default=0)
    parser.add_argument("--bits", type=int, default=16)
    parser.add_argument("--quantization-bits", type=int)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    figures = run(
        given.sites,
        given.dimension,
        given.dropouts,
        given.bits,
        quantization_bits=given.quantization_bits,
        repeats=given.repeats,
    )
    write(json.dumps(figures) if given.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))
    write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
