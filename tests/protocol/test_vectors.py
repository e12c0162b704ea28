"""The test vectors of PROTOCOLS A17, made by a script apart from the product."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.canonical import canonical_bytes, parse_strict, tagged_hash
from shared.crypto.identity import SigningKey
from shared.crypto.keystream import KeystreamBlock, Words, keystream_words
from shared.crypto.signed_envelope import payload_type, pre_authentication_encoding
from shared.protocol.round_context import Context
from shared.secagg import pair_secrets, shamir
from shared.secagg.masking import MaskingContext
from shared.secagg.packing import pack, unpack
from shared.secagg.unmasking import lift

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[1] / "vectors/sa1_vectors.json").read_text())
SITES = ["site-a", "site-b", "site-c"]
PAIRING = {site: bytes([value]) * 32 for site, value in zip(SITES, (0xA1, 0xB2, 0xC3), strict=True)}
CTX = bytes.fromhex(VECTORS["ctx_hash"])
U16, U32 = np.dtype(np.uint16), np.dtype(np.uint32)
SELF = bytes(range(0x40, 0x60))
PS_AB = pair_secrets.pair_secret(PAIRING["site-a"], PAIRING["site-b"], bytes(range(32)), bytes(range(0x20, 0x40)))
PS_AC = pair_secrets.pair_secret(
    PAIRING["site-a"], PAIRING["site-c"], bytes(range(0x60, 0x80)), bytes(range(0x80, 0xA0))
)
S_AB, S_AC = pair_secrets.mask_seed(PS_AB, CTX), pair_secrets.mask_seed(PS_AC, CTX)
STREAM_AB = pair_secrets.stream_key(S_AB, CTX, "site-a", "site-b")


def scripted(*fixed: bytes) -> Callable[[int], bytes]:
    """Return a random source that gives out `fixed` in turn, again and again."""
    given = 0

    def random(size: int) -> bytes:
        nonlocal given
        value = fixed[given % len(fixed)]
        given += 1
        assert len(value) == size
        return value

    return random


FIVE_SEVEN = scripted((5).to_bytes(32, "big"), (7).to_bytes(32, "big"))


def words_text(words: Words, digits: int) -> str:
    return " ".join(f"{word:0{digits}x}" for word in words.tolist())


def test_context_hash() -> None:
    context = Context.model_validate(parse_strict(VECTORS["ctx (JCS)"].encode()))
    assert context.canonical().decode() == VECTORS["ctx (JCS)"]
    assert context.ctx_hash == VECTORS["ctx_hash"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pair salt", tagged_hash("SA1 pair", PAIRING["site-a"], PAIRING["site-b"])),
        ("PS_ab", PS_AB),
        ("s_ab", S_AB),
        ("stream key a,b", STREAM_AB),
        ("seed_commit", pair_secrets.seed_commit(CTX, "site-b", "site-a", S_AB)),
        ("share key a->b", pair_secrets.share_key(PS_AB, CTX, "site-a", "site-b")),
        ("self stream (b = 40..5f, site-a)", pair_secrets.self_key(SELF, CTX, "site-a")),
        ("b_commit", pair_secrets.b_commit(CTX, "site-a", SELF)),
        ("checksum stream e=0", pair_secrets.checksum_key(CTX, 0)),
        ("PS_ac (u_(a->c)=60..7f, u_(c->a)=80..9f)", PS_AC),
        ("s_ac", S_AC),
        ("stream_ac", pair_secrets.stream_key(S_AC, CTX, "site-a", "site-c")),
    ],
)
def test_derivations(name: str, value: bytes) -> None:
    assert value.hex() == VECTORS[name]


def test_row_17_keystream() -> None:
    assert words_text(keystream_words(STREAM_AB, U32, 0, 4), 8) == VECTORS["PRG u32 words 0..3"]
    assert words_text(keystream_words(STREAM_AB, U32, 2**20, 4), 8) == VECTORS["PRG u32 words 2^20.."]
    assert words_text(keystream_words(STREAM_AB, U16, 0, 4), 4) == VECTORS["PRG u16 words 0..3"]


def test_shamir() -> None:
    shares = shamir.split(int.from_bytes(SELF, "big"), 3, 3, FIVE_SEVEN)
    assert (
        " ".join(f"{share[-1]:02x}" for share in shares)
        == (VECTORS["Shamir t=3 b, coefficients 5, 7: shares x=1,2,3 last byte"])
    )
    assert all(share[:31] == SELF[:31] for share in shares)
    assert shares[1].hex() == VECTORS["share_b(b) (x=2, coefficients 5, 7)"]


def test_share_commitment_and_blob() -> None:
    share = bytes.fromhex(VECTORS["share_b(b) (x=2, coefficients 5, 7)"])
    commitment = pair_secrets.share_commit(CTX, "site-a", "site-b", 0, share)
    assert commitment.hex() == VECTORS["share-commit (i=site-a, j=site-b, index 0)"]

    def random(size: int) -> bytes:
        return FIVE_SEVEN(32) if size == 32 else bytes(range(size))

    made = pair_secrets.make_share_blobs(
        CTX,
        "site-a",
        SITES,
        3,
        self_secret=SELF,
        seeds={"site-b": S_AB, "site-c": S_AC},
        pairs={"site-b": PS_AB, "site-c": PS_AC},
        random=random,
    )
    digest = hashlib.sha256(made.blobs["site-b"]).hexdigest()
    assert digest == VECTORS["share blob a->b, nonce 00..0b, all polynomials with coefficients 5, 7: SHA-256"]
    assert made.blobs["site-b"][-96:-64] == commitment


def test_masked_words_of_site_a() -> None:
    context = MaskingContext(CTX, "site-a", SITES, self_secret=SELF, seeds={"site-b": S_AB, "site-c": S_AC})
    words = np.arange(-8, 8, dtype=np.int32).view(np.uint32)
    KeystreamBlock(U32, 16).add_into(words, *context.take_streams())
    assert pack(words, 24).hex() == VECTORS["masked y of site-a, main words only, q_k = k-8, packed b=24"]


@pytest.mark.parametrize(
    ("b", "packed"),
    [
        (16, "000001005634ffffffff"),
        (20, "00001000005634f2ffffffff0f0000"),
        (24, "000000010000563412ffffffffff0f"),
        (32, "000000000100000056341200ffffff00ffff0f00"),
    ],
)
def test_packing(b: int, packed: str) -> None:
    words = np.array([0, 1, 0x123456, 0xFFFFFF, 0x0FFFFF], np.uint32)
    narrow = words.astype(np.uint16) if b <= 16 else words
    assert pack(narrow, b).hex() == packed
    assert (unpack(bytes.fromhex(packed), b, 5) == narrow & ((1 << b) - 1)).all()


def test_centred_lift() -> None:
    out = np.empty(5, np.int32)
    lift(np.array([0, 1, 0x7FFFFF, 0x800000, 0xFFFFFF], np.uint32), 24, out)
    assert out.tolist() == [0, 1, 8388607, -8388608, -1]


def test_statement_and_decision() -> None:
    statement = parse_strict(VECTORS["stmt (JCS)"].encode())
    assert canonical_bytes(statement).decode() == VECTORS["stmt (JCS)"]
    assert tagged_hash("SA1 stmt", canonical_bytes(statement)).hex() == VECTORS["stmt_hash"]
    payload = canonical_bytes({"stmt": statement, "site": "site-a", "seq": 9, "prev": "88" * 32})
    signed = pre_authentication_encoding(payload_type("decision"), payload)
    assert hashlib.sha256(signed).hexdigest() == VECTORS["decision sha256(PAE)"]
    key = SigningKey.from_seed(bytes(range(32)))
    assert key.sign(signed).hex() == VECTORS["decision sig (Ed25519 seed 00..1f)"]
    assert key.verify_key.bytes.hex() == VECTORS["public key"]


def test_uploads_hash() -> None:
    manifests = [
        {"site": site, "manifest": digest * 32} for site, digest in zip(SITES, ("d1", "d2", "d3"), strict=True)
    ]
    digest = tagged_hash("SA1 uploads", canonical_bytes(manifests)).hex()
    assert digest == VECTORS["uploads hash (manifest hashes d1, d2, d3 x 32)"]
