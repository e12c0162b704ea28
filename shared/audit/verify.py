"""Verify an audit export of Mitral, offline and alone.

    python verify.py audit-export.zip [--roster-hash HEX]

This file imports the standard library and `cryptography`, nothing of Mitral, so that an auditor can read it in one
sitting and keep it. It answers with one sentence per rule: what holds, or the first entry that does not.

Trust comes from outside: give with ``--roster-hash`` the hash of a roster version you have from another source than the
coordinator (a consortium agreement, a partner's web site). Without it the export is checked for consistency only.

Formats: RFC 6962 tree in C2SP tlog-tiles, C2SP signed note, RFC 8785 entries, DSSE envelopes. "PROTOCOLS" clauses are
those of Mitral's protocol documentation.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    if __name__ != "__main__":
        raise
    print("This verifier needs the Python package `cryptography`: pip install cryptography", file=sys.stderr)  # noqa: T201
    raise SystemExit(2) from None

MOST_MEMBERS = 1_000_000
MOST_MEMBER_BYTES = 64 * 2**20
MOST_BYTES = 2 * 2**30
MOST_ENTRY_BYTES = 16 * 1024
TILE = 256  # hashes per tile, entries per bundle

Json = dict[str, Any]
ID = re.compile(r"[a-z0-9._-]{1,64}")
HASH = re.compile(r"[0-9a-f]{64}")
ORIGIN = re.compile(r"[!-*,-~]{1,200}")
MEMBER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
FIXED = {"checkpoint", "policy", "README", "verify.py", "MANIFEST"}
ENTRY_KEYS = {"v", "log", "id", "ts", "type", "actor", "action", "outcome", "study", "subject", "authz", "data"}
ENTRY_KEYS |= {"evidence", "sd"}
# What a site did is shown by the message it signed: entry type -> kind of message.
EVIDENCE = {
    "roster.approved": "approval",
    "plan.approved": "approval",
    "plan.withdrawn": "approval",
    "pairing.complaint": "complaint",
    "state.reset": "state.reset",
    "round.refused": "refusal",
    "round.upload": "manifest",
    "round.complaint": "complaint",
    "round.decided": "decision",
    "round.cert": "decision",
    "round.attested": "attestation",
}
# What a malformed archive can make Python raise while it is read; every other error is a bug of this file.
MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, AttributeError)


class Broken(Exception):
    """A rule does not hold; the text says where."""


@dataclass(frozen=True)
class Finding:
    """One rule and what came of it; `holds` is None when an earlier failure made it pointless."""

    rule: str
    holds: bool | None
    sentence: str


@dataclass(frozen=True)
class Report:
    """Every rule's finding, in order."""

    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Return whether every rule holds."""
        return all(finding.holds for finding in self.findings)

    def lines(self) -> list[str]:
        """Return one line per rule, and the verdict."""
        words = {True: "holds ", False: "BROKEN", None: "  -   "}
        lines = [f"{words[one.holds]}  {one.rule:<12}  {one.sentence}" for one in self.findings]
        return [*lines, "The export is " + ("verified." if self.ok else "NOT verified.")]


@dataclass(frozen=True)
class Signed:
    """A message whose signature was verified."""

    kind: str
    signer: str
    key: bytes
    body: Json
    payload: bytes


@dataclass
class Export:
    """What has been read and verified so far."""

    path: Path
    root_hash: str | None
    members: dict[str, bytes] = field(default_factory=dict)
    rosters: dict[str, Json] = field(default_factory=dict)  # by hash, in the order of their versions
    keys: dict[str, dict[str, bytes]] = field(default_factory=dict)  # roster hash -> site or coordinator -> key
    origin: str = ""
    size: int = 0
    root: bytes = b""
    note: str = ""
    leaves: list[bytes] = field(default_factory=list)
    entries: list[Json] = field(default_factory=list)
    evidence: dict[str, Signed] = field(default_factory=dict)  # by SHA-256 of the envelope
    contexts: dict[str, Json] = field(default_factory=dict)  # by hash
    opened_at: dict[str, int] = field(default_factory=dict)  # context hash -> place of its round.open

    @property
    def newest(self) -> str:
        """Return the hash of the newest roster."""
        return next(reversed(self.rosters))

    at: int | None = None  # the entry being looked at, for the message when something in it is malformed

    def of(self, *types: str) -> Iterator[tuple[int, Json]]:
        """Yield the entries of these types (of all, without one) with their places."""
        for index, entry in enumerate(self.entries):
            if not types or entry["type"] in types:
                self.at = index
                yield index, entry
        self.at = None

    def place(self) -> str:
        """Return what is being looked at, for a message."""
        return "a member" if self.at is None else f"entry {self.at}"

    def signed(self, entry: Json) -> list[Signed]:
        """Return the verified messages an entry rests on."""
        return [self.evidence[item["sha256"]] for item in entry["evidence"]]


# --- encodings: PROTOCOLS section 1 -----------------------------------------------------------------------------------


def sha256(data: bytes) -> str:
    """Return the hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    """Return ``SHA-256(tag || 0x00 || parts...)``."""
    return hashlib.sha256(tag.encode() + b"\x00" + b"".join(parts)).digest()


def canonical(value: object) -> bytes:
    """Return the RFC 8785 bytes; here numbers are integers and keys ASCII, so Python's own form is canonical."""
    return _ENCODER.encode(value).encode()


def parse(raw: bytes, what: str) -> Any:  # noqa: ANN401 (whatever shape it has; whoever reads it checks)
    """Return what canonical JSON says, if two parsers could not read it differently.

    Raises:
        Broken: it is not.
    """
    try:
        value = _DECODER.decode(raw.decode())
        flaw = "" if canonical(value) == raw else "it is not canonical"
    except (ValueError, RecursionError) as error:
        flaw = str(error)[:100]
    if flaw:
        raise Broken(f"{what} is not strict JSON: {flaw}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    if not "".join(result).isascii():
        raise ValueError("a key that is not ASCII")
    return result


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= 2**53:
        raise ValueError("an integer outside +-(2^53-1)")
    return int(text)


def _refuse(text: str) -> None:
    raise ValueError(f"{text[:20]} is not an integer")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_refuse, parse_constant=_refuse)


def unbase64(text: object, size: int | None = None, *, url: bool = False) -> bytes:
    """Decode base64 (or base64url without padding) that has exactly one spelling."""
    if not isinstance(text, str):
        raise Broken("a binary field is not text")
    padded = text + "=" * (-len(text) % 4) if url else text
    try:
        data = base64.b64decode(padded, altchars=b"-_" if url else None, validate=True)
    except ValueError:
        raise Broken("a binary field is not base64") from None
    again = base64.b64encode(data, altchars=b"-_" if url else None).decode()
    if (again.rstrip("=") if url else again) != text or (size is not None and len(data) != size):
        raise Broken("a binary field has another form or length")
    return data


def verify_signature(key: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether an Ed25519 signature is good."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def open_envelope(raw: bytes, what: str, keys: Callable[[str], Iterable[bytes]]) -> Signed:
    """Verify a DSSE envelope under one of the `keys` that its signer may use; parse the payload only then."""
    envelope = parse(raw, what)
    if not isinstance(envelope, dict) or set(envelope) != {"payload", "payloadType", "signatures"}:
        raise Broken(f"{what} is no envelope")
    (signature,) = envelope["signatures"]
    match = re.fullmatch(r"application/vnd\.mitral\.sa1\.([a-z.]+)\+json", envelope["payloadType"])
    signer = signature["keyid"]
    if match is None or set(signature) != {"keyid", "sig"} or not ID.fullmatch(signer):
        raise Broken(f"{what} is no envelope of Mitral")
    payload, kind = unbase64(envelope["payload"]), envelope["payloadType"].encode()
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    raw_signature = unbase64(signature["sig"], 64)
    key = next((one for one in keys(signer) if verify_signature(one, raw_signature, encoded)), None)
    if key is None:
        raise Broken(f"{what} is not signed by {signer} under a key of the roster")
    body = parse(payload, f"the payload of {what}")
    if not isinstance(body, dict):
        raise Broken(f"the payload of {what} is no object")
    return Signed(match[1], signer, key, body, payload)


# --- the archive ------------------------------------------------------------------------------------------------------


def check_archive(export: Export) -> str:
    """Read every member within limits; refuse names that could mean two things."""
    try:
        with zipfile.ZipFile(export.path) as archive:
            _read_members(archive, export.members)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Broken(f"the archive cannot be read: {str(error)[:200]}") from None
    missing = sorted(FIXED - set(export.members))
    if missing:
        raise Broken(f"the archive lacks {', '.join(missing)}")
    for name in export.members:
        if name not in FIXED and not name.startswith(("tile/", "rosters/", "dsse/", "contexts/")):
            raise Broken(f"member {name} is not part of an export")
    return f"The archive has {len(export.members)} members, each once and under a plain name."


def _read_members(archive: zipfile.ZipFile, members: dict[str, bytes]) -> None:
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise Broken(f"the archive has {len(infos)} members, more than {MOST_MEMBERS}")
    total = 0
    for info in infos:
        name = info.filename
        if not MEMBER.fullmatch(name) or info.orig_filename != name:
            raise Broken(f"member {name[:100]!r} has no plain name")
        if name in members:
            raise Broken(f"member {name} is there twice")
        if info.flag_bits & 1 or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise Broken(f"member {name} is encrypted or compressed in an unknown way")
        with archive.open(info) as file:  # what the header says about its size is not believed
            data = file.read(MOST_MEMBER_BYTES + 1)
        total += len(data)
        if len(data) > MOST_MEMBER_BYTES or total > MOST_BYTES:
            raise Broken(f"member {name} makes the archive larger than an export can be")
        members[name] = data


def check_rosters(export: Export) -> str:
    """Walk the chain of rosters: each signed by all its sites and agreed to by a quorum of the one before (A4)."""
    versions = sorted(
        int(match[1]) for name in export.members if (match := re.fullmatch(r"rosters/([1-9][0-9]{0,9})\.json", name))
    )
    expected = {f"rosters/{version}{end}" for version in versions for end in (".json", ".approvals.json")}
    odd = {name for name in export.members if name.startswith("rosters/")} ^ expected
    if odd or not versions:
        raise Broken(f"the archive holds no roster, or half of one ({', '.join(sorted(odd))[:200]})")
    previous: Json | None = None
    for version in versions:
        roster = parse(export.members[f"rosters/{version}.json"], f"roster {version}")
        _check_roster(roster, version, previous)
        approvals = parse(export.members[f"rosters/{version}.approvals.json"], f"approvals of roster {version}")
        _check_approvals(roster, previous, approvals)
        export.rosters[roster_hash(roster)] = previous = roster
        export.keys[roster_hash(roster)] = site_keys(roster)
    hashes = list(export.rosters)
    chain = f"{len(versions)} roster version(s), each signed by all its sites and by a quorum of the one before"
    if export.root_hash is None:
        return f"{chain}. NO ROSTER HASH WAS GIVEN: this shows consistency, not whose hospitals these are."
    if export.root_hash not in hashes:
        raise Broken("the roster hash you gave is not that of any roster version in the archive")
    return f"{chain}; version {versions[hashes.index(export.root_hash)]} has the hash you gave."


def roster_hash(roster: Json) -> str:
    """Return ``H("SA1 roster", JCS)``."""
    return tagged_hash("SA1 roster", canonical(roster)).hex()


def site_keys(roster: Json) -> dict[str, bytes]:
    """Return site id or ``coordinator`` -> identity key."""
    keys = {site["id"]: unbase64(site["idk"], 32, url=True) for site in roster["sites"]}
    return {**keys, "coordinator": unbase64(roster["coordinator"]["idk"], 32, url=True)}


def _check_roster(roster: Json, version: int, previous: Json | None) -> None:
    sites = [site["id"] for site in roster["sites"]]
    if (
        roster["v"] != "SA1"
        or roster["version"] != version
        or "coordinator" in sites
        or not all(map(ID.fullmatch, sites))
    ):
        raise Broken(f"roster {version} is malformed")
    if any(one >= two for one, two in pairwise(sites)) or len(set(site_keys(roster).values())) != len(sites) + 1:
        raise Broken(f"roster {version} lists a site or a key twice")
    if not (isinstance(roster["c"], int) and 1 <= roster["c"] <= len(sites) - 2):
        raise Broken(f"roster {version} has an impossible c")
    if roster["prev"] != (roster_hash(previous) if previous else None):
        raise Broken(f"roster {version} does not follow the version before it")
    for site in roster["sites"]:
        kem = [unbase64(site["kem"]["mlkem768"], 1184, url=True), unbase64(site["kem"]["x25519"], 32, url=True)]
        attested = tagged_hash("SA1 kem", *kem, site["kem_seq"].to_bytes(4, "big"))
        if not verify_signature(unbase64(site["idk"], url=True), unbase64(site["kem_attest"], 64, url=True), attested):
            raise Broken(f"roster {version}: {site['id']} did not attest its KEM keys")


def _check_approvals(roster: Json, previous: Json | None, approvals: list[Json]) -> None:
    version, wanted = roster["version"], roster_hash(roster)
    own, former = site_keys(roster), site_keys(previous) if previous else {}
    accepted: set[str] = set()
    agreed: set[str] = set()
    for envelope in approvals:
        what = f"an approval of roster {version}"
        signed = open_envelope(canonical(envelope), what, lambda who: _keys_of(who, [own, former]))
        body, signer = signed.body, signed.signer
        stated = (signed.kind, body["kind"], body["roster"], body["version"], body["site"])
        if stated != ("approval", "roster", wanted, version, signer) or signer == "coordinator":
            raise Broken(f"{signer} approved something else than roster {version}")
        accepted |= {signer} if signed.key == own.get(signer) else set()
        agreed |= {signer} if signed.key == former.get(signer) else set()
    missing = sorted(set(own) - {"coordinator"} - accepted)
    if missing:
        raise Broken(f"roster {version} is not signed by {', '.join(missing)}")
    if previous is not None and len(agreed) < (quorum := (len(previous["sites"]) + previous["c"]) // 2 + 1):
        raise Broken(f"roster {version}: {len(agreed)} members of the version before agreed, {quorum} are needed")


def _keys_of(signer: str, rosters: Iterable[dict[str, bytes]]) -> list[bytes]:
    return list(dict.fromkeys(keys[signer] for keys in rosters if signer in keys))


def check_manifest(export: Export) -> str:
    """Check that the coordinator signed the hash of every member."""
    coordinator = export.keys[export.newest]["coordinator"]
    signed = open_envelope(export.members["MANIFEST"], "MANIFEST", lambda who: [coordinator] * (who == "coordinator"))
    if signed.kind != "export":
        raise Broken("MANIFEST is signed as something else")
    listed = {item["name"]: item["sha256"] for item in signed.body["members"]}
    actual = {name: sha256(data) for name, data in export.members.items() if name != "MANIFEST"}
    if len(listed) != len(signed.body["members"]):
        raise Broken("MANIFEST lists a member twice")
    for name in sorted(set(listed) | set(actual)):
        if listed.get(name) != actual.get(name):
            raise Broken(f"member {name} is not what the coordinator signed")
    return "The coordinator signed the hash of every member."


# --- the log ----------------------------------------------------------------------------------------------------------


def check_checkpoint(export: Export) -> str:
    """Check that the log's head is signed by the log key in the newest roster (C2SP signed note)."""
    vkey = export.rosters[export.newest]["coordinator"]["log_vkey"]
    export.note = export.members["checkpoint"].decode()
    body, blank, tail = export.note.rpartition("\n\n")
    lines = body.split("\n")
    if not blank or len(lines) != 3 or not re.fullmatch(r"0|[1-9][0-9]{0,15}", lines[1]):
        raise Broken("the checkpoint is not origin, size and root")
    export.origin, export.size, export.root = lines[0], int(lines[1]), unbase64(lines[2], 32)
    name, key_id, key = read_vkey(vkey, 1)
    if name != export.origin or not ORIGIN.fullmatch(name):
        raise Broken(f"the checkpoint is of {export.origin!r}, the roster names {name!r}")
    found = [raw for raw in signatures_of(tail, name, key_id) if verify_signature(key, raw, (body + "\n").encode())]
    if not found:
        raise Broken("the checkpoint is not signed by the log's key")
    if export.members["policy"].decode().split("\n")[0] != f"log {vkey}":
        raise Broken("the policy names another log key than the roster")
    return f"{export.origin}: a head of {export.size} entries, signed by the log's key."


def read_vkey(text: str, kind: int) -> tuple[str, bytes, bytes]:
    """Return name, key id and key of a C2SP verifier key of a signature type."""
    name, hexed, encoded = text.split("+", 2)
    raw = unbase64(encoded, 33)
    key_id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if raw[0] != kind or key_id.hex() != hexed:
        raise Broken(f"{text[:100]!r} is not a verifier key of type {kind}")
    return name, key_id, raw[1:]


def signatures_of(tail: str, name: str, key_id: bytes) -> list[bytes]:
    """Return the signatures a note carries under a name and key id; lines of other keys are ignored."""
    found = []
    for line in tail.removesuffix("\n").split("\n"):
        dash, *rest = line.split(" ")
        if dash != "\u2014" or len(rest) != 2:
            raise Broken("a signature line of the checkpoint is malformed")
        raw = unbase64(rest[1])
        if rest[0] == name and raw[:4] == key_id:
            found.append(raw[4:])
    return found


def check_tree(export: Export) -> str:
    """Recompute the root from all entries; every tile must be byte for byte what C2SP tlog-tiles asks for."""
    expected = set()
    for number, width in _tiles(export.size):
        name = tile_path("tile/entries", number, width)
        expected.add(name)
        export.leaves += _split_bundle(_member(export, name), width, name)
    hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in export.leaves]
    root, level = tree_root(hashes), 0
    while hashes:
        for number, width in _tiles(len(hashes)):
            name = tile_path(f"tile/{level}", number, width)
            expected.add(name)
            start = number * TILE
            if _member(export, name) != b"".join(hashes[start : start + width]):
                raise Broken(f"member {name} does not hold the hashes of the entries")
        hashes = [tree_root(hashes[start : start + TILE]) for start in range(0, len(hashes) - TILE + 1, TILE)]
        level += 1
    odd = sorted({name for name in export.members if name.startswith("tile/")} - expected)
    if odd:
        raise Broken(f"member {odd[0]} is not part of a tree of {export.size} entries")
    if root != export.root:
        raise Broken("the entries do not give the root that the log signed")
    return f"All {export.size} entries give the signed root; nothing was added, changed, removed or moved."


def tile_path(prefix: str, number: int, width: int) -> str:
    """Return the path of a tile: groups of three digits, and the width of a partial one."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return f"{prefix}/{'/'.join(groups)}" + ("" if width == TILE else f".p/{width}")


def tree_root(hashes: list[bytes]) -> bytes:
    """Return the RFC 6962 root over leaf or subtree hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    while len(hashes) > 1:  # a last node without a sibling moves up unchanged
        pairs = zip(hashes[::2], hashes[1::2], strict=False)
        hashes = [hashlib.sha256(b"\x01" + one + two).digest() for one, two in pairs] + hashes[len(hashes) & ~1 :]
    return hashes[0]


def _tiles(count: int) -> Iterator[tuple[int, int]]:
    return ((number, min(TILE, count - number * TILE)) for number in range((count + TILE - 1) // TILE))


def _member(export: Export, name: str) -> bytes:
    if name not in export.members:
        raise Broken(f"the archive lacks {name}")
    return export.members[name]


def _split_bundle(data: bytes, width: int, name: str) -> list[bytes]:
    leaves, at = [], 0
    for _ in range(width):
        size = int.from_bytes(data[at : at + 2], "big")
        leaves.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(data):
        raise Broken(f"member {name} does not hold exactly {width} entries")
    return leaves


def check_entries(export: Export) -> str:
    """Check that entries are canonical, have the agreed form, unique ids and times that never go back."""
    seen: set[str] = set()
    last = ""
    for index, leaf in enumerate(export.leaves):
        export.at = index
        entry = parse(leaf, f"entry {index}")
        flaw = _entry_flaw(entry, export.origin)
        if not flaw and entry["id"] in seen:
            flaw = "its id was used before"
        if not flaw and entry["ts"] < last:
            flaw = f"its time {entry['ts']} is before {last}"
        if flaw or len(leaf) > MOST_ENTRY_BYTES:
            raise Broken(f"entry {index}: {flaw or 'it is too large'}")
        seen.add(entry["id"])
        last = entry["ts"]
        export.entries.append(entry)
    span = f" from {export.entries[0]['ts']} to {last}" if export.entries else ""
    return f"{len(export.entries)} entries{span} have the agreed form, unique ids and times that never go back."


def _entry_flaw(entry: object, origin: str) -> str:
    if not isinstance(entry, dict) or set(entry) != ENTRY_KEYS:
        return "its keys are not exactly those of an entry"
    evidence, committed = entry["evidence"], entry["sd"]
    fields = [item["field"] for item in committed]
    rules = {
        "v is not 1": type(entry["v"]) is int and entry["v"] == 1,
        "it is of another log": entry["log"] == origin,
        "id is no UUID version 7": UUID7.fullmatch(entry["id"]),
        "ts is no time": TIME.fullmatch(entry["ts"]),
        "type is malformed": isinstance(entry["type"], str),
        "actor is malformed": set(entry["actor"]) == {"kind", "id", "authn", "instance"},
        "action is malformed": entry["action"] in set("CRUDE"),
        "outcome is malformed": entry["outcome"] in {"success", "minor", "serious", "major"},
        "study is malformed": entry["study"] is None or ID.fullmatch(entry["study"]),
        "data is malformed": isinstance(entry["data"], dict),
        "its evidence is malformed": all(
            item["type"] == "dsse" and set(item) == {"type", "sha256"} and HASH.fullmatch(item["sha256"])
            for item in evidence
        ),
        "its commitments are not sorted and unique": fields == sorted(set(fields)),
        "a commitment is malformed": all(unbase64(item["h"], 32, url=True) for item in committed),
        f"{entry['type']} rests on no signed message": entry["type"] not in EVIDENCE or evidence,
    }
    return next((flaw for flaw, holds in rules.items() if not holds), "")


# --- who signed what --------------------------------------------------------------------------------------------------


def check_evidence(export: Export) -> str:
    """Check that what sites are said to have done, they signed, under keys of a roster active by then."""
    every = [(export.rosters[one]["version"], keys) for one, keys in export.keys.items()]
    active = 0
    for index, entry in export.of():
        if entry["type"] == "roster.activated":
            active = max(active, entry["data"]["version"])
        # An approval comes before its roster is active; every other message after.
        ahead = entry["type"] == "roster.approved" or not active
        for item in entry["evidence"]:
            name, digest = f"dsse/{item['sha256']}.json", item["sha256"]
            what = f"entry {index} ({entry['type']}): {name}"
            if digest not in export.evidence:
                raw = _member(export, name)
                if sha256(raw) != digest:
                    raise Broken(f"{what} is another message")
                usable = [keys for version, keys in every if ahead or version <= active]
                export.evidence[digest] = open_envelope(raw, what, partial(_keys_of, rosters=usable))
            _check_agreement(index, entry, export.evidence[digest])
    named = {f"dsse/{digest}.json" for digest in export.evidence}
    odd = sorted({name for name in export.members if name.startswith("dsse/")} - named)
    if odd:
        raise Broken(f"member {odd[0]} is named by no entry")
    return f"{len(named)} signed messages bear out what the entries say, under keys of a roster active by then."


def _check_agreement(index: int, entry: Json, signed: Signed) -> None:
    """Entry and message agree wherever both name something."""
    where, body, data = f"entry {index} ({entry['type']})", signed.body, entry["data"]
    if signed.kind == "unmask":
        raise Broken(f"{where}: released shares must not be kept")
    if EVIDENCE.get(entry["type"], signed.kind) != signed.kind:
        raise Broken(f"{where}: it rests on a signed {signed.kind}")
    if signed.signer != body.get("site", signed.signer) or data.get("site", signed.signer) != signed.signer:
        raise Broken(f"{where}: {signed.signer} signed it, another site is named")
    facts = {**data, "study": entry["study"]} if entry["study"] else data
    for name in set(facts) & set(body) - {"kind"}:
        if facts[name] != body[name]:
            raise Broken(f"{where}: {signed.signer} signed another {name}")
    if data.get("manifest_hash", sha256(signed.payload)) != sha256(signed.payload):
        raise Broken(f"{where}: it is another manifest")
    decision = {"plan.approved": "approve", "plan.withdrawn": "withdraw"}.get(entry["type"])
    if decision and (body.get("kind"), body.get("decision")) != ("study", decision):
        raise Broken(f"{where}: {signed.signer} signed another decision")


# --- the protocol, replayed -------------------------------------------------------------------------------------------


def check_contexts(export: Export) -> str:
    """Check that contexts were opened once, whole, under an active roster, one outcome after the other (A3, A7 R0)."""
    active, opened = 0, set()
    newest: dict[str, str | None] = {}
    last_round: dict[tuple[str, str], int] = {}
    for index, entry in export.of("roster.activated", "round.result", "round.open"):
        data, where = entry["data"], f"entry {index} ({entry['type']})"
        if entry["type"] == "roster.activated":
            active = max(active, data["version"])
            if data["roster"] not in export.rosters:
                raise Broken(f"{where}: that roster is not in the archive")
            continue
        if entry["type"] == "round.result":
            newest[entry["study"]] = tagged_hash("SA1 outcome", canonical(data["outcome"])).hex()
            continue
        ctx = parse(_member(export, f"contexts/{data['ctx_hash']}.json"), f"{where}: its context")
        if tagged_hash("SA1 ctx", canonical(ctx)).hex() != data["ctx_hash"] or data["ctx_hash"] in opened:
            raise Broken(f"{where}: its context is another one, or was opened before")
        _check_context(
            ctx, entry, {one: roster for one, roster in export.rosters.items() if roster["version"] <= active}, where
        )
        if ctx["prev"] != newest.get(ctx["study"]):
            raise Broken(f"{where}: it does not follow the newest outcome of the study")
        series = (ctx["study"], ctx["kind"])
        if ctx["round"] <= last_round.get(series, 0):
            raise Broken(f"{where}: round {ctx['round']} of this study and kind is not after the last one")
        last_round[series] = ctx["round"]
        opened.add(data["ctx_hash"])
        export.contexts[data["ctx_hash"]] = ctx
        export.opened_at[data["ctx_hash"]] = index
    odd = sorted(
        {name for name in export.members if name.startswith("contexts/")} - {f"contexts/{h}.json" for h in opened}
    )
    if odd:
        raise Broken(f"member {odd[0]} was opened by no entry")
    return (
        f"{len(opened)} rounds were opened, each once, under an active roster, with thresholds that protect the sites."
    )


def _check_context(ctx: Json, entry: Json, rosters: dict[str, Json], where: str) -> None:
    data, sites, n = entry["data"], invited(ctx), len(ctx["P"])
    for name in ("round", "kind", "model", "plan", "roster"):
        if ctx[name] != data[name]:
            raise Broken(f"{where}: its context names another {name}")
    roster = rosters.get(ctx["roster"])
    if roster is None or ctx["study"] != entry["study"]:
        raise Broken(f"{where}: its context names another study, or a roster that was not active")
    if any(one >= two for one, two in pairwise(sites)) or not set(sites) <= {site["id"] for site in roster["sites"]}:
        raise Broken(f"{where}: the invited sites are not distinct members of the roster")
    if ctx["c"] != roster["c"] or ctx["t"] != (n + ctx["c"]) // 2 + 1 or ctx["t"] > n:
        raise Broken(f"{where}: c or t is not what the roster and {n} sites ask for")
    if not max(3, ctx["c"] + 2) <= ctx["m"] <= n:
        raise Broken(f"{where}: m = {ctx['m']} would let a sum show too few honest sites")


def invited(ctx: Json) -> list[str]:
    """Return the ids in P."""
    return [participant["site"] for participant in ctx["P"]]


def check_uploads(export: Export) -> str:
    """Check that no site trained without its steward's approval of that very plan, nor twice, nor too late."""
    approved: dict[tuple[str, str], str] = {}
    uploaded, closed = set(), set()
    for index, entry in export.of(
        "plan.approved", "plan.withdrawn", "round.upload", "round.close.proposed", "round.refused"
    ):
        data, where = entry["data"], f"entry {index} ({entry['type']})"
        if entry["type"] == "plan.approved":
            approved[entry["study"], data["site"]] = data["plan"]
        elif entry["type"] == "plan.withdrawn":
            approved.pop((entry["study"], data["site"]), None)
        elif entry["type"] == "round.close.proposed":
            closed.add(data["ctx_hash"])
        elif entry["type"] == "round.upload":
            ctx, act = _context(export, index, entry), (data["ctx_hash"], data["site"])
            if data["site"] not in invited(ctx) or data["ctx_hash"] in closed or act in uploaded:
                raise Broken(f"{where}: {data['site']} was not invited, was late, or uploaded twice")
            if approved.get((ctx["study"], data["site"])) != ctx["plan"]:
                raise Broken(f"{where}: {data['site']} had not approved this study protocol")
            _check_keys(export, ctx, export.signed(entry), where)
            uploaded.add(act)
    return (
        f"{len(uploaded)} masked updates arrived, each invited, in time, once, and under a plan its site had approved."
    )


def check_certificates(export: Export) -> str:
    """Check that each close rests on t signatures over one statement, and that no site signed two (A7 R2, A12.1)."""
    manifests = {
        (entry["data"]["ctx_hash"], entry["data"]["site"]): entry["data"]["manifest_hash"]
        for _, entry in export.of("round.upload")
    }
    proposed: dict[str, str] = {}
    certified: dict[str, str] = {}
    for index, entry in export.of("round.close.proposed", "round.cert"):
        data, where = entry["data"], f"entry {index} ({entry['type']})"
        ctx_hash, stmt_hash = data["ctx_hash"], data["stmt_hash"]
        ctx = _context(export, index, entry)
        if entry["type"] == "round.close.proposed":
            if ctx_hash in proposed:
                raise Broken(f"{where}: this context was closed before")
            proposed[ctx_hash] = stmt_hash
            continue
        if proposed.get(ctx_hash) != stmt_hash or ctx_hash in certified:
            raise Broken(f"{where}: the statement was not proposed, or one was certified before")
        certified[ctx_hash] = stmt_hash
        decisions = export.signed(entry)
        _check_keys(export, ctx, decisions, where)
        _check_certificate(ctx, decisions, stmt_hash, manifests, where)
    said: dict[tuple[str, str], bytes] = {}
    for signed in export.evidence.values():
        if signed.kind == "decision":
            stmt = canonical(signed.body["stmt"])
            if said.setdefault((signed.body["stmt"]["ctx"], signed.signer), stmt) != stmt:
                raise Broken(f"{signed.signer} signed two survivor sets of one context")
    return (
        f"{len(certified)} rounds were closed, each once, by enough signatures of invited sites over one survivor set."
    )


def _check_certificate(
    ctx: Json, decisions: list[Signed], stmt_hash: str, manifests: dict[tuple[str, str], str], where: str
) -> None:
    statements = {canonical(signed.body["stmt"]) for signed in decisions}
    signers = {signed.signer for signed in decisions}
    if len(statements) != 1 or len(signers) != len(decisions) or not signers <= set(invited(ctx)):
        raise Broken(f"{where}: the decisions are not over one statement, by distinct invited sites")
    if len(signers) < ctx["t"]:
        raise Broken(f"{where}: {len(signers)} sites signed, {ctx['t']} are needed")
    stmt = json.loads(statements.pop())
    survivors, ctx_hash = stmt["U"], tagged_hash("SA1 ctx", canonical(ctx)).hex()
    if (stmt["v"], stmt["kind"], stmt["ctx"]) != ("SA1", "close", ctx_hash) or set(stmt) != {
        "v",
        "kind",
        "ctx",
        "U",
        "uploads",
    }:
        raise Broken(f"{where}: the statement is about something else")
    if tagged_hash("SA1 stmt", canonical(stmt)).hex() != stmt_hash:
        raise Broken(f"{where}: the sites signed another statement")
    if any(one >= two for one, two in pairwise(survivors)) or not set(survivors) <= set(invited(ctx)):
        raise Broken(f"{where}: the survivors are not distinct invited sites")
    if len(survivors) < ctx["m"]:
        raise Broken(f"{where}: {len(survivors)} survivors, the context asks for {ctx['m']}")
    uploads = [{"site": site, "manifest": manifests.get((ctx_hash, site))} for site in survivors]
    if tagged_hash("SA1 uploads", canonical(uploads)).hex() != stmt["uploads"]:
        raise Broken(f"{where}: the statement is about other uploads than were logged")


def check_results(export: Export) -> str:
    """Check that shares and sums come after the certificate, over exactly the certified survivors (A7 R3, R4)."""
    certified: dict[str, tuple[str, list[str]]] = {}
    ended: dict[str, str] = {}
    for index, entry in export.of("round.cert", "round.unmask", "round.result", "round.abort", "round.lost"):
        data, where = entry["data"], f"entry {index} ({entry['type']})"
        ctx_hash = data["ctx_hash"]
        ctx = _context(export, index, entry)
        if entry["type"] == "round.cert":
            certified[ctx_hash] = (data["stmt_hash"], export.signed(entry)[0].body["stmt"]["U"])
            continue
        if entry["type"] in {"round.unmask", "round.result"} and certified.get(ctx_hash, ("",))[0] != data["stmt_hash"]:
            raise Broken(f"{where}: no certificate of this statement came before it")
        if entry["type"] == "round.unmask":
            if data["site"] not in invited(ctx):
                raise Broken(f"{where}: {data['site']} was not invited")
            continue
        if ctx_hash in ended:
            raise Broken(f"{where}: the round had ended ({ended[ctx_hash]})")
        ended[ctx_hash] = entry["type"]
        if entry["type"] == "round.result":
            outcome = data["outcome"]
            if outcome["ctx_hash"] != ctx_hash or outcome["U"] != certified[ctx_hash][1]:
                raise Broken(f"{where}: the outcome is not over the certified survivors")
    count = sum(end == "round.result" for end in ended.values())
    return f"{count} sums were published, each after its certificate and over exactly the sites it names."


def _context(export: Export, index: int, entry: Json) -> Json:
    ctx_hash = entry["data"]["ctx_hash"]
    if export.opened_at.get(ctx_hash, index) >= index:
        raise Broken(f"entry {index} ({entry['type']}): its context was not opened before")
    return export.contexts[ctx_hash]


def _check_keys(export: Export, ctx: Json, messages: list[Signed], where: str) -> None:
    for signed in messages:
        if export.keys[ctx["roster"]].get(signed.signer) != signed.key:
            raise Broken(f"{where}: {signed.signer} signed under another key than the round's roster names")


def check_witnesses(export: Export) -> str:
    """Count the sites that cosigned this head; a bad cosignature is a failure, a missing one is not."""
    roster = export.rosters[export.newest]
    prefix = export.origin.rpartition("/log/")[0] or export.origin
    body, _, tail = export.note.rpartition("\n\n")
    cosigned = 0
    for site in roster["sites"]:
        name, raw = f"{prefix}/site/{site['id']}", b"\x04" + unbase64(site["log_key"], 32, url=True)
        found = signatures_of(tail, name, hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4])
        for signature in found:
            moment = int.from_bytes(signature[:8], "big")
            text = f"cosignature/v1\ntime {moment}\n{body}\n".encode()
            if len(signature) != 72 or not verify_signature(raw[1:], signature[8:], text):
                raise Broken(f"the cosignature of {site['id']} does not verify")
        cosigned += bool(found)
    count, quorum = len(roster["sites"]), (len(roster["sites"]) + roster["c"]) // 2 + 1
    state = "final" if cosigned >= quorum else f"not final, which takes {quorum}"
    return f"{cosigned} of {count} sites cosigned this head: it is {state}."


FOUNDATION: dict[str, Callable[[Export], str]] = {
    "archive": check_archive,
    "rosters": check_rosters,
    "manifest": check_manifest,
    "checkpoint": check_checkpoint,
    "tree": check_tree,
    "entries": check_entries,
    "evidence": check_evidence,
    "contexts": check_contexts,
}
RULES: dict[str, Callable[[Export], str]] = {
    "uploads": check_uploads,
    "certificates": check_certificates,
    "results": check_results,
    "witnesses": check_witnesses,
}


def verify(path: Path, roster_hash_given: str | None = None) -> Report:
    """Check every rule; each one of the foundation rests on those before it, the others stand for themselves."""
    export, broken = Export(path, roster_hash_given), ""
    findings: list[Finding] = []
    for rule, check in {**FOUNDATION, **RULES}.items():
        export.at = None
        if broken:
            findings.append(Finding(rule, None, f"not checked, because rule `{broken}` is broken"))
            continue
        try:
            findings.append(Finding(rule, True, check(export)))
        except Broken as error:
            findings.append(Finding(rule, False, str(error)))
        except MALFORMED as error:
            findings.append(
                Finding(rule, False, f"{export.place()} is malformed ({type(error).__name__}: {str(error)[:100]})")
            )
        if not findings[-1].holds and rule in FOUNDATION:
            broken = rule
    return Report(findings)


def main(argv: list[str]) -> int:
    """Verify the export named in `argv`; print the findings; return 0 if every rule holds."""
    parser = argparse.ArgumentParser(description="Verify an audit export of Mitral offline.")
    parser.add_argument("export", type=Path)
    parser.add_argument(
        "--roster-hash", help="64 hex digits of a roster version, from a source other than the coordinator"
    )
    arguments = parser.parse_args(argv)
    if arguments.roster_hash is not None and not HASH.fullmatch(arguments.roster_hash):
        parser.error("--roster-hash takes 64 lowercase hex digits")
    report = verify(arguments.export, arguments.roster_hash)
    for line in report.lines():
        print(line)  # noqa: T201
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
