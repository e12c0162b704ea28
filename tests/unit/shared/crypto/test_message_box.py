import pytest

from shared.crypto.message_box import NONCE_BYTES, TAG_BYTES, decrypt_share, encrypt_share
from shared.errors import Misuse, PeerFault

KEY, NONCE, AAD = bytes(range(32)), bytes(range(NONCE_BYTES)), b"aad"


def test_gcm_vector() -> None:
    # Test case 14 of the GCM specification: zero key, nonce and one zero block.
    sealed = encrypt_share(bytes(32), bytes(12), bytes(16), b"")
    assert sealed.hex() == "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"


def test_every_flipped_bit_is_refused() -> None:
    sealed = encrypt_share(KEY, NONCE, b"share" * 5, AAD)
    assert len(sealed) == 25 + TAG_BYTES
    assert decrypt_share(KEY, NONCE, sealed, AAD) == b"share" * 5
    fields = {"key": KEY, "nonce": NONCE, "ciphertext": sealed, "aad": AAD}
    for name, value in fields.items():
        for bit in range(8 * len(value)):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(PeerFault, match="share_unreadable"):
                decrypt_share(**{**fields, name: bytes(changed)})
    for cut in range(len(sealed)):
        with pytest.raises(PeerFault, match="share_unreadable"):
            decrypt_share(KEY, NONCE, sealed[:cut], AAD)


@pytest.mark.parametrize(("key", "nonce"), [(31, 12), (16, 12), (32, 11), (32, 13), (0, 0)])
def test_lengths(key: int, nonce: int) -> None:
    with pytest.raises(Misuse, match="key_length"):
        encrypt_share(bytes(key), bytes(nonce), b"", b"")
    with pytest.raises(Misuse, match="key_length"):
        decrypt_share(bytes(key), bytes(nonce), bytes(16), b"")
