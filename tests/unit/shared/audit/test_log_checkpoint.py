import base64

import pytest

from shared.audit import log_checkpoint
from shared.audit.log_checkpoint import COSIGNATURE, ED25519, LogCheckpoint, LogVkey
from shared.audit.merkle import MemoryTree, leaf_hash, root_at
from shared.canonical import canonical_bytes
from shared.crypto.identity import SigningKey
from shared.errors import PeerFault

ORIGIN = "fed.example/log/1"
WITNESS = "fed.example/site/site-a"
LOG_KEY, WITNESS_KEY = SigningKey.from_seed(b"\x01" * 32), SigningKey.from_seed(b"\x02" * 32)
VKEY_TEXT = "fed.example/log/1+7914a22d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
WITNESS_TEXT = "fed.example/site/site-a+7e7ea86d+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU"
NOTE = """\
fed.example/log/1
5
qEyycnfbcTnMUc6SBqI6++Yjwy/CeOYbWALmA+ljXGg=

\u2014 fed.example/log/1 eRSiLb58P8AfePvffvj7za1Ya7oQUGWBDMFMx485K82uodxwSAvKVvxjjuK4kEO8G8OBhEYbn8xNRQhMYqRSh/bD1Q4=
\u2014 fed.example/site/site-a \
fn6obQAAAABrDMkAIEVJ39/hadPTEatgVlhvCrzIGEaV7typ2SCZ1ZXGpA5GEz8NeDCI48wE9LpHzj9TZAUTfwDTISmDSOgHmH82BA==
"""
TIME = 1796000000
TREE = MemoryTree(leaf_hash(canonical_bytes({"i": number, "v": 1})) for number in range(5))
HEAD = LogCheckpoint(ORIGIN, 5, TREE.root())
VKEY, WITNESS_VKEY = log_checkpoint.decode_vkey(VKEY_TEXT), log_checkpoint.decode_vkey(WITNESS_TEXT)


def code_of(text: str) -> str:
    with pytest.raises(PeerFault) as caught:
        log_checkpoint.verify_checkpoint(text, VKEY, ORIGIN)
    return caught.value.code


def test_example_note_of_b5() -> None:
    note = log_checkpoint.sign_checkpoint(HEAD, LOG_KEY)
    cosigned = log_checkpoint.add_signature_lines(note, [log_checkpoint.cosign(HEAD, WITNESS, WITNESS_KEY, TIME)])
    assert cosigned == NOTE
    assert log_checkpoint.verify_checkpoint(NOTE, VKEY, ORIGIN) == HEAD
    assert log_checkpoint.verify_cosignature(NOTE, WITNESS_VKEY) == TIME
    at_three = base64.b64encode(root_at(3, TREE.node)).decode()
    assert at_three == "ojKYVdtx41JjzW2XyAVM41Jmk5QpFeCZ1RUE82C8SXc="


def test_vkeys_of_b5() -> None:
    assert LogVkey(ORIGIN, ED25519, LOG_KEY.verify_key).encode() == VKEY_TEXT
    assert LogVkey(WITNESS, COSIGNATURE, WITNESS_KEY.verify_key).encode() == WITNESS_TEXT
    assert (VKEY.name, VKEY.kind, VKEY.key) == (ORIGIN, ED25519, LOG_KEY.verify_key)
    assert WITNESS_VKEY.kind == COSIGNATURE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        VKEY_TEXT + "\n",
        VKEY_TEXT.replace("7914a22d", "7914a22e"),
        VKEY_TEXT.replace("7914a22d", "7914A22D"),
        VKEY_TEXT.replace("log/1", "log/2"),
        VKEY_TEXT.replace("AYqI", "AoqI"),
        VKEY_TEXT[:-1],
        VKEY_TEXT.replace("fed.example", "fed example"),
        "+7914a22d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c",
        "x+00000000+",
        "x+00000000+AQ==",
    ],
)
def test_malformed_vkeys(text: str) -> None:
    with pytest.raises(PeerFault, match="vkey_malformed"):
        log_checkpoint.decode_vkey(text)


def test_every_changed_character_of_body_and_log_signature_is_refused() -> None:
    end = NOTE.index("\u2014 fed.example/site")
    for position in range(end):
        changed = NOTE[:position] + ("A" if NOTE[position] != "A" else "B") + NOTE[position + 1 :]
        assert code_of(changed) in {
            "checkpoint_malformed",
            "checkpoint_origin",
            "checkpoint_unsigned",
            "signature_invalid",
        }


def test_every_changed_character_of_a_cosignature_is_refused() -> None:
    start = NOTE.index("\u2014 fed.example/site")
    for position in range(start, len(NOTE)):
        changed = NOTE[:position] + ("A" if NOTE[position] != "A" else "B") + NOTE[position + 1 :]
        with pytest.raises(PeerFault):
            log_checkpoint.verify_cosignature(changed, WITNESS_VKEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\n5\n", "\n05\n"),
        NOTE.replace("\n5\n", "\n-5\n"),
        NOTE.replace("\n5\n", "\n5 \n"),
        NOTE.replace("\n5\n", "\n99999999999999999999\n"),
        NOTE.replace("\n5\n", "\n5\nextension\n"),
        NOTE.replace("GgXGg", "x").replace("XGg=\n\n", "XGg\n\n"),
        NOTE.replace("XGg=\n\n", "XGh=\n\n"),  # unused bits of the last base64 digit
        NOTE.rstrip("\n"),
        NOTE + "\n",
        NOTE + "trailing\n",
        NOTE + "\u2014 name\n",
        NOTE + "\u2014 name AAAA\n",
        NOTE + "\u2014 a+b AAAAAAAA\n",
        NOTE + "\u2014  AAAAAAAA\n",
        NOTE.replace("\u2014 fed.example/log/1", "- fed.example/log/1"),
        NOTE.replace("fed.example/log/1\n", "fed.example/log/1\r\n"),
        NOTE.replace("fed.example/log/1\n", "fed.example\t/log/1\n"),
        NOTE + "\x00",
        "\ud800" + NOTE,
        NOTE + "\u2014 name AAAAAAAA\n" * 1000,
        "a" * (2**20 + 1),
    ],
)
def test_malformed_notes(text: str) -> None:
    assert code_of(text) == "checkpoint_malformed"


def test_lines_of_unknown_keys_are_ignored() -> None:
    body, lines = NOTE.split("\n\n")
    log_line, witness_line = lines.splitlines(keepends=True)
    unknown = "\u2014 fed.example/log/1 " + base64.b64encode(b"\x06key" + bytes(100)).decode() + "\n"
    many = "".join(f"\u2014 other/{number} AAAAAAAA\n" for number in range(200))
    for text in (
        f"{body}\n\n{unknown}{log_line}{witness_line}",
        f"{body}\n\n{many}{log_line}",
        f"{body}\n\n{log_line}\u2014 n\u00e4me AAAAAAAA\n",
    ):
        assert log_checkpoint.verify_checkpoint(text, VKEY, ORIGIN) == HEAD


def test_a_second_bad_line_of_the_same_key_is_not_overlooked() -> None:
    bad = "\u2014 fed.example/log/1 " + base64.b64encode(VKEY.key_id + bytes(64)).decode() + "\n"
    assert code_of(NOTE + bad) == "signature_invalid"


def test_missing_signatures_and_wrong_roles() -> None:
    body, lines = NOTE.split("\n\n")
    log_line, witness_line = lines.splitlines(keepends=True)
    assert code_of(f"{body}\n\n{witness_line}") == "checkpoint_unsigned"
    with pytest.raises(PeerFault, match="checkpoint_unsigned"):
        log_checkpoint.verify_cosignature(f"{body}\n\n{log_line}", WITNESS_VKEY)
    # A log key is no witness and the other way round, even where name and key are the same.
    as_witness = LogVkey(ORIGIN, COSIGNATURE, LOG_KEY.verify_key)
    with pytest.raises(PeerFault, match="checkpoint_unsigned"):
        log_checkpoint.verify_checkpoint(NOTE, as_witness, ORIGIN)
    with pytest.raises(PeerFault, match="checkpoint_unsigned"):
        log_checkpoint.verify_cosignature(NOTE, VKEY)


def test_another_origin() -> None:
    other = log_checkpoint.sign_checkpoint(LogCheckpoint("fed.example/log/2", 5, TREE.root()), LOG_KEY)
    assert code_of(other) == "checkpoint_origin"


def test_cosignature_time_is_signed() -> None:
    line = log_checkpoint.cosign(HEAD, WITNESS, WITNESS_KEY, TIME)
    raw = bytearray(base64.b64decode(line.split(" ")[2]))
    raw[11] ^= 1
    moved = f"\u2014 {WITNESS} {base64.b64encode(raw).decode()}\n"
    note = log_checkpoint.sign_checkpoint(HEAD, LOG_KEY)
    with pytest.raises(PeerFault, match="signature_invalid"):
        log_checkpoint.verify_cosignature(note + moved, WITNESS_VKEY)
    short = f"\u2014 {WITNESS} {base64.b64encode(bytes(raw[:40])).decode()}\n"
    with pytest.raises(PeerFault, match="signature_invalid"):
        log_checkpoint.verify_cosignature(note + short, WITNESS_VKEY)


def test_lines_are_added_once() -> None:
    line = log_checkpoint.cosign(HEAD, WITNESS, WITNESS_KEY, TIME)
    note = log_checkpoint.sign_checkpoint(HEAD, LOG_KEY)
    assert log_checkpoint.add_signature_lines(NOTE, [line, line]) == NOTE
    assert log_checkpoint.add_signature_lines(note, [line, line]) == NOTE
    with pytest.raises(PeerFault, match="checkpoint_malformed"):
        log_checkpoint.add_signature_lines(note, ["not a line\n"])


def test_empty_log() -> None:
    head = LogCheckpoint(ORIGIN, 0, MemoryTree().root())
    assert log_checkpoint.verify_checkpoint(log_checkpoint.sign_checkpoint(head, LOG_KEY), VKEY, ORIGIN) == head
