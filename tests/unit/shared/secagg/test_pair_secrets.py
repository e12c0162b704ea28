import ast
import inspect
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto.keystream import KeystreamBlock
from shared.errors import Misuse, PeerFault
from shared.secagg import pair_secrets
from shared.secagg.masking import open_streams
from shared.secagg.shamir import PRIME, decode_element, reconstruct
from tests.support.masked_round import MaskedRound, random_source

ROUND = MaskedRound(5, 20, seed=7)
for _site in ROUND.cohort:
    ROUND.add_upload(_site)
DEALER, RECIPIENT, OTHER = ROUND.cohort[1], ROUND.cohort[3], ROUND.cohort[4]
BLOB = ROUND.uploads[DEALER].shares.blobs[RECIPIENT]


def open_blob(
    blob: bytes = BLOB,
    *,
    ctx_hash: bytes = ROUND.ctx_hash,
    dealer: str = DEALER,
    recipient: str = RECIPIENT,
    n: int = 5,
    commitment: bytes = ROUND.uploads[DEALER].b_commit,
    pair: bytes | None = None,
) -> list[bytes]:
    key = ROUND.pair(DEALER, RECIPIENT) if pair is None else pair
    return pair_secrets.open_share_blob(ctx_hash, dealer, recipient, blob, n=n, commitment=commitment, pair=key)


def test_everybody_finds_a_share_of_every_secret() -> None:
    position = ROUND.cohort.index(RECIPIENT)
    shares = open_blob()
    assert len(shares) == 5
    assert pair_secrets.secret_index(ROUND.cohort, DEALER, None) == 0
    assert [pair_secrets.secret_index(ROUND.cohort, DEALER, peer) for peer in ROUND.cohort if peer != DEALER] == [
        1, 2, 3, 4,
    ]  # fmt: skip
    # Three of them open b: this recipient's and two more.
    held = {x + 1: ROUND.shares_for(DEALER, ROUND.cohort[x])[0] for x in (0, 2)}
    held |= {ROUND.cohort.index(DEALER) + 1: ROUND.uploads[DEALER].shares.own_shares[0], position + 1: shares[0]}
    assert reconstruct(held, ROUND.t) == decode_element(ROUND.uploads[DEALER].self_secret)


def test_blob_sizes() -> None:
    assert len(BLOB) == pair_secrets.blob_size(5, own=False) == 12 + 160 + 16 + 160
    own = ROUND.uploads[DEALER].shares.blobs[DEALER]
    assert len(own) == pair_secrets.blob_size(5, own=True) == 160
    total = 199 * pair_secrets.blob_size(200, own=False) + pair_secrets.blob_size(200, own=True)
    assert total < 2.7e6


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
def test_row_13_any_changed_byte_of_a_blob_is_refused(position: int, change: int) -> None:
    changed = bytearray(BLOB)
    changed[position] ^= change
    with pytest.raises(PeerFault) as refused:
        open_blob(bytes(changed))
    assert refused.value.code == ("share_commitment" if position >= len(BLOB) - 160 else "share_unreadable")


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: open_blob(ctx_hash=bytes(32)),
        lambda: open_blob(dealer=OTHER),
        lambda: open_blob(recipient=OTHER),
        lambda: open_blob(dealer=RECIPIENT, recipient=DEALER),
        lambda: open_blob(commitment=ROUND.uploads[OTHER].b_commit),
        lambda: open_blob(pair=ROUND.pair(DEALER, OTHER)),
        lambda: open_blob(pair=ROUND.seeds(DEALER)[RECIPIENT]),
        lambda: open_blob(ROUND.uploads[DEALER].shares.blobs[OTHER]),
        lambda: open_blob(ROUND.uploads[OTHER].shares.blobs[RECIPIENT]),
        lambda: open_blob(MaskedRound(5, 20, seed=7).add_upload(DEALER).shares.blobs[OTHER]),
    ],
    ids=["context", "dealer", "recipient", "direction", "upload", "pair", "mask seed", "addressee", "sender", "other"],
)
def test_row_13_shares_from_elsewhere(misuse: Callable[[], object]) -> None:
    with pytest.raises(PeerFault) as refused:
        misuse()
    assert refused.value.code == "share_unreadable"


@pytest.mark.parametrize("blob", [b"", BLOB[:-1], BLOB + b"\0", BLOB[:-32]])
def test_row_13_blobs_of_another_length(blob: bytes) -> None:
    with pytest.raises(PeerFault) as refused:
        open_blob(blob)
    assert refused.value.code == "share_malformed"


def test_row_13_another_upload_of_the_same_dealer_does_not_fit() -> None:
    again = MaskedRound(5, 20, seed=7)
    again.random = random_source(99)
    other = again.add_upload(DEALER)
    with pytest.raises(PeerFault):
        open_blob(other.shares.blobs[RECIPIENT])


def test_row_13_a_share_above_the_prime_is_refused_though_it_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    too_large = [(PRIME + 1).to_bytes(32, "big")] * 5
    monkeypatch.setattr(pair_secrets, "split", lambda *_: too_large)
    dealt = MaskedRound(5, 20, seed=7).add_upload(DEALER)
    with pytest.raises(PeerFault) as refused:
        open_blob(dealt.shares.blobs[RECIPIENT], commitment=dealt.b_commit)
    assert refused.value.code == "share_malformed"


def test_row_11_opened_seeds_do_not_open_shares() -> None:
    # The coordinator kept a late upload of DEALER. Its mask seeds are then legally opened, because it counts as lost:
    # no key that follows from a seed and public values opens a share blob, so b stays hidden.
    upload = ROUND.uploads[DEALER]
    for peer, seed in ROUND.seeds(DEALER).items():
        lo, hi = pair_secrets.in_order(DEALER, peer)
        reachable = [
            seed,
            pair_secrets.stream_key(seed, ROUND.ctx_hash, lo, hi),
            pair_secrets.share_key(seed, ROUND.ctx_hash, DEALER, peer),
            pair_secrets.mask_seed(seed, ROUND.ctx_hash),
        ]
        for pair in reachable:
            for key in (pair, pair_secrets.share_key(pair, ROUND.ctx_hash, DEALER, peer)):
                with pytest.raises(PeerFault) as refused:
                    open_blob(upload.shares.blobs[peer], recipient=peer, pair=key)
                assert refused.value.code == "share_unreadable"


def test_row_11_share_keys_follow_from_the_pair_secret_alone() -> None:
    pair = ROUND.pair(DEALER, RECIPIENT)
    assert pair_secrets.share_key(pair, ROUND.ctx_hash, DEALER, RECIPIENT) != pair_secrets.share_key(
        pair_secrets.mask_seed(pair, ROUND.ctx_hash), ROUND.ctx_hash, DEALER, RECIPIENT
    )
    # Whoever seals or opens blobs takes the pair secret for the key and never looks at a seed.
    for function in (pair_secrets.make_share_blobs, pair_secrets.open_share_blob):
        calls = [
            node
            for node in ast.walk(ast.parse(inspect.getsource(function)))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "share_key"
        ]
        assert [ast.unparse(call.args[0]) for call in calls] in (["pairs[recipient]"], ["pair"])


def test_row_11_all_legal_shares_of_a_dropped_site_are_shares_of_its_edges_only() -> None:
    masked = MaskedRound(5, 20, seed=8)
    for site in masked.cohort:
        masked.add_upload(site)
    survivors = [site for site in masked.cohort if site != DEALER]
    opening = masked.open_all(survivors, masked.cohort)
    assert DEALER not in opening.self_secrets
    assert set(opening.pair_seeds) == {(site, DEALER) for site in survivors}
    # With every edge of DEALER open, its upload is still covered by PRG(b): the words left over are not its own.
    keys = [
        (
            -pair_secrets.mask_sign(DEALER, site),
            pair_secrets.stream_key(seed, masked.ctx_hash, *pair_secrets.in_order(DEALER, site)),
        )
        for (site, _), seed in opening.pair_seeds.items()
    ]
    words = np.frombuffer(masked.uploads[DEALER].chunks[0], "<u2").copy()
    block = KeystreamBlock(np.dtype(np.uint16), len(words))
    block.add_into(words, *open_streams(keys, 0))
    assert (words[:20].view(np.int16) != masked.uploads[DEALER].plain).any()
    block.add_into(
        words,
        *open_streams([(-1, pair_secrets.self_key(masked.uploads[DEALER].self_secret, masked.ctx_hash, DEALER))], 0),
    )
    assert (words[:20].view(np.int16) == masked.uploads[DEALER].plain).all()


def test_every_derivation_is_bound_to_every_argument() -> None:
    pair, ctx, other = ROUND.pair(DEALER, RECIPIENT), ROUND.ctx_hash, bytes(32)
    seed = pair_secrets.mask_seed(pair, ctx)
    values = [
        seed,
        pair_secrets.mask_seed(pair, other),
        pair_secrets.stream_key(seed, ctx, "a", "b"),
        pair_secrets.stream_key(seed, other, "a", "b"),
        pair_secrets.stream_key(seed, ctx, "a", "c"),
        pair_secrets.stream_key(seed, ctx, "ab", ""),
        pair_secrets.self_key(seed, ctx, "a"),
        pair_secrets.self_key(seed, ctx, "b"),
        pair_secrets.share_key(pair, ctx, "a", "b"),
        pair_secrets.share_key(pair, ctx, "b", "a"),
        pair_secrets.b_commit(ctx, "a", seed),
        pair_secrets.b_commit(other, "a", seed),
        pair_secrets.seed_commit(ctx, "a", "b", seed),
        pair_secrets.seed_commit(ctx, "a", "c", seed),
        pair_secrets.share_commit(ctx, "a", "b", 0, seed),
        pair_secrets.share_commit(ctx, "a", "b", 1, seed),
        pair_secrets.share_commit(ctx, "b", "a", 0, seed),
        pair_secrets.checksum_key(ctx, 0),
        pair_secrets.checksum_key(ctx, 1),
        pair_secrets.pair_secret(ctx, other, seed, pair),
        pair_secrets.pair_secret(other, ctx, seed, pair),
        pair_secrets.pair_secret(ctx, other, pair, seed),
        pair_secrets.pairing_info(ctx, "demo", 1, "a", "b"),
        pair_secrets.pairing_info(ctx, "demo", 2, "a", "b"),
        pair_secrets.pairing_info(ctx, "demo", 1, "b", "a"),
        pair_secrets.pairing_info(other, "demo", 1, "a", "b"),
    ]
    assert len(set(values)) == len(values)
    assert pair_secrets.seed_commit(ctx, "a", "b", seed) == pair_secrets.seed_commit(ctx, "b", "a", seed)


def test_ids_are_ordered_bytewise() -> None:
    assert pair_secrets.in_order("b", "a") == ("a", "b")
    assert pair_secrets.in_order("site-10", "site-9") == ("site-10", "site-9")
    assert (pair_secrets.mask_sign("a", "b"), pair_secrets.mask_sign("b", "a")) == (1, -1)


def test_a_dealer_needs_a_seed_and_a_pair_for_each_of_the_others() -> None:
    for cohort, peers in ((["a", "b", "c"], ["b"]), (["a", "b"], ["b", "c"]), (["b", "c"], ["b", "c"])):
        values = dict.fromkeys(peers, bytes(32))
        with pytest.raises(Misuse):
            pair_secrets.make_share_blobs(
                bytes(32), "a", cohort, 2, self_secret=bytes(32), seeds=values, pairs=values, random=random_source(0)
            )
