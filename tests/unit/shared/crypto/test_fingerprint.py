import hashlib
import json
from pathlib import Path

import pytest

from shared.canonical import tagged_hash
from shared.crypto.fingerprint import hash_fingerprint, normalise_fingerprint, site_fingerprint
from shared.errors import InputError, Misuse

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "sa1_vectors.json").read_text(encoding="ascii"))
IDK = bytes.fromhex(VECTORS["public key"])


def test_vector_of_a17() -> None:
    assert hash_fingerprint(tagged_hash("FED fp v1", IDK)) == "0YA8K-WHAJH-4TDE4-526SE"


def test_a_site_fingerprint_covers_both_keys_in_order() -> None:
    one, two = IDK, bytes(reversed(IDK))
    expected = hash_fingerprint(hashlib.sha256(b"FED fp v1\x00" + one + two).digest())
    assert site_fingerprint(one, two) == expected
    assert len({site_fingerprint(one, two), site_fingerprint(two, one), site_fingerprint(one, one)}) == 3


def test_exactly_the_first_hundred_bits_count() -> None:
    base = bytes(range(32))
    for bit in range(256):
        changed = bytearray(base)
        changed[bit // 8] ^= 0x80 >> bit % 8
        assert (hash_fingerprint(bytes(changed)) != hash_fingerprint(base)) == (bit < 100)
    assert hash_fingerprint(b"\xff" * 32) == "ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ"


@pytest.mark.parametrize(
    "typed",
    [
        "0ya8k-whajh-4tde4-526se",
        "OYA8K WHAJH 4TDE4 526SE",
        " oya8kwhajh4tde4526se\n",
        "0YA8K\u2011WHAJH\u20134TDE4\u2010526SE",
    ],
)
def test_what_people_type(typed: str) -> None:
    assert normalise_fingerprint(typed) == "0YA8K-WHAJH-4TDE4-526SE"


def test_i_and_l_are_read_as_one() -> None:
    assert normalise_fingerprint("iIlL1-00000-00000-0000o") == "11111-00000-00000-00000"


@pytest.mark.parametrize(
    "typed",
    ["", "0YA8K-WHAJH-4TDE4-526S", "0YA8K-WHAJH-4TDE4-526SEE", "UYA8K-WHAJH-4TDE4-526SE", "0YA8K_WHAJH_4TDE4_526SE"],
)
def test_what_is_no_fingerprint(typed: str) -> None:
    with pytest.raises(InputError, match="fingerprint_malformed"):
        normalise_fingerprint(typed)


def test_lengths() -> None:
    with pytest.raises(Misuse, match="key_length"):
        site_fingerprint(IDK[:31], IDK)
    with pytest.raises(Misuse, match="key_length"):
        hash_fingerprint(bytes(31))
