"""Attack table A13 row 4: invented sites, swapped keys, re-added sites, shrunk rosters (PROTOCOLS A4)."""

import copy
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import pytest

from shared.canonical import JsonObject, b64u, canonical_bytes, from_b64u, tagged_hash
from shared.crypto.fingerprint import site_fingerprint
from shared.crypto.identity import SigningKey
from shared.crypto.sealing import KemPrivateKey, KemPublicKey
from shared.crypto.signed_envelope import sign_envelope
from shared.errors import PeerFault
from shared.secagg import roster as rosters

ZERO = "00" * 32
WITNESS_VKEY = "fed.example/site/site-a+7e7ea86d+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU"
LOG_VKEY = "fed.example/log/1+7914a22d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"


def key_of(name: str, purpose: str = "idk") -> SigningKey:
    return SigningKey.from_seed(tagged_hash("test", f"{name}/{purpose}".encode()))


@cache
def _kem(label: str) -> KemPublicKey:
    del label
    return KemPrivateKey.generate().public_key


def kem_of(name: str, seq: int = 1) -> KemPublicKey:
    return _kem(f"{name}/{seq}")


def entry(name: str, seq: int = 1, identity: str = "idk") -> JsonObject:
    key, kem = key_of(name, identity), kem_of(name, seq)
    return rosters.site_entry(
        name,
        name=f"Hospital {name}",
        legal=f"{name} e.V.",
        idk=key.verify_key,
        log_key=key_of(name, "log").verify_key,
        kem=kem,
        kem_seq=seq,
        attest=rosters.attest_kem(key, kem, seq),
    )


COORDINATOR = rosters.coordinator_entry(key_of("coordinator").verify_key, LOG_VKEY, kem_of("coordinator"))
NAMES = [f"site-{letter}" for letter in "abcdefghij"]


def build(names: list[str], version: int = 1, prev: JsonObject | None = None, **changes: Any) -> JsonObject:
    entries = changes.pop("entries", [entry(name) for name in names])
    return rosters.build_roster(
        "alpha",
        version,
        rosters.roster_hash(prev) if prev else None,
        sites=entries,
        coordinator=COORDINATOR,
        not_after=date(2027, 6, 30),
        **changes,
    )


def approve(roster: JsonObject, name: str, identity: str = "idk", changes: JsonObject | None = None) -> bytes:
    payload = {**rosters.approval_payload(roster, name, 4, ZERO), **(changes or {})}
    return sign_envelope("approval", payload, name, key_of(name, identity))


def approve_all(roster: JsonObject) -> list[bytes]:
    return [approve(roster, site["id"]) for site in roster["sites"]]


GENESIS = build(NAMES[:4])


def refused(code: str, act: Callable[..., object], *arguments: Any) -> str:
    with pytest.raises(PeerFault) as caught:
        act(*arguments)
    assert caught.value.code == code, caught.value
    return caught.value.detail


def test_a_genesis_roster_signed_by_all_is_accepted() -> None:
    messages = rosters.check_approvals(GENESIS, approve_all(GENESIS), None)
    assert [message.keyid for message in messages] == NAMES[:4]
    assert GENESIS["c"] == 1
    assert rosters.roster_hash(GENESIS) == tagged_hash("SA1 roster", canonical_bytes(GENESIS)).hex()
    assert rosters.roster_changes(None, GENESIS).added == NAMES[:4]


def test_sign_approval_is_what_check_approval_takes() -> None:
    raw = rosters.sign_approval(GENESIS, "site-a", 7, ZERO, key_of("site-a"))
    message = rosters.check_approval(GENESIS, raw, rosters.site_keys(GENESIS))
    assert message.body == {
        "v": "SA1",
        "kind": "roster",
        "roster": rosters.roster_hash(GENESIS),
        "version": 1,
        "site": "site-a",
        "seq": 7,
        "prev": ZERO,
    }


def test_lookups() -> None:
    assert rosters.site_keys(GENESIS)["site-b"] == key_of("site-b").verify_key
    assert rosters.log_keys(GENESIS)["site-b"] == key_of("site-b", "log").verify_key
    assert rosters.kem_keys(GENESIS)["site-b"] == kem_of("site-b")
    assert rosters.coordinator_key(GENESIS) == key_of("coordinator").verify_key
    assert rosters.coordinator_kem(GENESIS) == kem_of("coordinator")
    assert set(rosters.all_keys(GENESIS)) == {*NAMES[:4], "coordinator"}
    expected = site_fingerprint(key_of("site-a").verify_key.bytes, key_of("site-a", "log").verify_key.bytes)
    assert rosters.fingerprints(GENESIS)["site-a"] == expected
    assert not rosters.is_expired(GENESIS, datetime(2027, 6, 30, 23, 59, tzinfo=UTC))
    assert rosters.is_expired(GENESIS, datetime(2027, 7, 1, tzinfo=UTC))


@pytest.mark.parametrize(("count", "c", "quorum"), [(3, 1, 3), (4, 1, 3), (7, 2, 5), (10, 3, 7)])
def test_defaults_of_a3_and_quorum_of_a4(count: int, c: int, quorum: int) -> None:
    roster = build(NAMES[:count])
    assert (roster["c"], rosters.next_quorum(roster)) == (c, quorum)


def test_row_04_missing_and_foreign_approvals() -> None:
    envelopes = approve_all(GENESIS)
    detail = refused("roster_unapproved", rosters.check_approvals, GENESIS, envelopes[1:], None)
    assert "site-a" in detail
    refused("roster_unapproved", rosters.check_approvals, GENESIS, [envelopes[1]] * 4, None)
    refused("roster_unapproved", rosters.check_approvals, GENESIS, [], None)
    stranger = approve(GENESIS, "site-z")
    refused("signer_unknown", rosters.check_approvals, GENESIS, [*envelopes, stranger], None)
    forged = sign_envelope("approval", rosters.approval_payload(GENESIS, "site-a", 4, ZERO), "site-a", key_of("site-b"))
    refused("signature_invalid", rosters.check_approvals, GENESIS, [forged, *envelopes[1:]], None)
    wrong_kind = sign_envelope(
        "decision", rosters.approval_payload(GENESIS, "site-a", 4, ZERO), "site-a", key_of("site-a")
    )
    refused("envelope_kind", rosters.check_approvals, GENESIS, [wrong_kind, *envelopes[1:]], None)


@pytest.mark.parametrize(
    "changes",
    [
        {"roster": "11" * 32},
        {"version": 2},
        {"site": "site-b"},
        {"kind": "study"},
        {"v": "SA2"},
        {"seq": 0},
        {"seq": True},
        {"seq": None},
        {"prev": None},
        {"note": "x"},
    ],
)
def test_row_04_an_approval_of_something_else(changes: dict[str, Any]) -> None:
    envelopes = [approve(GENESIS, "site-a", changes=changes), *approve_all(GENESIS)[1:]]
    refused("roster_approval_foreign", rosters.check_approvals, GENESIS, envelopes, None)


def test_row_04_sites_cannot_be_invented_without_the_members() -> None:
    """The coordinator invents site-e, whose keys it holds: the new site signs, the members do not."""
    rogue = build(NAMES[:5], 2, GENESIS)
    refused("roster_unapproved", rosters.check_approvals, rogue, [approve(rogue, "site-e")], GENESIS)
    # A genesis roster of invented sites only is no successor of the active one.
    refused("roster_prev", rosters.check_approvals, build(NAMES[4:8], 2, build(NAMES[5:9])), [], GENESIS)
    refused("roster_prev", rosters.check_approvals, rogue, approve_all(rogue), None)


def test_row_04_the_roster_cannot_be_shrunk_without_a_quorum() -> None:
    active = build(NAMES[:7])
    shrunk = build(NAMES[:4], 2, active)
    detail = refused("roster_quorum", rosters.check_approvals, shrunk, approve_all(shrunk), active)
    assert detail == "4 members of version 1 agreed, 5 are needed"
    leaving = approve(shrunk, "site-e")
    assert len(rosters.check_approvals(shrunk, [*approve_all(shrunk), leaving], active)) == 5
    refused("roster_quorum", rosters.check_approvals, shrunk, [*approve_all(shrunk), approve(shrunk, "site-a")], active)


def test_row_04_a_swapped_key_needs_a_quorum_and_is_named() -> None:
    swapped = build([], 2, GENESIS, entries=[entry("site-a", identity="other"), *map(entry, NAMES[1:4])])
    assert rosters.roster_changes(GENESIS, swapped).rekeyed == ["site-a"]
    assert rosters.fingerprints(swapped)["site-a"] != rosters.fingerprints(GENESIS)["site-a"]
    others = [approve(swapped, name) for name in NAMES[1:4]]
    # Signed with the old key only: the new roster's key did not agree.
    refused("roster_unapproved", rosters.check_approvals, swapped, [approve(swapped, "site-a"), *others], GENESIS)
    # Signed by the thief and one member only: no quorum of the old version.
    refused(
        "roster_unapproved",
        rosters.check_approvals,
        swapped,
        [approve(swapped, "site-a", "other"), *others[:1]],
        GENESIS,
    )
    # A re-enrolled site with the agreement of all others is legal; every steward compares its fingerprint again.
    assert rosters.check_approvals(swapped, [approve(swapped, "site-a", "other"), *others], GENESIS)
    both = [approve(swapped, "site-a", "other"), approve(swapped, "site-a"), *others]
    assert len(rosters.check_approvals(swapped, both, GENESIS)) == 5


def test_row_04_a_swapped_key_counts_only_for_the_new_version() -> None:
    active = build(NAMES[:3])  # N = 3, c = 1: all three must agree
    swapped = build([], 2, active, entries=[entry("site-a", identity="other"), *map(entry, NAMES[1:3])])
    envelopes = [approve(swapped, "site-a", "other"), *(approve(swapped, name) for name in NAMES[1:3])]
    refused("roster_quorum", rosters.check_approvals, swapped, envelopes, active)
    assert rosters.check_approvals(swapped, [*envelopes, approve(swapped, "site-a")], active)


def test_row_04_version_and_prev_must_follow() -> None:
    second = build(NAMES[:5], 2, GENESIS)
    rosters.check_successor(GENESIS, second)
    rosters.check_successor(GENESIS, build(NAMES[:5], 4, GENESIS))  # drafts that never became active leave gaps
    refused("roster_version", rosters.check_successor, second, build(NAMES[:4], 2, second))
    refused("roster_version", rosters.check_successor, second, GENESIS)
    refused("roster_version", rosters.check_successor, GENESIS, GENESIS)
    refused("roster_prev", rosters.check_successor, GENESIS, build(NAMES[:4], 3, second))
    refused("roster_federation", rosters.check_successor, GENESIS, {**second, "federation": "beta"})


def test_row_04_a_removed_site_comes_back_only_with_everybody() -> None:
    without = build(NAMES[:3], 2, GENESIS)
    again = build(NAMES[:4], 3, without)
    assert rosters.roster_changes(without, again).added == ["site-d"]
    refused("roster_unapproved", rosters.check_approvals, again, [approve(again, "site-d")], without)
    replayed = approve_all(GENESIS)  # the approvals of the version it was part of say nothing about this one
    refused("roster_approval_foreign", rosters.check_approvals, again, replayed, without)


def test_kem_keys_change_only_under_a_higher_number() -> None:
    rotated = build([], 2, GENESIS, entries=[entry("site-a", 2), *map(entry, NAMES[1:4])])
    rosters.check_successor(GENESIS, rotated)
    assert rosters.roster_changes(GENESIS, rotated).rekeyed == []  # no new telephone call
    back = build([], 3, rotated, entries=[entry("site-a", 1), *map(entry, NAMES[1:4])])
    refused("roster_kem_seq", rosters.check_successor, rotated, back)


def mutations() -> dict[str, Callable[[JsonObject], object]]:
    def site(index: int, **changes: Any) -> Callable[[JsonObject], object]:
        return lambda roster: roster["sites"][index].update(changes)

    def top(**changes: Any) -> Callable[[JsonObject], object]:
        return lambda roster: roster.update(changes)

    other_kem = {"mlkem768": b64u(kem_of("other").mlkem768), "x25519": b64u(kem_of("other").x25519)}
    return {
        "other version of the protocol": top(v="SA2"),
        "unknown key": top(extra=1),
        "missing key": lambda roster: roster.pop("c"),
        "version 0": top(version=0),
        "version true": top(version=True),
        "version text": top(version="1"),
        "genesis with prev": top(prev=ZERO),
        "later version without prev": top(version=2),
        "prev in capitals": top(version=2, prev="AB" * 32),
        "c = 0": top(c=0),
        "c too large": top(c=3),
        "c text": top(c="1"),
        "suite 2": top(suite=2),
        "suite true": top(suite=True),
        "authority pinning": top(pinning="authority"),
        "pinning none": top(pinning=None),
        "bad date": top(not_after="2027-02-30"),
        "date of another form": top(not_after="20270630"),
        "date number": top(not_after=20270630),
        "federation id": top(federation="Alpha"),
        "sites is no list": top(sites={}),
        "two sites": lambda roster: roster["sites"].pop() and roster["sites"].pop(),
        "a site is text": lambda roster: roster["sites"].append("site-z"),
        "unsorted": lambda roster: roster["sites"].reverse(),
        "site twice": lambda roster: roster["sites"].insert(1, copy.deepcopy(roster["sites"][0])),
        "site with unknown key": site(0, role="boss"),
        "site id": site(0, id="Site A"),
        "site called coordinator": site(0, id="coordinator"),
        "site id number": site(0, id=7),
        "name with a line break": site(0, name="a\nb"),
        "name too long": site(0, name="a" * 201),
        "name missing": site(0, legal=None),
        "mldsa44 used": site(0, mldsa44="AA"),
        "kem_seq 0": site(0, kem_seq=0),
        "kem_seq too large": site(0, kem_seq=2**32),
        "kem_seq not the attested one": site(0, kem_seq=2),
        "idk of another": site(0, idk=b64u(key_of("x").verify_key.bytes)),
        "idk short": site(0, idk=b64u(bytes(31))),
        "idk of small order": site(0, idk=b64u(bytes(32))),
        "idk padded": lambda roster: roster["sites"][0].update(idk=roster["sites"][0]["idk"] + "="),
        "log_key equal to another's": lambda roster: roster["sites"][0].update(log_key=roster["sites"][1]["log_key"]),
        "log_key equal to own idk": lambda roster: roster["sites"][0].update(log_key=roster["sites"][0]["idk"]),
        "kem swapped": site(0, kem=other_kem),
        "kem incomplete": site(0, kem={"x25519": other_kem["x25519"]}),
        "kem of low order": site(0, kem={**other_kem, "x25519": b64u(bytes(32))}),
        "attestation of another": lambda roster: roster["sites"][0].update(kem_attest=roster["sites"][1]["kem_attest"]),
        "attestation short": site(0, kem_attest=b64u(bytes(63))),
        "coordinator is a list": top(coordinator=[]),
        "coordinator lacks its KEM pair": lambda roster: roster["coordinator"].pop("kem"),
        "coordinator with a site's key": lambda roster: roster["coordinator"].update(idk=roster["sites"][0]["idk"]),
        "log_vkey of a witness": lambda roster: roster["coordinator"].update(log_vkey=WITNESS_VKEY),
        "log_vkey with another key id": lambda roster: roster["coordinator"].update(
            log_vkey=LOG_VKEY.replace("79", "78")
        ),
        "log_vkey malformed": lambda roster: roster["coordinator"].update(log_vkey="log"),
        "log_vkey with a line break": lambda roster: roster["coordinator"].update(log_vkey=LOG_VKEY + "\n"),
    }


@pytest.mark.parametrize("name", sorted(mutations()))
def test_row_04_malformed_rosters(name: str) -> None:
    roster = copy.deepcopy(GENESIS)
    mutations()[name](roster)
    refused("roster_malformed", rosters.check_roster, roster)


def test_row_04_two_sites_cannot_share_a_kem_key() -> None:
    """Site b copies site a's KEM keys and attests them itself: it would receive what is sealed for a."""
    key, kem = key_of("site-b"), kem_of("site-a")
    copied = entry("site-b") | {
        "kem": entry("site-a")["kem"],
        "kem_attest": b64u(rosters.attest_kem(key, kem, 1)),
    }
    with pytest.raises(PeerFault, match="twice"):
        build([], entries=[entry("site-a"), copied, entry("site-c")])


def test_attestation_is_over_the_stated_bytes() -> None:
    kem = kem_of("site-a")
    message = tagged_hash("SA1 kem", kem.mlkem768 + kem.x25519 + (1).to_bytes(4, "big"))
    assert rosters.kem_attest_message(kem, 1) == message
    key_of("site-a").verify_key.verify(from_b64u(GENESIS["sites"][0]["kem_attest"]), message)


def test_too_many_sites() -> None:
    refused("roster_malformed", rosters.check_roster, {**GENESIS, "sites": GENESIS["sites"] * 51})
