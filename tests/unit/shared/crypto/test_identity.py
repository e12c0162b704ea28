import json
from pathlib import Path

import pytest

from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.secret import Secret
from shared.errors import Misuse, PeerFault

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "sa1_vectors.json").read_text(encoding="ascii"))


def test_public_key_vector_of_a17() -> None:
    key = SigningKey.from_seed(bytes(range(32)))
    assert key.verify_key.bytes.hex() == VECTORS["public key"]
    assert SigningKey.from_seed(key.seed).verify_key == key.verify_key
    assert SigningKey.from_seed(Secret(bytes(range(32)))).sign(b"x") == key.sign(b"x")


def test_rfc_8032_vector() -> None:
    key = SigningKey.from_seed(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.verify_key.bytes.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_signatures_verify_and_only_for_their_data_and_key() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(b"data")
    key.verify_key.verify(signature, b"data")
    for public, sig, data in (
        (other.verify_key, signature, b"data"),
        (key.verify_key, signature, b"Data"),
        (key.verify_key, signature[:-1], b"data"),
        (key.verify_key, signature + b"\x00", b"data"),
        (key.verify_key, b"", b"data"),
        (key.verify_key, bytes(64), b"data"),
    ):
        with pytest.raises(PeerFault, match="signature_invalid"):
            public.verify(sig, data)


def test_a_signature_has_one_form() -> None:
    # S + L is the classic second form of an Ed25519 signature; a log keyed by content hash must not meet it.
    order = 2**252 + 27742317777372353535851937790883648493
    key = SigningKey.from_seed(bytes(32))
    signature = key.sign(b"data")
    second = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(PeerFault, match="signature_invalid"):
        key.verify_key.verify(second, b"data")


@pytest.mark.parametrize("sign_bit", [0, 0x80])
@pytest.mark.parametrize(
    "point",
    [
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "ec" + "ff" * 30 + "7f",
    ],
)
def test_small_order_keys_are_refused(point: str, sign_bit: int) -> None:
    raw = bytearray.fromhex(point)
    raw[31] |= sign_bit
    with pytest.raises(PeerFault, match="key_malformed"):
        VerifyKey.from_bytes(bytes(raw))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_lengths(size: int) -> None:
    with pytest.raises(PeerFault, match="key_malformed"):
        VerifyKey.from_bytes(bytes(size))
    with pytest.raises(Misuse, match="key_length"):
        SigningKey.from_seed(bytes(size))


def test_keys_compare_and_do_not_print_their_secret() -> None:
    key = SigningKey.from_seed(b"\x07" * 32)
    assert {key.verify_key: 1}[VerifyKey.from_bytes(key.verify_key.bytes)] == 1
    assert key.verify_key != key.verify_key.bytes
    assert (b"\x07" * 32).hex() not in repr(key)
    assert key.verify_key.bytes.hex() in repr(key)
