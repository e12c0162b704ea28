"""The close certificate against the vectors of A17 and attack table A13 rows 2, 3, 5 and 16 (PROTOCOLS A7 R2, R3)."""

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.canonical import JsonObject, canonical_bytes, tagged_hash
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import KINDS, sign_envelope
from shared.errors import Misuse, PeerFault
from shared.secagg import certificate as certificates

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "sa1_vectors.json").read_text(encoding="ascii"))
SITES = [f"site-{letter}" for letter in "abcdefg"]
OUTSIDER = "site-z"
KEYS = {site: SigningKey.from_seed(tagged_hash("test", site.encode())) for site in [*SITES, OUTSIDER]}
PINNED = {site: key.verify_key for site, key in KEYS.items()}
ZERO = "00" * 32
N, C, T, M = 7, 2, 5, 5
CTX: JsonObject = {
    **json.loads(VECTORS["ctx (JCS)"]),
    "P": [{"site": site, "pairing": "a1" * 32} for site in SITES],
    "t": T,
    "c": C,
    "m": M,
}
CTX_HASH = tagged_hash("SA1 ctx", canonical_bytes(CTX)).hex()
UPLOADS = certificates.uploads_hash((site, "d1" * 32) for site in SITES[:5])
STMT = certificates.statement(CTX_HASH, SITES[:5], UPLOADS)


def decide(site: str, stmt: JsonObject | None = None, changes: JsonObject | None = None) -> bytes:
    payload = {"stmt": STMT if stmt is None else stmt, "site": site, "seq": 9, "prev": ZERO, **(changes or {})}
    return sign_envelope("decision", payload, site, KEYS[site])


VALID = [decide(site) for site in SITES[:T]]


def code_of(certificate: list[bytes], stmt: JsonObject | None = None, ctx: JsonObject | None = None) -> str:
    with pytest.raises(PeerFault) as caught:
        certificates.check_certificate(STMT if stmt is None else stmt, certificate, CTX if ctx is None else ctx, PINNED)
    return caught.value.code


def test_vectors_of_a17() -> None:
    ctx, stmt = json.loads(VECTORS["ctx (JCS)"]), json.loads(VECTORS["stmt (JCS)"])
    assert certificates.statement(VECTORS["ctx_hash"], ["site-c", "site-a", "site-b"], "77" * 32) == stmt
    assert certificates.statement_hash(stmt) == VECTORS["stmt_hash"]
    manifests = [("site-a", "d1" * 32), ("site-b", "d2" * 32), ("site-c", "d3" * 32)]
    assert certificates.uploads_hash(manifests) == VECTORS["uploads hash (manifest hashes d1, d2, d3 x 32)"]
    assert certificates.uploads_hash(reversed(manifests)) == certificates.uploads_hash(manifests)
    key = SigningKey.from_seed(bytes(range(32)))
    raw = certificates.sign_decision(stmt, "site-a", 9, "88" * 32, key)
    signature = base64.b64decode(json.loads(raw)["signatures"][0]["sig"])
    assert signature.hex() == VECTORS["decision sig (Ed25519 seed 00..1f)"]
    assert certificates.check_decision(stmt, raw, ctx, {"site-a": key.verify_key}).body["seq"] == 9


def test_t_distinct_members_certify() -> None:
    for chosen in (SITES[:5], SITES[2:], SITES):  # members that did not survive may sign, and all may
        certificate = [decide(site) for site in chosen]
        messages = certificates.check_certificate(STMT, certificate, CTX, PINNED)
        assert [message.keyid for message in messages] == chosen


def test_further_signed_fields_do_not_disturb() -> None:
    """Later releases add what a site last cosigned (PROTOCOLS B3); the statement is what counts."""
    certificate = [decide(SITES[0], changes={"log": {"size": 4, "root": ZERO}}), *VALID[1:]]
    assert len(certificates.check_certificate(STMT, certificate, CTX, PINNED)) == T


def test_row_03_short_doubled_and_foreign_signers() -> None:
    assert code_of([]) == "certificate_short"
    assert code_of(VALID[:-1]) == "certificate_short"
    assert code_of([*VALID[:-1], VALID[0]]) == "certificate_signer"
    assert code_of([*VALID, VALID[0]]) == "certificate_signer"
    assert (
        code_of([*VALID[:-1], decide(SITES[0], changes={"seq": 10})]) == "certificate_signer"
    )  # another decision of the same site
    assert code_of([*VALID[:-1], decide(OUTSIDER)]) == "certificate_signer"
    assert code_of([*VALID[:-1], decide(SITES[5], changes={"site": SITES[4]})]) == "certificate_signer"
    assert code_of([decide(site) for site in SITES] + [VALID[0]]) == "certificate_signer"


def test_row_03_forged_signatures_and_other_kinds() -> None:
    payload = {"stmt": STMT, "site": SITES[4], "seq": 9, "prev": ZERO}
    for kind in KINDS - {"decision"}:
        assert code_of([*VALID[:-1], sign_envelope(kind, payload, SITES[4], KEYS[SITES[4]])]) == "certificate_forged"
    assert code_of([*VALID[:-1], sign_envelope("decision", payload, SITES[4], KEYS[SITES[3]])]) == "certificate_forged"
    assert code_of([*VALID[:-1], b"{}"]) == "certificate_forged"


def test_row_03_another_context() -> None:
    other = {**CTX, "round": 4}
    assert code_of(VALID, ctx=other) == "certificate_statement"
    stmt = {**STMT, "ctx": tagged_hash("SA1 ctx", canonical_bytes(other)).hex()}
    assert code_of([decide(site, stmt) for site in SITES[:T]]) == "certificate_statement"


def test_row_02_decisions_about_two_survivor_sets_do_not_add_up() -> None:
    other = certificates.statement(CTX_HASH, SITES[2:], UPLOADS)
    mixed = [decide(site) for site in SITES[:4]] + [decide(site, other) for site in SITES[4:]]
    assert code_of(mixed) == "certificate_statement"
    assert code_of(mixed[:4]) == "certificate_short"
    assert code_of(mixed[4:], other) == "certificate_short"


@pytest.mark.parametrize(
    "changes",
    [
        {"U": SITES[:4]},
        {"U": [*SITES[:4], SITES[3]]},
        {"U": [*SITES[1:5], SITES[0]]},
        {"U": [*SITES[:4], OUTSIDER]},
        {"U": "site-a"},
        {"U": [1, 2, 3, 4, 5]},
        {"U": None},
        {"v": "SA2"},
        {"kind": "open"},
        {"ctx": "11" * 32},
        {"ctx": None},
        {"extra": 1},
    ],
)
def test_row_05_and_16_statements_that_no_site_signs(changes: dict[str, Any]) -> None:
    stmt = {**STMT, **changes}
    with pytest.raises(PeerFault, match="certificate_statement"):
        certificates.check_statement(stmt, CTX)
    assert code_of([decide(site, stmt) for site in SITES[:T]], stmt) == "certificate_statement"


def test_statement_with_a_malformed_uploads_hash() -> None:
    for value in ("77", "AB" * 32, None, 7):
        with pytest.raises(PeerFault, match="hash_malformed"):
            certificates.check_statement({**STMT, "uploads": value}, CTX)
    with pytest.raises(Misuse, match="certificate_statement"):
        certificates.statement(CTX_HASH, ["site-a", "site-a"], UPLOADS)


@pytest.mark.parametrize(("t", "c"), [(4, 2), (5, 3), (1, 0), (8, 2)])
def test_a_threshold_that_two_certificates_could_reach_is_refused(t: int, c: int) -> None:
    ctx = {**CTX, "t": t, "c": c}
    stmt = {**STMT, "ctx": tagged_hash("SA1 ctx", canonical_bytes(ctx)).hex()}
    assert code_of([decide(site, stmt) for site in SITES], stmt, ctx) == "certificate_threshold"


@given(st.data())
def test_row_03_any_changed_byte_of_a_certificate_is_refused(data: st.DataObject) -> None:
    certificate = list(VALID)
    which = data.draw(st.integers(0, T - 1))
    raw = bytearray(certificate[which])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    certificate[which] = bytes(raw)
    assert code_of(certificate).startswith("certificate_")


@given(st.data())
def test_row_03_a_statement_that_differs_in_one_place_is_refused(data: st.DataObject) -> None:
    """Each signer but one signed STMT; that one signed a neighbour of it with a good signature."""
    stmt = copy.deepcopy(STMT)
    field = data.draw(st.sampled_from(sorted(stmt)))
    if field == "U":
        stmt["U"] = data.draw(
            st.lists(st.sampled_from([*SITES, OUTSIDER]), max_size=8).filter(lambda ids: ids != STMT["U"])
        )
    else:
        text = stmt[field]
        position = data.draw(st.integers(0, len(text) - 1))
        letter = data.draw(st.sampled_from("0123456789abcdefS").filter(lambda letter: letter != text[position]))
        stmt[field] = text[:position] + letter + text[position + 1 :]
    which = data.draw(st.integers(0, T - 1))
    certificate = list(VALID)
    certificate[which] = decide(SITES[which], stmt)
    assert code_of(certificate) == "certificate_statement"


@given(st.lists(st.sampled_from(SITES), max_size=9))
def test_row_03_only_sets_of_t_members_certify(signers: list[str]) -> None:
    certificate = [decide(site) for site in signers]
    if len(set(signers)) == len(signers) >= T:
        assert len(certificates.check_certificate(STMT, certificate, CTX, PINNED)) == len(signers)
    else:
        assert code_of(certificate) in {"certificate_short", "certificate_signer"}
