"""Attack table A13 row 23: no flipped, cut, doubled or re-labelled byte gets through (PROTOCOLS 1.2)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.canonical import canonical_bytes
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import KINDS, open_envelope, sign_envelope
from shared.errors import PeerFault

KEYS = {f"site-{letter}": SigningKey.from_seed(bytes([number]) * 32) for number, letter in enumerate("abc")}
PINNED = {site: key.verify_key for site, key in KEYS.items()}
KIND_LIST = sorted(KINDS)

keys_of_json = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys_of_json, inner, max_size=4), max_leaves=12
)
payloads = st.dictionaries(keys_of_json, values, max_size=5)
sites = st.sampled_from(sorted(KEYS))
kinds = st.sampled_from(KIND_LIST)


@given(payloads, kinds, sites)
def test_what_is_signed_is_what_is_read(payload: dict[str, object], kind: str, site: str) -> None:
    raw = sign_envelope(kind, payload, site, KEYS[site])
    message = open_envelope(raw, kind, PINNED)
    assert (message.body, message.keyid, message.kind) == (payload, site, kind)
    assert message.payload == canonical_bytes(payload)


@given(payloads, kinds, sites, st.data())
def test_row_23_any_changed_byte_is_refused(
    payload: dict[str, object], kind: str, site: str, data: st.DataObject
) -> None:
    raw = bytearray(sign_envelope(kind, payload, site, KEYS[site]))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerFault):
        open_envelope(bytes(raw), kind, PINNED)


@given(payloads, kinds, sites, st.data())
def test_cut_and_padded_envelopes_are_refused(
    payload: dict[str, object], kind: str, site: str, data: st.DataObject
) -> None:
    raw = sign_envelope(kind, payload, site, KEYS[site])
    cut = data.draw(st.integers(0, len(raw) - 1))
    for mutant in (raw[:cut], raw + data.draw(st.binary(min_size=1, max_size=4)), raw[: cut + 1] + raw):
        with pytest.raises(PeerFault):
            open_envelope(mutant, kind, PINNED)


@given(payloads, kinds, kinds, sites, sites)
def test_row_23_kind_and_signer_cannot_be_confused(
    payload: dict[str, object], kind: str, other: str, site: str, claimed: str
) -> None:
    raw = sign_envelope(kind, payload, site, KEYS[site])
    if other != kind:
        with pytest.raises(PeerFault, match="envelope_kind"):
            open_envelope(raw, other, PINNED)
    if claimed != site:
        envelope = json.loads(raw)
        envelope["signatures"][0]["keyid"] = claimed
        with pytest.raises(PeerFault, match="signature_invalid"):
            open_envelope(canonical_bytes(envelope), kind, PINNED)


@given(st.binary(max_size=300))
def test_noise_is_refused_with_a_code(raw: bytes) -> None:
    with pytest.raises(PeerFault, match="envelope_malformed"):
        open_envelope(raw, "poll", PINNED)


@given(values)
def test_well_formed_json_that_is_no_envelope_is_refused(value: object) -> None:
    with pytest.raises(PeerFault):
        open_envelope(canonical_bytes({"payload": value, "payloadType": value, "signatures": value}), "poll", PINNED)
