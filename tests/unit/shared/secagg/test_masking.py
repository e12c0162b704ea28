import copy
import pickle
import threading
from collections.abc import Callable

import numpy as np
import pytest

from shared.crypto.keystream import Keystream, KeystreamBlock, keystream_words
from shared.errors import InputError, Misuse, PeerFault
from shared.secagg import pair_secrets
from shared.secagg.checksum import Checksum
from shared.secagg.layout import VectorLayout
from shared.secagg.masking import MaskingContext, mask_update
from shared.secagg.packing import unpack
from shared.secagg.quantization import Quantizer, RandomBits
from shared.secagg.tail import CHECKSUM_ITEM, TailItem, decode_tail
from tests.support.masked_round import MaskedRound

CTX = bytes(range(32))
COHORT = ["a", "b", "c"]
LAYOUT = VectorLayout(10, (TailItem("weight", 1, 1), CHECKSUM_ITEM), 16, 3)
UPDATE = np.linspace(-1, 1, 10, dtype=np.float32)


def context() -> MaskingContext:
    return MaskingContext(
        CTX, "b", COHORT, self_secret=bytes([1]) * 32, seeds={"a": bytes([2]) * 32, "c": bytes([3]) * 32}
    )


def quantizer(length: int = 10) -> Quantizer:
    return Quantizer([(length, 1.0)], weight=1, w_cap=1, q=8, random=RandomBits(bytes(32)))


def masked(used: MaskingContext, update: np.ndarray[tuple[int], np.dtype[np.float32]] = UPDATE) -> list[bytes]:
    chunks: list[bytes] = []
    mask_update(
        used, LAYOUT, update, quantizer(), tail={"weight": [5]}, sink=lambda _, chunk: chunks.append(bytes(chunk))
    )
    return chunks


def test_row_18_one_context_masks_one_vector() -> None:
    used = context()
    masked(used)
    for _ in range(2):
        with pytest.raises(Misuse) as refused:
            masked(used)
        assert refused.value.code == "mask_reuse"


def test_row_18_a_vector_that_failed_counts() -> None:
    used = context()
    with pytest.raises(InputError):
        masked(used, np.full(10, np.nan, np.float32))
    with pytest.raises(Misuse):
        masked(used)


def test_row_18_of_many_threads_one_gets_the_masks() -> None:
    used, results = context(), []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        try:
            results.append(bool(used.take_streams()))
        except Misuse:
            results.append(False)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_row_18_masks_cannot_be_copied(duplicate: Callable[[object], object]) -> None:
    with pytest.raises(Misuse) as refused:
        duplicate(context())
    assert refused.value.code == "mask_reuse"


def test_row_18_what_is_wrong_from_the_start_costs_no_mask() -> None:
    used = context()
    bad = [
        (UPDATE[:9], quantizer(9), {"weight": [5]}),
        (UPDATE.astype(np.float64), quantizer(), {"weight": [5]}),
        (UPDATE, quantizer(11), {"weight": [5]}),
        (UPDATE, quantizer(), {"weight": [1 << 14]}),
        (UPDATE, quantizer(), {}),
        (UPDATE, quantizer(), {"weight": [5], "checksum": [0, 0, 0, 0]}),
    ]
    for update, wrong, tail in bad:
        with pytest.raises(Misuse):
            mask_update(used, LAYOUT, update, wrong, tail=tail, sink=lambda *_: None)  # type: ignore[arg-type]
    assert masked(used)


def test_a_vector_is_quantised_words_tail_checksums_and_all_masks() -> None:
    words = unpack(masked(context())[0], 16, 16)
    lo, hi = (
        pair_secrets.stream_key(bytes([2]) * 32, CTX, "a", "b"),
        pair_secrets.stream_key(bytes([3]) * 32, CTX, "b", "c"),
    )
    own = pair_secrets.self_key(bytes([1]) * 32, CTX, "b")
    streams = [keystream_words(key, np.dtype(np.uint16), 0, 16) for key in (own, hi, lo)]
    plain = words - streams[0] - streams[1] + streams[2]
    expected = np.floor(UPDATE.astype(np.float64) * 127 + RandomBits(bytes(32)).words(10) / 2**32)
    np.testing.assert_array_equal(plain[:10].view(np.int16), expected)
    values = decode_tail(LAYOUT.tail, plain[10:15], 16, 3)
    assert values["weight"] == [5]
    for e in range(4):
        factors = keystream_words(pair_secrets.checksum_key(CTX, e), np.dtype(np.uint16), 0, 10)
        assert values["checksum"][e] == sum(map(int, expected * factors)) % 2**16
    assert plain[15] == 0


@pytest.mark.parametrize("b", [8, 16, 20, 24, 32])
def test_checksums_are_the_sums_of_the_protocol(b: int) -> None:
    layout = VectorLayout(1000, (CHECKSUM_ITEM,), b, 3, 256)
    words = np.random.default_rng(b).integers(0, 2**32, 1000, np.uint32).astype(layout.word)
    scratch = KeystreamBlock(layout.word, 256)
    whole, parts = Checksum(CTX, layout), [Checksum(CTX, layout, start) for start in (0, 256)]
    for start in range(0, 1000, 100):
        whole.add(words[start : start + 100], scratch)
    parts[0].add(words[:256], scratch)
    for start in (256, 512, 768):
        parts[1].add(words[start : start + 256], scratch)
    for e in range(4):
        factors = keystream_words(pair_secrets.checksum_key(CTX, e), layout.word, 0, 1000)
        expected = sum(word * factor for word, factor in zip(words.tolist(), factors.tolist(), strict=True))
        assert whole.values()[e] == expected % 2**b
        assert sum(part.values()[e] for part in parts) % 2**b == expected % 2**b


def test_padding_is_masked_too() -> None:
    words = unpack(masked(context())[0], 16, 16)
    assert words[15] != 0


@pytest.mark.parametrize(
    ("cohort", "seeds"),
    [(["a", "c"], {"a", "c"}), (["a", "b", "c"], {"a"}), (["a", "b"], {"a", "c"}), (["a", "b", "b"], {"a"})],
)
def test_seeds_that_are_not_those_of_the_cohort(cohort: list[str], seeds: set[str]) -> None:
    with pytest.raises(Misuse) as refused:
        MaskingContext(CTX, "b", cohort, self_secret=bytes(32), seeds={peer: bytes(32) for peer in seeds})
    assert refused.value.code == "mask_inputs"


def test_secrets_that_are_no_field_elements() -> None:
    with pytest.raises(PeerFault):
        MaskingContext(CTX, "b", ["a", "b"], self_secret=b"\xff" * 32, seeds={"a": bytes(32)})
    with pytest.raises(PeerFault):
        MaskingContext(CTX, "b", ["a", "b"], self_secret=bytes(32), seeds={"a": bytes(31)})


@pytest.mark.parametrize(("q", "b", "n"), [(12, 16, 10), (16, 20, 10), (16, 24, 12), (8, 16, 12), (2, 8, 12)])
def test_row_19_every_site_at_its_bound(q: int, b: int, n: int) -> None:
    masked_round = MaskedRound(n, 40, b, q)
    masked_round.clips = [(40, 1.0)]
    extreme = np.tile(np.array([9e9, -9e9], np.float32), 20)
    masked_round.equal_weights = True
    for site in masked_round.cohort:
        masked_round.add_upload(site, extreme)
    words, tail = masked_round.unmask(
        masked_round.cohort, masked_round.open_all(masked_round.cohort, masked_round.cohort)
    )
    plain, plain_tail = masked_round.plain_sum(masked_round.cohort)
    np.testing.assert_array_equal(words, plain)
    assert tail == plain_tail
    quantum = 2 ** (q - 1) - 1
    assert set(np.abs(words).tolist()) == {n * quantum}


def test_keystreams_start_where_they_are_told() -> None:
    key = bytes(range(32))
    whole = keystream_words(key, np.dtype(np.uint32), 0, 64)
    np.testing.assert_array_equal(keystream_words(key, np.dtype(np.uint32), 20, 44), whole[20:])
    block = KeystreamBlock(np.dtype(np.uint32), 32)
    stream = Keystream(key)
    np.testing.assert_array_equal(
        np.concatenate([block.next_words(stream, 5).copy(), block.next_words(stream, 27)]), whole[:32]
    )
    for position in (-16, 8):
        with pytest.raises(Misuse):
            Keystream(key, position)
    with pytest.raises(Misuse):
        Keystream(key[:31])
    with pytest.raises(Misuse):
        block.next_words(stream, 33)
    with pytest.raises(Misuse):
        block.add_into(np.zeros(33, np.uint32), [stream], [])
