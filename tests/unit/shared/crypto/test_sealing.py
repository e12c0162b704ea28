"""Attack table A13 row 24: unusable KEM keys, low-order points, truncated and altered HPKE texts."""

import hashlib

import pytest

from shared.crypto.sealing import (
    OVERHEAD_BYTES,
    KemPrivateKey,
    KemPublicKey,
    check_public_key,
    check_suite_available,
    open_sealed,
    seal,
)
from shared.crypto.secret import Secret
from shared.errors import Misuse, PeerFault

KEY = KemPrivateKey.generate()
LOW_ORDER_X25519 = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ec" + "ff" * 30 + "7f"),
]


def test_sealed_text_opens_for_its_owner_only() -> None:
    sealed = seal(KEY.public_key, b"u" * 32, b"info")
    assert len(sealed) == 32 + OVERHEAD_BYTES == 1168
    assert open_sealed(KEY, sealed, b"info") == b"u" * 32
    assert sealed != seal(KEY.public_key, b"u" * 32, b"info")
    with pytest.raises(PeerFault, match="envelope_unreadable"):
        open_sealed(KemPrivateKey.generate(), sealed, b"info")


def test_seeds_give_the_same_pair_again() -> None:
    again = KemPrivateKey.from_seeds(KEY.seeds)
    assert again.public_key == KEY.public_key
    assert open_sealed(again, seal(KEY.public_key, b"x", b""), b"") == b"x"
    assert len(KEY.seeds) == 96
    assert "secret" in repr(KEY)
    for size in (0, 95, 97):
        with pytest.raises(Misuse, match="key_length"):
            KemPrivateKey.from_seeds(Secret(bytes(size)))


def test_fixed_seeds_give_fixed_keys() -> None:
    """A stored pair must outlive library versions: RFC 7748's Bob, and the ML-KEM seed form of FIPS 203 (d || z)."""
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    public = KemPrivateKey.from_seeds(Secret(bytes(range(64)) + bob)).public_key
    assert public.x25519.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert (
        hashlib.sha256(public.mlkem768).hexdigest()
        == "0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9"
    )


@pytest.mark.parametrize("info", [b"", b"infO", b"info\x00"])
def test_row_24_wrong_info(info: bytes) -> None:
    with pytest.raises(PeerFault, match="envelope_unreadable"):
        open_sealed(KEY, seal(KEY.public_key, b"u" * 32, b"info"), info)


def test_row_24_truncated_extended_and_altered_texts() -> None:
    sealed = seal(KEY.public_key, b"u" * 32, b"info")
    mutants = [sealed[:cut] for cut in (0, 1, 1087, 1088, 1119, 1120, 1135, 1136, 1167)] + [sealed + b"\x00"]
    for position in range(0, len(sealed), 29):
        altered = bytearray(sealed)
        altered[position] ^= 1
        mutants.append(bytes(altered))
    for mutant in mutants:
        with pytest.raises(PeerFault, match="envelope_unreadable"):
            open_sealed(KEY, mutant, b"info")


@pytest.mark.parametrize("point", LOW_ORDER_X25519)
def test_row_24_low_order_points(point: bytes) -> None:
    public = KemPublicKey(KEY.public_key.mlkem768, point)
    with pytest.raises(PeerFault, match="key_malformed"):
        seal(public, b"u" * 32, b"info")
    with pytest.raises(PeerFault, match="key_malformed"):
        check_public_key(public)
    sealed = seal(KEY.public_key, b"u" * 32, b"info")
    with pytest.raises(PeerFault, match="envelope_unreadable"):
        open_sealed(KEY, sealed[:1088] + point + sealed[1120:], b"info")


def test_row_24_ml_kem_key_with_coefficients_out_of_range() -> None:
    public = KemPublicKey(b"\xff" * 1184, KEY.public_key.x25519)
    with pytest.raises(PeerFault, match="key_malformed"):
        check_public_key(public)


@pytest.mark.parametrize(("mlkem", "x25519"), [(1183, 32), (1185, 32), (1184, 31), (1184, 0), (0, 32)])
def test_key_lengths(mlkem: int, x25519: int) -> None:
    with pytest.raises(PeerFault, match="key_malformed"):
        KemPublicKey(bytes(mlkem), bytes(x25519))


def test_suite_is_available_here() -> None:
    check_suite_available()
    check_public_key(KEY.public_key)
