"""The form of a roster: what `check_roster` accepts and nothing else (PROTOCOLS A4; attack rows 4, 23, 24)."""

import re
from datetime import date
from itertools import pairwise

from shared.audit.log_checkpoint import ED25519, decode_vkey
from shared.canonical import JsonObject, from_b64u, hash_bytes, tagged_hash, u32
from shared.crypto.identity import VerifyKey
from shared.crypto.sealing import SUITE, KemPublicKey, check_public_key
from shared.errors import MitralError, PeerFault
from shared.ids import check_id

VERSION = "SA1"
LEAST_SITES = 3
MOST_SITES = 200
_TEXT_LIMIT = 200
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SITE = {"id", "name", "legal", "idk", "mldsa44", "log_key", "kem", "kem_seq", "kem_attest"}
_COORDINATOR = {"idk", "log_vkey", "kem"}
_ROSTER = {"v", "federation", "version", "prev", "c", "suite", "pinning", "sites", "coordinator", "not_after"}


def check_roster(roster: JsonObject) -> None:
    """Check form, order, uniqueness, ranges, every key and every KEM attestation; says nothing about approvals.

    Raises:
        PeerFault: ``roster_malformed`` naming what is wrong.
    """
    try:
        _check_header(_object(roster, _ROSTER, "the roster"))
        _check_sites(roster)
    except MitralError as error:
        if error.code == "roster_malformed":
            raise
        raise PeerFault("roster_malformed", error.detail) from error


def kem_attest_message(kem: KemPublicKey, kem_seq: int) -> bytes:
    """Return what an identity key signs for a KEM pair: ``H("SA1 kem", mlkem768 || x25519 || u32(kem_seq))``."""
    return tagged_hash("SA1 kem", kem.mlkem768, kem.x25519, u32(kem_seq))


def read_kem(entry: JsonObject) -> KemPublicKey:
    """Return the KEM pair of an entry.

    Raises:
        PeerFault: ``base64_malformed``, ``key_malformed``.
    """
    return KemPublicKey(from_b64u(entry["mlkem768"]), from_b64u(entry["x25519"]))


def is_count(value: object) -> bool:
    """Return whether `value` is a positive integer, and not a truth value in its clothes."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_header(roster: JsonObject) -> None:
    _require(roster["v"] == VERSION, "it is not of version SA1")
    check_id(roster["federation"], "federation")
    _require(is_count(roster["version"]), "version is not a positive integer")
    if roster["version"] == 1:
        _require(roster["prev"] is None, "version 1 has no previous roster")
    else:
        hash_bytes(roster["prev"])
    _require(roster["suite"] == SUITE and is_count(roster["suite"]), f"this release knows suite {SUITE} only")
    # Fails closed: the keys that `authority` pinning needs are not part of this release's trust configuration.
    _require(roster["pinning"] == "direct", "this release knows direct pinning only")
    last_day = roster["not_after"]
    _require(isinstance(last_day, str) and _DATE.fullmatch(last_day), "not_after is not a date")
    try:
        date.fromisoformat(last_day)
    except ValueError as error:
        raise PeerFault("roster_malformed", "not_after is not a date") from error


def _check_sites(roster: JsonObject) -> None:
    sites, coordinator = roster["sites"], _object(roster["coordinator"], _COORDINATOR, "the coordinator")
    _require(isinstance(sites, list), "sites is not a list")
    possible = LEAST_SITES <= len(sites) <= MOST_SITES
    _require(possible, f"it lists {len(sites)} sites, {LEAST_SITES} to {MOST_SITES} are possible")
    _require(is_count(roster["c"]) and roster["c"] <= len(sites) - 2, "c does not fit the number of sites")
    keys: list[bytes] = []
    for site in sites:
        keys += _check_site(_object(site, _SITE, "a site"))
    _require(all(one["id"] < two["id"] for one, two in pairwise(sites)), "site ids are not strictly ascending")
    _require(isinstance(coordinator["log_vkey"], str), "log_vkey is malformed")
    vkey = decode_vkey(coordinator["log_vkey"])
    _require(vkey.kind == ED25519, "log_vkey is not the key of a log")
    keys += [VerifyKey.from_bytes(from_b64u(coordinator["idk"], size=32)).bytes, vkey.key.bytes]
    keys += _checked_kem(coordinator["kem"])
    # One key in two places could be made to speak for both.
    _require(len(set(keys)) == len(keys), "a key stands in it twice")


def _check_site(site: JsonObject) -> list[bytes]:
    check_id(site["id"], "site id")
    _require(_is_line(site["name"]) and _is_line(site["legal"]), f"{site['id']}: name or legal is not a line of text")
    _require(site["mldsa44"] is None, f"{site['id']}: mldsa44 is reserved")
    _require(is_count(site["kem_seq"]) and site["kem_seq"] < 2**32, f"{site['id']}: kem_seq is not a number")
    idk = VerifyKey.from_bytes(from_b64u(site["idk"], size=32))
    log_key = VerifyKey.from_bytes(from_b64u(site["log_key"], size=32))
    kem = _checked_kem(site["kem"])
    idk.verify(from_b64u(site["kem_attest"], size=64), kem_attest_message(KemPublicKey(*kem), site["kem_seq"]))
    return [idk.bytes, log_key.bytes, *kem]


def _checked_kem(entry: object) -> tuple[bytes, bytes]:
    kem = read_kem(_object(entry, {"mlkem768", "x25519"}, "a KEM pair"))
    check_public_key(kem)
    return kem.mlkem768, kem.x25519


def _object(value: object, keys: set[str], what: str) -> JsonObject:
    if not isinstance(value, dict) or set(value) != keys:
        raise PeerFault("roster_malformed", f"{what} does not have exactly the keys {', '.join(sorted(keys))}")
    return value


def _is_line(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _TEXT_LIMIT and value.isprintable()


def _require(holds: object, detail: str) -> None:
    if not holds:
        raise PeerFault("roster_malformed", detail)
