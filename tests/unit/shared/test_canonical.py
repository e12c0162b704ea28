"""Attack table A13 row 23 at its root: bytes that two parsers could read differently are refused (PROTOCOLS 1)."""

import hashlib

import pytest

from shared.canonical import (
    b64u,
    canonical_bytes,
    from_b64u,
    hash_bytes,
    length_prefixed,
    parse_strict,
    tagged_hash,
    u32,
)
from shared.errors import InputError, Misuse, PeerFault
from shared.ids import check_id, uuid7


def test_canonical_form() -> None:
    assert canonical_bytes({"b": 1, "a": [True, None, "\u00e9\n\x1f\x7f"], "B": -0}) == (
        b'{"B":0,"a":[true,null,"\xc3\xa9\\n\\u001f\x7f"],"b":1}'
    )


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        {"a": float("nan")},
        2**53,
        {"\u00e9": 1},
        {"": 1},
        {"a\n": 1},
        {1: 1},
        {None: 1},
        b"x",
        {"a": {1, 2}},
        "\ud800",
    ],
)
def test_what_has_no_canonical_form(value: object) -> None:
    with pytest.raises(Misuse, match="not_canonical"):
        canonical_bytes(value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":1.0}',
        b'{"a":1E2}',
        b'{"a":Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-99999999999999999999}',
        b'{"a\\n":1}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'{"a":1}x',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":' + b"[" * 65 + b"]" * 65 + b"}",
        b"[" * 1_000_000,
    ],
)
def test_what_is_not_parsed(raw: bytes) -> None:
    with pytest.raises(PeerFault, match="json_malformed"):
        parse_strict(raw)


def test_hashes_have_one_spelling() -> None:
    assert hash_bytes("ab" * 32) == b"\xab" * 32
    for text in ("AB" * 32, "ab" * 31, "ab" * 32 + "\n", " " + "ab" * 32, "", None, 7):
        with pytest.raises(PeerFault, match="hash_malformed"):
            hash_bytes(text)  # type: ignore[arg-type]


def test_base64url_has_one_spelling() -> None:
    assert from_b64u(b64u(b"\xfb\xff\x00")) == b"\xfb\xff\x00"
    for text in ("AA==", "AB", "+_8", "A", "AA\n", "\u00e9", None, 7):
        with pytest.raises(PeerFault, match="base64_malformed"):
            from_b64u(text)  # type: ignore[arg-type]
    with pytest.raises(PeerFault, match="base64_malformed"):
        from_b64u("AAAA", size=2)


def test_hash_and_prefix_as_stated() -> None:
    assert tagged_hash("tag", b"a", b"b") == hashlib.sha256(b"tag\x00ab").digest()
    assert length_prefixed(b"abc") == b"\x00\x03abc"
    assert u32(258) == b"\x00\x00\x01\x02"
    with pytest.raises(Misuse, match="not_canonical"):
        length_prefixed(bytes(65536))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "-a", "_a", "A", "a b", "a/b", "a\n", "a" * 65, "coordinator", "\u00e9", None, 7]
)
def test_ids(text: str) -> None:
    with pytest.raises(InputError, match="id_malformed"):
        check_id(text)
    assert check_id("site-a.1_x") == "site-a.1_x"


def test_uuids_are_version_7_and_ordered() -> None:
    one, two = uuid7(1_700_000_000_000), uuid7(1_700_000_000_001)
    assert one < two
    assert (one[14], one[19] in "89ab", len(one)) == ("7", True, 36)
