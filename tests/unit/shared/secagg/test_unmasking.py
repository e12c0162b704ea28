import dataclasses
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.canonical import sha256_hex
from shared.errors import Misuse, PeerFault
from shared.secagg import unmasking
from shared.secagg.opening import Opening
from shared.secagg.unmasking import MaskedSum, unmask
from tests.support.masked_round import MaskedRound


def complete(n: int = 4, d: int = 100, *, drop: int = 1, **sizes: Any) -> tuple[MaskedRound, list[str], Opening]:
    masked = MaskedRound(n, d, **sizes)
    survivors = masked.cohort[: n - drop]
    for site in survivors:
        masked.add_upload(site)
    return masked, survivors, masked.open_all(survivors, masked.cohort)


def job_of(masked: MaskedRound, survivors: list[str], opening: Opening) -> MaskedSum:
    hashes = {site: masked.uploads[site].chunk_sha256 for site in survivors}
    return MaskedSum(
        masked.ctx_hash,
        masked.layout,
        masked.cohort,
        survivors,
        hashes,
        opening.self_secrets,
        opening.pair_seeds,
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda job: {"survivors": job.survivors[::-1]},
        lambda job: {"survivors": [*job.survivors, "stranger"]},
        lambda job: {"survivors": [*job.survivors, job.survivors[-1]]},
        lambda job: {"survivors": []},
        lambda job: {"survivors": job.survivors[1:]},
        lambda job: {"cohort": job.cohort[:-1]},
        lambda job: {"self_secrets": {}},
        lambda job: {"self_secrets": {**job.self_secrets, job.cohort[-1]: bytes(32)}},
        lambda job: {"pair_seeds": {}},
        lambda job: {"pair_seeds": {**job.pair_seeds, (job.cohort[0], job.cohort[1]): bytes(32)}},
    ],
)
def test_parts_that_do_not_belong_together(change: Callable[[MaskedSum], dict[str, Any]]) -> None:
    job = job_of(*complete())
    with pytest.raises(Misuse) as refused:
        dataclasses.replace(job, **change(job))
    assert refused.value.code == "unmask_inputs"


def test_a_manifest_with_another_number_of_chunks_names_its_site() -> None:
    job = job_of(*complete())
    shorter = {**job.chunk_sha256, "s01": job.chunk_sha256["s01"][:-1]}
    with pytest.raises(PeerFault) as refused:
        dataclasses.replace(job, chunk_sha256=shorter)
    assert refused.value.code == "chunk_count"
    assert "s01" in refused.value.detail


def test_a_chunk_that_is_not_the_signed_one_names_its_site() -> None:
    masked, survivors, opening = complete()
    masked.uploads["s02"].chunks.reverse()
    with pytest.raises(PeerFault) as refused:
        masked.unmask(survivors, opening, workers=2)
    assert refused.value.code in {"chunk_hash", "chunk_size"}
    assert "s02" in refused.value.detail


def test_a_sum_that_counts_another_number_of_sites_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    masked, survivors, opening = complete(checksum=0)
    monkeypatch.setattr(unmasking, "SITE_COUNT", "weight")  # whose sum is not the number of survivors
    with pytest.raises(PeerFault) as refused:
        masked.unmask(survivors, opening)
    assert refused.value.code == "sa_site_count"


def test_without_checksums_garbage_is_still_caught_by_the_site_count_or_the_padding() -> None:
    masked, survivors, opening = complete(checksum=0)
    opening.self_secrets["s00"] = bytes(32)
    with pytest.raises(PeerFault) as refused:
        masked.unmask(survivors, opening)
    assert refused.value.code in {"sa_site_count", "sa_checksum"}


def test_secrets_of_a_context_print_nothing() -> None:
    job = job_of(*complete())
    text = repr(job)
    for secret in [*job.self_secrets.values(), *job.pair_seeds.values()]:
        assert repr(secret) not in text


def test_chunks_come_in_order_from_several_threads() -> None:
    masked, survivors, opening = complete(d=3000)
    seen: list[int] = []
    threads = set()

    def source(site: str, index: int) -> bytes:
        threads.add(threading.get_ident())
        return masked.uploads[site].chunks[index]

    words: list[int] = []

    def sink(index: int, main: np.ndarray[tuple[int], np.dtype[np.int32]]) -> None:
        seen.append(index)
        words.extend(main.tolist())

    unmask(job_of(masked, survivors, opening), source, sink, workers=3)
    assert seen == list(range(len(seen)))
    assert threading.get_ident() not in threads
    assert words == masked.plain_sum(survivors)[0].tolist()


@pytest.mark.parametrize("b", [16, 24])
def test_row_25_memory_does_not_grow_with_sites_or_elements(b: int, tmp_path: Path) -> None:
    chunk = 2**14

    def peak(n: int, d: int) -> int:
        masked, survivors, opening = complete(n, d, b=b, chunk_elements=chunk)
        for site in survivors:
            for index, packed in enumerate(masked.uploads[site].chunks):
                (tmp_path / f"{n}-{d}-{site}-{index}").write_bytes(packed)
        job = job_of(masked, survivors, opening)
        masked.uploads.clear()
        tracemalloc.start()
        try:
            unmask(job, lambda site, index: (tmp_path / f"{n}-{d}-{site}-{index}").read_bytes(), lambda *_: None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(6, 5 * chunk)
    assert small < 12 * 4 * chunk
    assert peak(16, 5 * chunk) < 1.3 * small
    assert peak(6, 20 * chunk) < 1.3 * small


def test_garbage_in_the_padding_alone_is_noticed() -> None:
    masked, survivors, opening = complete(checksum=0)
    assert masked.layout.padded > masked.layout.elements
    upload = masked.uploads[survivors[0]]
    last = bytearray(upload.chunks[-1])
    last[-1] ^= 1
    chunks = [*upload.chunks[:-1], bytes(last)]
    hashes = (*upload.chunk_sha256[:-1], sha256_hex(bytes(last)))
    masked.uploads[survivors[0]] = dataclasses.replace(upload, chunks=chunks, chunk_sha256=hashes)
    with pytest.raises(PeerFault, match="sa_checksum"):
        masked.unmask(survivors, opening)
