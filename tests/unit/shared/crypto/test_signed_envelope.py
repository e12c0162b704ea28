import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from shared.canonical import canonical_bytes
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import (
    KINDS,
    MAX_ENVELOPE_BYTES,
    open_envelope,
    payload_type,
    peek_signer,
    pre_authentication_encoding,
    sign_envelope,
)
from shared.errors import Misuse, PeerFault

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "sa1_vectors.json").read_text(encoding="ascii"))
KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(range(1, 33)))
KEYS = {"site-a": KEY.verify_key, "site-b": OTHER.verify_key}
PAYLOAD = {"site": "site-a", "seq": 9, "prev": "88" * 32}


def envelope_with(**changes: Any) -> bytes:
    """A valid envelope with some members replaced, still canonical."""
    envelope = json.loads(sign_envelope("decision", PAYLOAD, "site-a", KEY))
    return canonical_bytes({**envelope, **changes})


def code_of(raw: bytes, kind: str = "decision") -> str:
    with pytest.raises(PeerFault) as caught:
        open_envelope(raw, kind, KEYS)
    return caught.value.code


def test_decision_vector_of_a17() -> None:
    payload = {"stmt": json.loads(VECTORS["stmt (JCS)"]), "site": "site-a", "seq": 9, "prev": "88" * 32}
    raw = sign_envelope("decision", payload, "site-a", KEY)
    envelope = json.loads(raw)
    body = base64.b64decode(envelope["payload"])
    pae = pre_authentication_encoding(envelope["payloadType"], body)
    assert hashlib.sha256(pae).hexdigest() == VECTORS["decision sha256(PAE)"]
    assert base64.b64decode(envelope["signatures"][0]["sig"]).hex() == VECTORS["decision sig (Ed25519 seed 00..1f)"]
    message = open_envelope(raw, "decision", KEYS)
    assert message.body == payload
    assert message.digest == hashlib.sha256(body).hexdigest()
    assert message.envelope_digest == hashlib.sha256(raw).hexdigest()
    assert message.keyid == peek_signer(raw) == "site-a"


def test_the_encoding_is_the_one_dsse_describes() -> None:
    # The example of the DSSE protocol document.
    pae = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert pae == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize("kind", sorted(KINDS - {"decision"}))
def test_no_kind_is_taken_for_another(kind: str) -> None:
    raw = sign_envelope(kind, PAYLOAD, "site-a", KEY)
    assert code_of(raw) == "envelope_kind"
    # Nor when the type is rewritten to the expected one: the signature covers it.
    relabelled = canonical_bytes({**json.loads(raw), "payloadType": payload_type("decision")})
    assert code_of(relabelled) == "signature_invalid"


def test_unknown_kind_is_our_bug() -> None:
    with pytest.raises(Misuse, match="envelope_kind"):
        sign_envelope("gossip", PAYLOAD, "site-a", KEY)


def test_keyid_swapped_or_unknown() -> None:
    signature = json.loads(sign_envelope("decision", PAYLOAD, "site-a", KEY))["signatures"][0]
    assert code_of(envelope_with(signatures=[{**signature, "keyid": "site-b"}])) == "signature_invalid"
    assert code_of(envelope_with(signatures=[{**signature, "keyid": "site-z"}])) == "signer_unknown"


def test_signature_list_is_exactly_one() -> None:
    signature = json.loads(sign_envelope("decision", PAYLOAD, "site-a", KEY))["signatures"][0]
    lists: list[Any] = [[], [signature, signature], {}, [signature["sig"]], [{**signature, "cert": "x"}], None]
    for signatures in lists:
        assert code_of(envelope_with(signatures=signatures)) == "envelope_malformed"


@pytest.mark.parametrize("member", ["payload", "payloadType", "signatures"])
def test_missing_and_extra_members(member: str) -> None:
    envelope = json.loads(sign_envelope("decision", PAYLOAD, "site-a", KEY))
    del envelope[member]
    assert code_of(canonical_bytes(envelope)) == "envelope_malformed"
    assert code_of(envelope_with(extra=1)) == "envelope_malformed"


def test_row_23_other_spellings_of_the_same_json_are_refused() -> None:
    raw = sign_envelope("decision", PAYLOAD, "site-a", KEY)
    assert code_of(json.dumps(json.loads(raw)).encode()) == "envelope_malformed"  # blanks
    assert code_of(raw + b"\n") == "envelope_malformed"
    assert code_of(b"\xef\xbb\xbf" + raw) == "envelope_malformed"
    doubled = raw.replace(b'{"payload":', b'{"payload":"AA==","payload":', 1)
    assert code_of(doubled) == "envelope_malformed"


def test_base64_has_one_spelling() -> None:
    envelope = json.loads(sign_envelope("decision", PAYLOAD, "site-a", KEY))
    signature = envelope["signatures"][0]["sig"]
    assert signature.endswith("==")
    loose = signature[:-3] + chr(ord(signature[-3]) + 1) + "=="  # only the unused low bits differ
    for text in (loose, signature[:-2], signature.replace("=", ""), signature + "\n", " " + signature, 7, None):
        assert code_of(envelope_with(signatures=[{"keyid": "site-a", "sig": text}])) == "envelope_malformed"


def _signed_bytes(body: bytes) -> bytes:
    type_ = payload_type("decision")
    signature = KEY.sign(pre_authentication_encoding(type_, body))
    return canonical_bytes(
        {
            "payload": base64.b64encode(body).decode(),
            "payloadType": type_,
            "signatures": [{"keyid": "site-a", "sig": base64.b64encode(signature).decode()}],
        }
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":9007199254740993}',
        b'{"a":123456789012345678901234567890}',
        b'{"\xc3\xa9":1}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"[1]",
        b"",
        b'{"a":' + b"[" * 100_000 + b"}",
        b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_row_23_well_signed_but_ambiguous_payloads_are_refused(body: bytes) -> None:
    assert code_of(_signed_bytes(body)) == "envelope_malformed"


def test_signature_is_checked_before_the_payload_is_parsed() -> None:
    raw = json.loads(_signed_bytes(b"not json at all"))
    raw["payload"] = base64.b64encode(b"not json either").decode()
    assert code_of(canonical_bytes(raw)) == "signature_invalid"


def test_oversized_envelope_is_refused_unread() -> None:
    assert code_of(b"{" * (MAX_ENVELOPE_BYTES + 1)) == "envelope_malformed"


def test_wrong_types_never_escape_as_other_errors() -> None:
    for changes in (
        {"payload": 1},
        {"payload": None},
        {"payloadType": 1},
        {"payloadType": "d\u00e9"},
        {"payload": "\u00e9"},
    ):
        assert code_of(envelope_with(**changes)) == "envelope_malformed"
    for raw in (b"", b"null", b"1", b"[]", b"{}", b"\x00", b'{"payload":'):
        assert code_of(raw) == "envelope_malformed"
        with pytest.raises(PeerFault, match="envelope_malformed"):
            peek_signer(raw)
