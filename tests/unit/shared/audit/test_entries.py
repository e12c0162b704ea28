import json
from typing import Any

import pytest

from shared.audit import entries, verify
from shared.audit.entries import (
    ENTRY_TYPES,
    Actor,
    Commitment,
    build_entry,
    check_disclosure,
    check_entry,
    commit_field,
)
from shared.audit.entry_types import type_of
from shared.canonical import b64u, canonical_bytes, tagged_hash
from shared.errors import Misuse, PeerFault

ID = "019aa5b0-7e4b-7abc-8def-0123456789ab"
SALT = bytes(range(16))
FIELDS: dict[str, Any] = {
    "log": "fed.example/log/1",
    "entry_id": ID,
    "ts": "2026-11-21T09:15:02.123Z",
    "type_": "login",
    "actor": Actor("user", "op-7", "local", "host-1"),
    "data": {"count": 3},
    "subject": ("operator", "op-7"),
    "authz": {"decision": "permit", "policy": "11" * 32, "rule": "r1"},
}


def build(**changes: Any) -> bytes:
    return build_entry(**{**FIELDS, **changes})


def test_an_entry_has_the_agreed_form() -> None:
    commitments = [Commitment("name", "Ann", SALT), Commitment("address", "10.0.0.7", SALT)]
    entry = check_entry(build(commitments=commitments, study="demo"))
    assert entry == {
        "v": 1,
        "log": "fed.example/log/1",
        "id": ID,
        "ts": "2026-11-21T09:15:02.123Z",
        "type": "login",
        "actor": {"kind": "user", "id": "op-7", "authn": "local", "instance": "host-1"},
        "action": "E",
        "outcome": "success",
        "study": "demo",
        "subject": {"kind": "operator", "id": "op-7"},
        "authz": {"decision": "permit", "policy": "11" * 32, "rule": "r1"},
        "data": {"count": 3},
        "evidence": [],
        "sd": [
            {"field": "address", "h": commit_field(ID, "address", "10.0.0.7", SALT)},
            {"field": "name", "h": commit_field(ID, "name", "Ann", SALT)},
        ],
        "study_seq": 1,
        "study_prev": None,
    }
    assert b"Ann" not in build(commitments=commitments)


def test_commitment_is_the_stated_hash() -> None:
    expected = tagged_hash("SD1", ID.encode(), SALT, b"\x00\x04name", b'"Ann"')
    assert commit_field(ID, "name", "Ann", SALT) == b64u(expected)
    with pytest.raises(Misuse, match="entry_malformed"):
        commit_field(ID, "name", "Ann", SALT[:15])


def test_disclosures_open_exactly_what_was_committed() -> None:
    value = {"name": "Ann", "age": 40}
    entry = check_entry(build(commitments=[Commitment("person", value, SALT)]))
    check_disclosure(entry, "person", value, SALT)
    for name, given, salt in (
        ("person", {"name": "Bob", "age": 40}, SALT),
        ("person", value, bytes(16)),
        ("person", value, SALT[:15]),
        ("people", value, SALT),
        ("person", 1.5, SALT),
        ("pers\u00f6n", value, SALT),
    ):
        with pytest.raises(PeerFault, match="disclosure_mismatch"):
            check_disclosure(entry, name, given, salt)
    other = check_entry(build(commitments=[Commitment("person", value, SALT)], entry_id=ID[:-1] + "c"))
    assert other["sd"] != entry["sd"]  # equal values in two entries cannot be linked, even under one salt


def test_commitments_do_not_print_their_values() -> None:
    assert "Ann" not in repr(Commitment("name", "Ann", SALT))


@pytest.mark.parametrize(
    "changes",
    [
        {"log": "Fed Example"},
        {"entry_id": "019aa5b0-7e4b-4abc-8def-0123456789ab"},
        {"entry_id": ID + "\n"},
        {"ts": "2026-11-21T09:15:02Z"},
        {"ts": "2026-13-21T09:15:02.123Z"},
        {"ts": "2026-11-21T24:15:02.123Z"},
        {"ts": "2026-11-21T09:15:02.123+00:00"},
        {"ts": "\u0662026-11-21T09:15:02.123Z"},
        {"actor": Actor("robot", "op-7", "local")},  # type: ignore[arg-type]
        {"actor": Actor("user", "Ann Smith", "local")},
        {"actor": Actor("user", "op-7", "")},
        {"actor": Actor("user", "op-7", "local", "a b")},
        {"action": "X"},
        {"outcome": "fine"},
        {"study": "Demo Study"},
        {"subject": ("operator", "Ann Smith")},
        {"subject": ("", "op-7")},
        {"authz": {"decision": "permit"}},
        {"authz": {"decision": 1, "policy": "", "rule": ""}},
        {"evidence": ["AB" * 32]},
        {"evidence": ["short"]},
        {"data": {"text": "x" * 17_000}},
        {"data": {"share": 0.5}},
        {"type_": "model.published"},
        {"type_": "model.published", "data": {"model": "not a hash"}},
        {"type_": "round.upload", "data": {"ctx_hash": "11" * 32, "manifest_hash": "22" * 32, "site": "site-a"}},
    ],
)
def test_malformed_entries_are_our_bug(changes: dict[str, Any]) -> None:
    with pytest.raises(Misuse, match=r"entry_malformed|not_canonical"):
        build(**changes)


def test_unknown_types_are_our_bug() -> None:
    for name in ("gossip", "round.opened", "alert", "alert.", "alert.A b", "", "login\n"):
        with pytest.raises(Misuse, match="entry_unknown_type"):
            build(type_=name)
        assert type_of(name) is None
    assert type_of(["login"]) is None
    assert check_entry(build(type_="alert.clone.detected", data={"detail": "two agents"}))["action"] == "E"


def mutate(path: str, value: object) -> bytes:
    entry = json.loads(build(commitments=[Commitment("a", 1, SALT), Commitment("b", 2, SALT)], evidence=["11" * 32]))
    at = entry
    *parents, last = path.split("/")
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at[name]
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return canonical_bytes(entry)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("v", 2),
        ("v", True),
        ("extra", 1),
        ("id", None),
        ("log", 7),
        ("ts", 7),
        ("type", ["login"]),
        ("type", None),
        ("action", []),
        ("action", "CR"),
        ("outcome", []),
        ("actor", []),
        ("actor/kind", []),
        ("actor/extra", 1),
        ("actor/instance", None),
        ("subject", []),
        ("subject/extra", 1),
        ("authz", []),
        ("study", 7),
        ("data", []),
        ("data", None),
        ("evidence", {}),
        ("evidence/0", "11"),
        ("evidence/0/type", "x509"),
        ("evidence/0/sha256", None),
        ("sd", {}),
        ("sd/0", "abc"),
        ("sd/0/field", "b"),
        ("sd/0/field", "c"),
        ("sd/0/field", 7),
        ("sd/0/h", "AA"),
        ("sd/0/h", None),
    ],
)
def test_malformed_entries_are_refused(path: str, value: object) -> None:
    with pytest.raises(PeerFault, match="entry_malformed"):
        check_entry(mutate(path, value))


def test_only_the_canonical_form_is_an_entry() -> None:
    raw = build()
    entry = json.loads(raw)
    for other in (raw + b"\n", json.dumps(entry).encode(), raw[:-1], b"", b"[]", raw.replace(b'"v":1', b'"v":1,"v":1')):
        with pytest.raises(PeerFault, match="entry_malformed"):
            check_entry(other)
    del entry["authz"]
    with pytest.raises(PeerFault, match="entry_malformed"):
        check_entry(canonical_bytes(entry))


def test_the_longest_entry_fits_a_bundle() -> None:
    overhead = len(build(data={"text": ""}))
    raw = build(data={"text": "x" * (entries.MOST_BYTES - overhead)})
    assert len(raw) == entries.MOST_BYTES < 2**16
    with pytest.raises(Misuse, match="entry_malformed"):
        build(data={"text": "x" * (entries.MOST_BYTES - overhead + 1)})


def test_a_certificate_of_two_hundred_sites_fits() -> None:
    t = (200 + 66) // 2 + 1
    data = {"ctx_hash": "11" * 32, "stmt_hash": "22" * 32, "signers": ["s" * 20] * t}
    assert build(type_="round.cert", data=data, evidence=["33" * 32] * t, study="s" * 64)


def test_the_table_is_the_one_the_verifier_knows() -> None:
    assert {name: kind.evidence for name, kind in ENTRY_TYPES.items() if kind.evidence} == verify.EVIDENCE
    for study, form in ((None, verify.ENTRY), ("demo", verify.ENTRY_OF_STUDY)):
        entry = json.loads(build(study=study))
        assert entry.keys() == form.keys()
        assert all(check(entry[key]) for key, check in form.items())
    for kind in ENTRY_TYPES.values():
        assert kind.meaning
        assert kind.action in set("CRUDE")
