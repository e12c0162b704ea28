"""Verify an audit export of Mitral, offline and alone.

    python verify.py audit-export.zip [--roster-hash HEX] [--final]

This file imports the standard library and `cryptography`, nothing of Mitral, so that an auditor can read it in one
sitting and keep it. It answers with one sentence per rule: what holds, or the first entry that does not.

Trust comes from outside: give with ``--roster-hash`` the hash of a roster version you have from another source than the
coordinator (a consortium agreement, a partner's web site). Without it the export is checked for consistency only.

It reads from top to bottom: encodings; the archive and who signed it; the log's head and tree; then every entry once,
in order, past the rules. Formats: RFC 6962 tree in C2SP tlog-tiles, C2SP signed notes, RFC 8785 JSON, DSSE envelopes.
Letters with numbers (A4, B2) are clauses of Mitral's protocol documentation.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    if __name__ != "__main__":
        raise
    print("This verifier needs the Python package `cryptography`: pip install cryptography", file=sys.stderr)  # noqa: T201
    raise SystemExit(2) from None

MOST_MEMBERS = 1_000_000
MOST_MEMBER_BYTES = 2**30
MOST_BYTES = 4 * 2**30
MOST_ENTRY_BYTES = 16 * 1024
MANY = 5_000  # messages, from which on it pays to verify on all cores
TILE = 256  # hashes per tile, entries per bundle
LATE_SECONDS = 600

Json = dict[str, Any]
Check = Callable[[Any], bool]
Rule = Generator[None, "Entry | None", str]
ID = re.compile(r"[a-z0-9._-]{1,64}")
HASH = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9_.]{1,64}")
WORD = re.compile(r"[a-z0-9._:/+-]{0,200}")
BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
ORIGIN = re.compile(r"[!-*,-~]{1,200}")
MEMBER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
ENVELOPE = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/=]*)","payloadType":"(application/vnd\.mitral\.sa1\.([a-z.]+)\+json)",'
    rb'"signatures":\[\{"keyid":"([a-z0-9._-]{1,64})","sig":"([A-Za-z0-9+/=]{88})"\}\]\}'
)
FIXED = {"checkpoint", "heads.ndjson", "entries.ndjson", "dsse.ndjson", "contexts.ndjson", "disclosures.ndjson"}
FIXED |= {"policy", "README", "verify.py", "MANIFEST"}
FOLDERS = ("tile/", "rosters/", "derived/")


def form(shape: Any) -> Check:  # noqa: ANN401 (whatever JSON can be)
    """Return the test of a form: pattern, type, [every item], {exactly these keys}, (one of these), or the value."""
    if isinstance(shape, re.Pattern):
        match = shape.fullmatch
        return lambda value: type(value) is str and match(value) is not None
    if isinstance(shape, dict):
        keys, parts = shape.keys(), {key: form(part) for key, part in shape.items()}
        return lambda value: type(value) is dict and value.keys() == keys and not misfit(value, parts)
    if isinstance(shape, list):
        item = form(shape[0])
        return lambda value: type(value) is list and all(map(item, value))
    if isinstance(shape, tuple):
        choices = [form(choice) for choice in shape]
        return lambda value: any(ok(value) for ok in choices)
    if isinstance(shape, type):
        return lambda value: type(value) is shape or shape is object
    return lambda value: type(value) is type(shape) and bool(value == shape)


def misfit(value: Json, parts: dict[str, Check]) -> str:
    """Return the first key whose value has not its form; the empty text when all have."""
    for key, ok in parts.items():
        if not ok(value[key]):
            return key
    return ""


OBJECT = form(dict)
STATEMENT = form({"v": "SA1", "kind": "close", "ctx": HASH, "U": [ID], "uploads": HASH})
DISCLOSURE = form({"leaf": HASH, "field": NAME, "salt": BASE64URL, "value": object})
MANIFEST = form({
    "v": "SA1", "kind": "export", "origin": ORIGIN, "size": int, "created": TIME, "disclosures": bool,
    "selection": (None, {"study": (None, ID), "from": (None, TIME), "to": (None, TIME)}),
    "members": [{"name": MEMBER, "sha256": HASH}],
})  # fmt: skip
ENTRY = {key: form(shape) for key, shape in {
    "v": 1, "log": ORIGIN, "id": UUID7, "ts": TIME, "type": NAME, "data": dict, "study": None,
    "actor": {"kind": NAME, "id": WORD, "authn": WORD, "instance": WORD},
    "action": re.compile("[CRUDE]"), "outcome": re.compile("success|minor|serious|major"),
    "subject": (None, {"kind": WORD, "id": WORD}), "authz": (None, {"decision": str, "policy": str, "rule": str}),
    "evidence": [{"type": "dsse", "sha256": HASH}], "sd": [{"field": NAME, "h": BASE64URL}],
}.items()}  # fmt: skip
ENTRY_OF_STUDY = {**ENTRY, "study": form(ID), "study_seq": form(int), "study_prev": form((None, HASH))}
# What a site did is shown by the message it signed: entry type -> kind of message.
EVIDENCE = {
    "roster.approved": "approval", "plan.approved": "approval", "plan.withdrawn": "approval",
    "pairing.complaint": "complaint", "round.complaint": "complaint", "state.reset": "state.reset",
    "round.refused": "refusal", "round.upload": "manifest", "round.decided": "decision", "round.cert": "decision",
    "round.attested": "attestation", "disclosure.erased": "erasure",
}  # fmt: skip
# What a malformed archive can make Python raise while it is read; every other error is a bug of this file.
MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, AttributeError)
UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


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


class Signed(NamedTuple):
    """A message whose signature was verified."""

    kind: str
    signer: str
    key: bytes
    body: Json
    digest: str  # of the signed bytes


class Entry:
    """An entry on its way past the rules."""

    def __init__(self, index: int, leaf: bytes) -> None:
        """Parse it and check its form."""
        self.index = index
        self.leaf = leaf
        self.signed: list[Signed] = []  # the messages it rests on, once they are verified
        self.json: Json = parse(leaf, "it", OBJECT)
        checks = ENTRY if self.json.get("study") is None else ENTRY_OF_STUDY
        if self.json.keys() != checks.keys() or len(leaf) > MOST_ENTRY_BYTES:
            raise Broken("its keys are not exactly those of an entry, or it is too large")
        if flaw := misfit(self.json, checks):
            raise Broken(f"its {flaw} is malformed")
        self.type: str = self.json["type"]
        self.study: str | None = self.json["study"]
        self.data: Json = self.json["data"]

    @property
    def hash(self) -> str:
        """Return the hash under which it stands in the tree."""
        return leaf_hash(self.leaf).hex()


@dataclass
class Round:
    """What the entries have said about one context so far."""

    ctx: Json
    uploads: dict[str, str] = field(default_factory=dict)  # site -> manifest
    proposed: str = ""  # statement
    certified: str = ""
    survivors: list[str] = field(default_factory=list)
    ended: str = ""


@dataclass
class Export:
    """What has been read and verified so far."""

    archive: zipfile.ZipFile
    root_hash: str | None = None
    final: bool = False
    hashes: dict[str, str] = field(default_factory=dict)  # member -> SHA-256
    manifest: Json = field(default_factory=dict)
    rosters: dict[str, Json] = field(default_factory=dict)  # by hash, in the order of their versions
    keys: dict[str, dict[str, bytes]] = field(default_factory=dict)  # roster hash -> site or coordinator -> key
    origin: str = ""
    size: int = 0
    root: bytes = b""
    levels: list[list[bytes]] = field(default_factory=list)  # of the tree: hashes of complete subtrees
    cosigned: list[tuple[int, int, str]] = field(default_factory=list)  # (size of a head, time, site)
    places: list[int] = field(default_factory=list)  # of the entries that are here
    rounds: dict[str, Round] = field(default_factory=dict)  # that were opened, by hash of the context

    @cached_property
    def witnesses(self) -> dict[tuple[str, bytes], tuple[str, bytes]]:
        """Return the sites and keys behind cosignatures, by name and key id."""
        prefix, found = self.origin.rpartition("/log/")[0] or self.origin, {}
        for site in (site for roster in self.rosters.values() for site in roster["sites"]):
            name, key = f"{prefix}/site/{site['id']}", unbase64(site["log_key"], 32, url=True)
            found[name, key_id_of(name, b"\x04" + key)] = (site["id"], key)
        return found

    @property
    def newest(self) -> Json:
        """Return the newest roster."""
        return self.rosters[next(reversed(self.rosters))]

    @property
    def selection(self) -> Json | None:
        """Return what the export was restricted to; None when it is of the whole log."""
        found: Json | None = self.manifest["selection"]
        return found

    def read(self, name: str) -> bytes:
        """Return a member; its size was checked when it was hashed."""
        if name not in self.hashes:
            raise Broken(f"the archive lacks {name}")
        return self.archive.read(name)

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a member, each of which ends."""
        with self.archive.open(name) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    raise Broken(f"the last line of {name} does not end")
                yield line[:-1]


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


def parse(raw: bytes, what: str, ok: Check) -> Any:  # noqa: ANN401 (what it is, `ok` says)
    """Return what canonical JSON of the right form says, if two parsers could not read it differently.

    What is written again and gives the same bytes had no key twice, no second spelling of anything and keys in order.

    Raises:
        Broken: it is not.
    """
    try:
        value = _DECODER.decode(raw.decode())
        flaw = "" if canonical(value) == raw else "it is not canonical"
        if not raw.isascii() and not _ascii_keys(value):
            flaw = "a key is not ASCII"
    except (ValueError, RecursionError) as error:
        flaw = str(error)[:100]
    if flaw:
        raise Broken(f"{what} is not strict JSON: {flaw}")
    if not ok(value):
        raise Broken(f"{what} does not have the agreed form")
    return value


def _ascii_keys(value: object) -> bool:
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return all(map(_ascii_keys, inner)) and (not isinstance(value, dict) or "".join(value).isascii())


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= 2**53:
        raise ValueError("an integer outside +-(2^53-1)")
    return int(text)


def _refuse(text: str) -> None:
    raise ValueError(f"{text[:20]} is not an integer")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_refuse, parse_constant=_refuse)


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


def distinct(names: list[str]) -> bool:
    """Return whether names are sorted and each is there once."""
    return all(one < two for one, two in pairwise(names))


def verify_signature(key: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether an Ed25519 signature is good."""
    try:
        _public_key(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=1024)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


def open_envelope(raw: bytes, what: str, keys: Callable[[str], Iterable[bytes]]) -> Signed:
    """Verify a DSSE envelope under one of the `keys` that its signer may use; parse the payload only then."""
    kind, signer, payload, signature, encoded = unwrap(raw, what)
    key = next((one for one in keys(signer) if verify_signature(one, signature, encoded)), None)
    return read_payload(kind, signer, payload, key, what)


def unwrap(raw: bytes, what: str) -> tuple[str, str, bytes, bytes, bytes]:
    """Return kind, signer, payload, signature and the signed bytes of an envelope; nothing is verified yet."""
    found = ENVELOPE.fullmatch(raw)
    if found is None:
        raise Broken(f"{what} is no envelope of Mitral")
    type_, payload, signature = found[2], unbase64(found[1].decode()), unbase64(found[5].decode(), 64)
    encoded = b"DSSEv1 %d %s %d %s" % (len(type_), type_, len(payload), payload)
    return found[3].decode(), found[4].decode(), payload, signature, encoded


def read_payload(kind: str, signer: str, payload: bytes, key: bytes | None, what: str) -> Signed:
    """Return the message that was signed under `key`; None says that no key fits."""
    if key is None:
        raise Broken(f"{what} is not signed by {signer} under a key of the roster")
    return Signed(kind, signer, key, parse(payload, f"the payload of {what}", OBJECT), sha256(payload))


# --- the archive and who signed it ------------------------------------------------------------------------------------


def check_archive(export: Export) -> str:
    """Hash every member within limits; refuse names that could mean two things."""
    infos, total = export.archive.infolist(), 0
    if len(infos) > MOST_MEMBERS:
        raise Broken(f"the archive has {len(infos)} members, more than {MOST_MEMBERS}")
    for info in infos:
        name = info.filename
        if not MEMBER.fullmatch(name) or info.orig_filename != name:
            raise Broken(f"member {name[:100]!r} has no plain name")
        if name in export.hashes:
            raise Broken(f"member {name} is there twice")
        if name not in FIXED and not name.startswith(FOLDERS):
            raise Broken(f"member {name} is not part of an export")
        if info.flag_bits & 1 or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise Broken(f"member {name} is encrypted or compressed in an unknown way")
        hashed, size = hashlib.sha256(), 0
        with export.archive.open(info) as file:  # what the header says about its size is not believed
            while data := file.read(2**20):
                hashed.update(data)
                size += len(data)
                if size > MOST_MEMBER_BYTES or total + size > MOST_BYTES:
                    raise Broken(f"member {name} makes the archive larger than an export can be")
        total += size
        export.hashes[name] = hashed.hexdigest()
    missing = sorted(FIXED - set(export.hashes))
    if missing:
        raise Broken(f"the archive lacks {', '.join(missing)}")
    return f"The archive has {len(infos)} members, each once and under a plain name."


def check_rosters(export: Export) -> str:
    """Walk the chain of rosters: each signed by all its sites and agreed to by a quorum of the one before (A4)."""
    names = {name for name in export.hashes if name.startswith("rosters/")}
    versions = sorted(int(found[1]) for name in names if (found := re.fullmatch(r"rosters/([1-9]\d{0,9})\.json", name)))
    odd = names ^ {f"rosters/{version}{end}" for version in versions for end in (".json", ".approvals.json")}
    if odd or not versions:
        raise Broken(f"the archive holds no roster, or half of one ({', '.join(sorted(odd))[:200]})")
    previous: Json | None = None
    for version in versions:
        roster = parse(export.read(f"rosters/{version}.json"), f"roster {version}", OBJECT)
        _check_roster(roster, version, previous)
        approvals = parse(
            export.read(f"rosters/{version}.approvals.json"), f"approvals of roster {version}", form([dict])
        )
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


def quorum(roster: Json) -> int:
    """Return how many members of a roster speak for it: ``floor((N + c) / 2) + 1``."""
    return int((len(roster["sites"]) + roster["c"]) // 2 + 1)


def _check_roster(roster: Json, version: int, previous: Json | None) -> None:
    sites = [site["id"] for site in roster["sites"]]
    if roster["v"] != "SA1" or roster["version"] != version or not all(map(ID.fullmatch, sites)):
        raise Broken(f"roster {version} is malformed")
    if not distinct(sites) or "coordinator" in sites or len(set(site_keys(roster).values())) != len(sites) + 1:
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
    if previous is not None and len(agreed) < (needed := quorum(previous)):
        raise Broken(f"roster {version}: {len(agreed)} members of the version before agreed, {needed} are needed")


def _keys_of(signer: str, rosters: Iterable[dict[str, bytes]]) -> list[bytes]:
    return list(dict.fromkeys(keys[signer] for keys in rosters if signer in keys))


def check_manifest(export: Export) -> str:
    """Check that the coordinator signed the hash of every member."""
    coordinator = site_keys(export.newest)["coordinator"]
    signed = open_envelope(export.read("MANIFEST"), "MANIFEST", lambda who: [coordinator] * (who == "coordinator"))
    if signed.kind != "export" or not MANIFEST(signed.body):
        raise Broken("MANIFEST is signed as something else, or malformed")
    export.manifest = signed.body
    listed = {item["name"]: item["sha256"] for item in signed.body["members"]}
    actual = {name: digest for name, digest in export.hashes.items() if name != "MANIFEST"}
    if len(listed) != len(signed.body["members"]):
        raise Broken("MANIFEST lists a member twice")
    for name in sorted(set(listed) | set(actual)):
        if listed.get(name) != actual.get(name):
            raise Broken(f"member {name} is not what the coordinator signed")
    return f"The coordinator signed the hash of every member at {signed.body['created']}."


# --- the log's tree, head and witnesses -------------------------------------------------------------------------------


def check_checkpoint(export: Export) -> str:
    """Check that the log's head is signed by the log key in the newest roster (C2SP signed note)."""
    vkey = export.newest["coordinator"]["log_vkey"]
    head = read_note(export.read("checkpoint").decode(), "the checkpoint", [vkey])
    export.origin, export.size, export.root = head.origin, head.size, head.root
    if (head.origin, head.size) != (export.manifest["origin"], export.manifest["size"]):
        raise Broken("the coordinator signed the export of another head")
    if export.read("policy").decode().split("\n")[0] != f"log {vkey}":
        raise Broken("the policy names another log key than the roster")
    return f"{head.origin}: a head of {head.size} entries, signed by the log's key."


class Head(NamedTuple):
    """A head of the log and its signature lines: (name, key id, signature)."""

    origin: str
    size: int
    root: bytes
    signatures: list[tuple[str, bytes, bytes]]


def read_note(note: str, what: str, vkeys: Iterable[str]) -> Head:
    """Parse a signed note of three lines and verify the log's signature under one of the verifier keys."""
    body, blank, tail = note.rpartition("\n\n")
    lines = body.split("\n")
    if not blank or len(lines) != 3 or not re.fullmatch(r"0|[1-9]\d{0,15}", lines[1], re.ASCII):
        raise Broken(f"{what} is not origin, size and root")
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        dash, *rest = line.split(" ")
        if dash != "\u2014" or len(rest) != 2:
            raise Broken(f"a signature line of {what} is malformed")
        raw = unbase64(rest[1])
        signatures.append((rest[0], raw[:4], raw[4:]))
    for name, hexed, encoded in (vkey.split("+", 2) for vkey in vkeys):
        key_id, key = key_id_of(name, raw := unbase64(encoded, 33)), raw[1:]
        if name != lines[0] or not ORIGIN.fullmatch(name) or raw[0] != 1 or key_id.hex() != hexed:
            raise Broken(f"{what} is of {lines[0]!r}; the roster names {name!r}, or a malformed key")
        mine = [found for *who, found in signatures if who == [name, key_id]]
        if any(verify_signature(key, found, (body + "\n").encode()) for found in mine):
            return Head(name, int(lines[1]), unbase64(lines[2], 32), signatures)
    raise Broken(f"{what} is not signed by the log's key")


def key_id_of(name: str, raw: bytes) -> bytes:
    """Return the four bytes that mark a key's signatures; `raw` is signature type and key."""
    return hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]


def leaf_hash(leaf: bytes) -> bytes:
    """Return the RFC 6962 hash of an entry."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the RFC 6962 hash of a node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def check_tree(export: Export) -> str:
    """Recompute the tree from the hashes of all entries, and find every entry that is here among them (RFC 6962)."""
    tiles = [export.read(tile_path(0, number, width)) for number, width in _tiles(export.size)]
    joined = b"".join(tiles)
    levels = [[joined[at : at + 32] for at in range(0, len(joined), 32)]]
    while len(levels[-1]) > 1:  # each level holds the hashes of the complete subtrees of that height
        levels.append(list(map(node_hash, levels[-1][::2], levels[-1][1::2])))
    expected = set()
    for level, nodes in enumerate(levels[::8]):
        for number, width in _tiles(len(nodes)):
            expected.add(name := tile_path(level, number, width))
            if export.read(name) != b"".join(nodes[number * TILE : number * TILE + width]):
                raise Broken(f"member {name} does not hold the hashes of the level below")
    odd = {name for name in export.hashes if name.startswith("tile/")} - expected
    if odd or len(levels[0]) != export.size:
        raise Broken(f"these are not the tiles of a tree of {export.size} entries ({', '.join(sorted(odd))[:100]})")
    if root_at(levels, export.size) != export.root:
        raise Broken("the entries do not give the root that the log signed")
    export.levels = levels
    _find_entries(export)
    if export.selection is not None:
        return f"{len(export.places)} of {export.size} entries are here, each under the root that the log signed."
    if len(export.places) != export.size:
        raise Broken(f"{export.size - len(export.places)} entries are missing")
    return f"All {export.size} entries give the signed root; nothing was added, changed, removed or moved."


def _find_entries(export: Export) -> None:
    places = {one: index for index, one in enumerate(export.levels[0])}
    export.places = [places.get(leaf_hash(leaf), -1) for leaf in export.lines("entries.ndjson")]
    if -1 in export.places:
        raise Broken(f"line {export.places.index(-1) + 1} of entries.ndjson is no entry of the log")
    if any(one >= two for one, two in pairwise(export.places)):
        raise Broken("entries are there twice, or out of order")


def root_at(levels: list[list[bytes]], size: int) -> bytes:
    """Return the root of the first `size` entries, from the complete subtrees that make them up, right to left."""
    root = b""
    for height, nodes in enumerate(levels):
        if size >> height & 1:
            subtree = nodes[(size >> height) - 1]
            root = node_hash(subtree, root) if root else subtree
    return root or hashlib.sha256(b"").digest()


def tile_path(level: int, number: int, width: int) -> str:
    """Return the C2SP path of a tile: groups of three digits, and the width of a partial one."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return f"tile/{level}/{'/'.join(groups)}" + ("" if width == TILE else f".p/{width}")


def _tiles(count: int) -> Iterator[tuple[int, int]]:
    return ((number, min(TILE, count - number * TILE)) for number in range((count + TILE - 1) // TILE))


def check_witnesses(export: Export) -> str:
    """Check every cosigned head against the tree, and how far a quorum of the hospitals has cosigned (B3)."""
    vkeys = list(dict.fromkeys(roster["coordinator"]["log_vkey"] for roster in export.rosters.values()))[::-1]
    notes = [parse(line, "a cosigned head", form(str)) for line in export.lines("heads.ndjson")]
    for note in [export.read("checkpoint").decode(), *notes]:
        head = read_note(note, "a cosigned head", vkeys)
        if head.origin != export.origin or head.size > export.size or root_at(export.levels, head.size) != head.root:
            raise Broken(f"the cosigned head of {head.size} entries is not a beginning of this log: it was rewritten")
        _check_cosignatures(export, head)
    sites = [site["id"] for site in export.newest["sites"]]
    furthest = {site: max((size for size, _, who in export.cosigned if who == site), default=0) for site in sites}
    here, needed = sum(size == export.size for size in furthest.values()), quorum(export.newest)
    final = sorted(furthest.values(), reverse=True)[needed - 1]
    state = "it is final" if final == export.size else f"it is not final, which takes {needed}"
    if export.final and final != export.size:
        raise Broken(f"{here} of {len(sites)} sites cosigned this head: {state}")
    said = f"{here} of {len(sites)} sites cosigned this head: {state}"
    return f"{said}. The first {final} entries are final; {len(notes)} cosigned heads before it agree."


def _check_cosignatures(export: Export, head: Head) -> None:
    text = f"{head.origin}\n{head.size}\n{base64.b64encode(head.root).decode()}\n"
    for name, key_id, signature in head.signatures:
        site, key = export.witnesses.get((name, key_id), ("", b""))
        if site:  # lines under keys that no roster names mean nothing
            moment = int.from_bytes(signature[:8], "big")
            signed = f"cosignature/v1\ntime {moment}\n{text}".encode()
            if len(signature) != 72 or not verify_signature(key, signature[8:], signed):
                raise Broken(f"the cosignature of {site} does not verify")
            export.cosigned.append((head.size, moment, site))


# --- the rules: every entry goes past each of them once, in order; at the end, None ----------------------------------


def rule_entries(export: Export) -> Rule:
    """Check that entries have the agreed form, unique ids and times that never go back (B2)."""
    seen: set[str] = set()
    first = last = ""
    while (entry := (yield)) is not None:
        one, fields = entry.json, [item["field"] for item in entry.json["sd"]]
        if one["log"] != export.origin or one["id"] in seen:
            raise Broken("it is of another log, or its id was used before")
        if one["ts"] < last:
            raise Broken(f"its time {one['ts']} is before {last}")
        if entry.type in EVIDENCE and not one["evidence"]:
            raise Broken(f"{entry.type} rests on no signed message")
        if not distinct(fields) or not all(unbase64(item["h"], 32, url=True) for item in one["sd"]):
            raise Broken("its commitments are not sorted, unique and 32 bytes long")
        seen.add(one["id"])
        first, last = first or one["ts"], one["ts"]
    span = f" from {first} to {last}" if seen else ""
    return f"{len(seen)} entries{span} have the agreed form, unique ids and times that never go back."


def rule_evidence(export: Export) -> Rule:
    """Check that what sites are said to have done, they signed, under keys of a roster active by then."""
    messages = {sha256(line): line for line in export.lines("dsse.ndjson")}
    named: set[str] = set()
    keys_by: dict[str, bytes | None] = {}
    active = 0
    with ExitStack() as stack:
        verified = _verified(stack, messages, export.keys.values())

        @lru_cache(maxsize=4096)  # a certificate names again what the decisions before it named
        def message(digest: str, until: int | None) -> Signed:
            if digest not in messages:
                raise Broken(f"the archive lacks message {digest}")
            while digest not in keys_by:
                keys_by.update([next(verified)])
            usable = [keys for one, keys in export.keys.items() if not until or export.rosters[one]["version"] <= until]
            kind, signer, payload, *_ = unwrap(messages[digest], f"message {digest}")
            key = keys_by[digest] if keys_by[digest] in _keys_of(signer, usable) else None
            return read_payload(kind, signer, payload, key, f"message {digest}")

        while (entry := (yield)) is not None:
            if entry.type == "roster.activated":
                active = max(active, entry.data["version"])
            # An approval comes before its roster is active; every other message after.
            until = None if entry.type == "roster.approved" else active
            for item in entry.json["evidence"]:
                signed = message(item["sha256"], until)
                _check_agreement(entry, signed)
                entry.signed.append(signed)
                named.add(item["sha256"])
    odd = sorted(set(messages) - named)
    if odd:
        raise Broken(f"message {odd[0]} is named by no entry")
    return f"{len(named)} signed messages bear out what the entries say, under keys of a roster active by then."


def _verified(
    stack: ExitStack, messages: dict[str, bytes], rosters: Iterable[dict[str, bytes]]
) -> Iterator[tuple[str, bytes | None]]:
    """Yield each message with the key, of any roster, under which its signature is good; on all cores if many."""
    find = partial(_signing_key, rosters=list(rosters))
    if len(messages) < MANY:
        return ((digest, find(raw)) for digest, raw in messages.items())
    pool = stack.enter_context(ProcessPoolExecutor())
    return zip(messages, pool.map(find, messages.values(), chunksize=256), strict=True)


def _signing_key(raw: bytes, rosters: list[dict[str, bytes]]) -> bytes | None:
    try:
        _, signer, _, signature, encoded = unwrap(raw, "a message")
    except Broken:
        return None
    return next((key for key in _keys_of(signer, rosters) if verify_signature(key, signature, encoded)), None)


def _check_agreement(entry: Entry, signed: Signed) -> None:
    """Entry and message agree wherever both name something."""
    body, data, signer = signed.body, entry.data, signed.signer
    if signed.kind == "unmask":
        raise Broken("released shares must not be kept")
    if EVIDENCE.get(entry.type, signed.kind) != signed.kind:
        raise Broken(f"it rests on a signed {signed.kind}")
    if signer != body.get("site", signer) or data.get("site", signer) != signer:
        raise Broken(f"{signer} signed it, another site is named")
    facts = {**data, "study": entry.study} if entry.study else data
    for name in facts.keys() & body.keys() - {"kind"}:
        if facts[name] != body[name]:
            raise Broken(f"{signer} signed another {name}")
    if data.get("manifest_hash", signed.digest) != signed.digest:
        raise Broken("it is another manifest")
    decision = {"plan.approved": "approve", "plan.withdrawn": "withdraw"}.get(entry.type)
    if decision and (body.get("kind"), body.get("decision")) != ("study", decision):
        raise Broken(f"{signer} signed another decision")


def rule_contexts(export: Export) -> Rule:
    """Check that contexts were opened once, whole, under an active roster, one outcome after the other (A3, A7 R0)."""
    waiting = {tagged_hash("SA1 ctx", line).hex(): line for line in export.lines("contexts.ndjson")}
    active = 0
    newest: dict[str | None, str] = {}
    last_round: dict[tuple[str, str], int] = {}
    while (entry := (yield)) is not None:
        data = entry.data
        if entry.type == "roster.activated":
            active = max(active, data["version"])
            if export.rosters.get(data["roster"], {}).get("version") != data["version"]:
                raise Broken("that roster is not in the archive under this version")
        elif entry.type == "round.result":
            newest[entry.study] = tagged_hash("SA1 outcome", canonical(data["outcome"])).hex()
        elif entry.type == "round.open":
            if data["ctx_hash"] not in waiting:
                raise Broken("its context is not in the archive, or was opened before")
            ctx = parse(waiting.pop(data["ctx_hash"]), "its context", OBJECT)
            active_rosters = {one: roster for one, roster in export.rosters.items() if roster["version"] <= active}
            _check_context(ctx, entry, active_rosters)
            first_here = export.selection is not None and ctx["study"] not in newest
            if ctx["prev"] != newest.get(ctx["study"]) and not first_here:
                raise Broken("it does not follow the newest outcome of the study")
            series = (ctx["study"], ctx["kind"])
            if ctx["round"] <= last_round.get(series, 0):
                raise Broken(f"round {ctx['round']} of this study and kind is not after the last one")
            last_round[series] = ctx["round"]
            export.rounds[data["ctx_hash"]] = Round(ctx)
    if waiting:
        raise Broken(f"context {min(waiting)} was opened by no entry")
    count = len(export.rounds)
    return f"{count} rounds were opened, each once, under an active roster, with thresholds that protect the sites."


def remember(export: Export, entry: Entry) -> None:
    """Note what an entry said about its round, when every rule has seen it, whether or not it should have said so."""
    one = export.rounds.get(entry.data.get("ctx_hash", ""))
    if one is None:
        return
    if entry.type == "round.upload":
        one.uploads[entry.data["site"]] = entry.data["manifest_hash"]
    elif entry.type == "round.close.proposed":
        one.proposed = entry.data["stmt_hash"]
    elif entry.type == "round.cert":
        one.certified, one.survivors = entry.data["stmt_hash"], entry.signed[0].body["stmt"]["U"]
    elif entry.type in {"round.result", "round.abort", "round.lost"}:
        one.ended = entry.type


def _check_context(ctx: Json, entry: Entry, rosters: dict[str, Json]) -> None:
    data, sites, n = entry.data, invited(ctx), len(ctx["P"])
    for name in ("round", "kind", "model", "plan", "roster"):
        if ctx[name] != data[name]:
            raise Broken(f"its context names another {name}")
    roster = rosters.get(ctx["roster"])
    if roster is None or ctx["study"] != entry.study:
        raise Broken("its context names another study, or a roster that was not active")
    if not distinct(sites) or not set(sites) <= {site["id"] for site in roster["sites"]}:
        raise Broken("the invited sites are not distinct members of the roster")
    if ctx["c"] != roster["c"] or ctx["t"] != (n + ctx["c"]) // 2 + 1 or ctx["t"] > n:
        raise Broken(f"c or t is not what the roster and {n} sites ask for")
    if not max(3, ctx["c"] + 2) <= ctx["m"] <= n:
        raise Broken(f"m = {ctx['m']} would let a sum show too few honest sites")


def invited(ctx: Json) -> list[str]:
    """Return the ids in P."""
    return [participant["site"] for participant in ctx["P"]]


def _round(export: Export, entry: Entry) -> Round:
    if entry.data["ctx_hash"] not in export.rounds:
        raise Broken("its context was not opened before")
    found = export.rounds[entry.data["ctx_hash"]]
    for signed in entry.signed:
        if export.keys[found.ctx["roster"]].get(signed.signer) != signed.key:
            raise Broken(f"{signed.signer} signed under another key than the round's roster names")
    return found


def rule_uploads(export: Export) -> Rule:
    """Check that no site trained without its steward's approval of that very plan, nor twice, nor too late."""
    approved: dict[tuple[str | None, str], str] = {}
    given, count = set(), 0
    while (entry := (yield)) is not None:
        if entry.type == "plan.approved":
            approved[entry.study, entry.data["site"]] = entry.data["plan"]
        elif entry.type == "plan.withdrawn":
            approved.pop((entry.study, entry.data["site"]), None)
        elif entry.type == "round.upload":
            one, site = _round(export, entry), entry.data["site"]
            if site not in invited(one.ctx) or one.proposed or site in one.uploads:
                raise Broken(f"{site} was not invited, was late, or uploaded twice")
            if approved.get((one.ctx["study"], site)) != one.ctx["plan"]:
                raise Broken(f"{site} had not approved this study protocol")
            for item in _deterministic(one.ctx):
                if (site, *item) in given:
                    raise Broken(f"{site} gave {item[2]} of the same cases and model twice")
                given.add((site, *item))
            count += 1
    return f"{count} masked updates arrived, each invited, in time, once, and under a plan its site had approved."


def _deterministic(ctx: Json) -> list[tuple[str, str, str]]:
    """Return what a site may seal once only: two sums of it over other sites would show one of them (A10 W5)."""
    if ctx["kind"] == "statistics":
        return [(ctx["study"], "", json.dumps([(one["name"], one["length"]) for one in ctx["tail"]]))]
    histograms = (one["name"] for one in ctx["tail"] if one["name"] in {"score_histogram", "test_histogram"})
    return [(ctx["study"], ctx["model"], name) for name in histograms]


def rule_certificates(export: Export) -> Rule:
    """Check that each close rests on t signatures over one statement, and that no site signed two (A7 R2, A12.1)."""
    said: dict[tuple[str, str], str] = {}
    count = 0
    while (entry := (yield)) is not None:
        for signed in entry.signed if entry.type in {"round.decided", "round.cert"} else []:
            stmt, stmt_hash = signed.body["stmt"], statement_hash(signed.body["stmt"])
            if said.setdefault((stmt["ctx"], signed.signer), stmt_hash) != stmt_hash:
                raise Broken(f"{signed.signer} signed two survivor sets of one context")
        if entry.type == "round.close.proposed":
            one = _round(export, entry)
            if one.proposed:
                raise Broken("this context was closed before")
        elif entry.type == "round.cert":
            one = _round(export, entry)
            if one.proposed != entry.data["stmt_hash"] or one.certified:
                raise Broken("the statement was not proposed, or one was certified before")
            _check_certificate(one, entry)
            count += 1
    return f"{count} rounds were closed, each once, by enough signatures of invited sites over one survivor set."


def statement_hash(stmt: Json) -> str:
    """Return ``H("SA1 stmt", JCS)``."""
    return tagged_hash("SA1 stmt", canonical(stmt)).hex()


def _check_certificate(one: Round, entry: Entry) -> None:
    ctx, sites, signers = one.ctx, invited(one.ctx), {signed.signer for signed in entry.signed}
    if len(signers) != len(entry.signed) or not signers <= set(sites):
        raise Broken("the decisions are not by distinct invited sites")
    if len(signers) < ctx["t"]:
        raise Broken(f"{len(signers)} sites signed, {ctx['t']} are needed")
    if {statement_hash(signed.body["stmt"]) for signed in entry.signed} != {entry.data["stmt_hash"]}:
        raise Broken("the sites signed another statement")
    stmt = entry.signed[0].body["stmt"]
    if not STATEMENT(stmt) or stmt["ctx"] != entry.data["ctx_hash"]:
        raise Broken("the statement is about something else")
    if not distinct(stmt["U"]) or not set(stmt["U"]) <= set(sites):
        raise Broken("the survivors are not distinct invited sites")
    if len(stmt["U"]) < ctx["m"]:
        raise Broken(f"{len(stmt['U'])} survivors, the context asks for {ctx['m']}")
    uploads = [{"site": site, "manifest": one.uploads.get(site)} for site in stmt["U"]]
    if tagged_hash("SA1 uploads", canonical(uploads)).hex() != stmt["uploads"]:
        raise Broken("the statement is about other uploads than were logged")


def rule_results(export: Export) -> Rule:
    """Check that shares and sums come after the certificate, over exactly the certified survivors (A7 R3, R4)."""
    count = 0
    while (entry := (yield)) is not None:
        if entry.type not in {"round.unmask", "round.result", "round.abort", "round.lost"}:
            continue
        one, data = _round(export, entry), entry.data
        if entry.type in {"round.unmask", "round.result"} and one.certified != data["stmt_hash"]:
            raise Broken("no certificate of this statement came before it")
        if entry.type == "round.unmask":
            if data["site"] not in invited(one.ctx):
                raise Broken(f"{data['site']} was not invited")
            continue
        if one.ended:
            raise Broken(f"the round had ended ({one.ended})")
        if entry.type == "round.result":
            if data["outcome"]["ctx_hash"] != data["ctx_hash"] or data["outcome"]["U"] != one.survivors:
                raise Broken("the outcome is not over the certified survivors")
            count += 1
    return f"{count} sums were published, each after its certificate and over exactly the sites it names."


def rule_disclosures(export: Export) -> Rule:
    """Check that what opens a committed field fits it, and is missing only where a signed order had it erased (B2)."""
    parsed = (parse(line, "a disclosure", DISCLOSURE) for line in export.lines("disclosures.ndjson"))
    here = {(one["leaf"], one["field"]): one for one in parsed}
    about: dict[tuple[str, str], str | None] = {}  # committed field -> the site its entry is about
    erased = set()
    while (entry := (yield)) is not None:
        for item in entry.json["sd"]:
            key = (entry.hash, item["field"])
            about[key] = entry.data.get("site")
            if key in here and commitment(entry.json["id"], here[key]) != unbase64(item["h"], url=True):
                raise Broken(f"it does not commit to what is disclosed as its {item['field']}")
        if entry.type == "disclosure.erased":
            key = (entry.data["leaf"], entry.data["field"])
            if key not in about and export.selection is None:
                raise Broken("it erases what no entry before it committed to")
            _check_order(entry, about.get(key))
            erased.add(key)
    lost = about.keys() - here.keys() - erased if export.manifest["disclosures"] else set()
    flaws = {"fits no entry": here.keys() - about.keys(), "was erased": here.keys() & erased, "is missing": lost}
    for flaw, keys in flaws.items():
        if keys:
            raise Broken("the disclosure of {} in entry {} ".format(*reversed(min(keys))) + flaw)
    rest = "" if export.manifest["disclosures"] else "; this export leaves disclosures out"
    return f"{len(here)} disclosed fields fit their entries, {len(erased)} were erased by signed orders{rest}."


def _check_order(entry: Entry, site: str | None) -> None:
    for signed in entry.signed:
        if not {"leaf", "field", "basis"} <= signed.body.keys():
            raise Broken(f"{signed.signer} ordered something else")
        if signed.signer not in {"coordinator", site or signed.signer}:
            raise Broken(f"{signed.signer} ordered the erasure of what an entry about {site} committed to")


def commitment(entry_id: str, one: Json) -> bytes:
    """Return ``SHA-256("SD1"||0x00||leaf_id||salt16||lp(name)||JCS(value))``."""
    salt, name = unbase64(one["salt"], 16, url=True), one["field"].encode()
    return tagged_hash("SD1", entry_id.encode(), salt, len(name).to_bytes(2, "big"), name, canonical(one["value"]))


def rule_studies(export: Export) -> Rule:  # noqa: C901 (one question after the other)
    """Check that the entries of a study are a chain, and that of what this export is about none is missing."""
    tails: dict[str, tuple[int, str | None]] = {}
    chosen: Json = export.selection or {"study": None, "from": None, "to": None}
    line: list[tuple[int, str]] = []  # of what must be complete: place and time
    end = None if chosen["study"] else export.size - 1
    gaps: dict[str, int] = {}  # study -> place of the first entry after a gap
    stated_at = None
    while (entry := (yield)) is not None:
        one = entry.json
        if entry.study is not None:
            seq, before = tails.get(entry.study, (0, None))
            skipped = export.selection is not None and one["study_seq"] > seq + 1
            if skipped:
                gaps.setdefault(entry.study, entry.index)
            if entry.study in gaps and entry.type.startswith("round."):
                raise Broken(f"entries of study {entry.study} before it are missing: nothing shows that it was allowed")
            if not skipped and (one["study_seq"], one["study_prev"]) != (seq + 1, before):
                raise Broken(f"it does not follow entry {seq} of study {entry.study}")
            tails[entry.study] = (one["study_seq"], entry.hash)
        if entry.type == "study.heads":
            for study, head in entry.data["heads"].items():
                last = tails.get(study, (0, None))
                if last != (head["seq"], head["leaf"]) and (export.selection is None or last[0] >= head["seq"]):
                    raise Broken(f"study {study} does not end with what it names")
                if study == chosen["study"]:
                    end, stated_at = head["seq"], entry.index
        if chosen["study"] in {None, entry.study}:
            line.append((one["study_seq"] if chosen["study"] else entry.index, one["ts"]))
    _check_complete(line, chosen, end)
    if stated_at is not None and not set(range(stated_at, export.size)) <= set(export.places):
        raise Broken("what came after the study's end was stated is missing")
    what = f"study {chosen['study']}" if chosen["study"] else "the log"
    span = "".join(f" {name} {chosen[name]}" for name in ("from", "to") if chosen[name])
    return f"{len(tails)} studies, each a chain of its entries; of {what}{span} no entry is missing."


def _check_complete(line: list[tuple[int, str]], chosen: Json, end: int | None) -> None:
    """Check that in the chosen time no place is missing, nor between it and the entries just outside."""
    start, until = chosen["from"] or "", chosen["to"] or "~"
    before = [place for place, time in line if time < start][-1:]
    inside = [place for place, time in line if start <= time <= until]
    after = [place for place, time in line if time > until][:1]
    run = before + inside + after
    gap = next((one for one, two in pairwise(run) if two != one + 1), None)
    if gap is not None:
        raise Broken(f"what follows entry {gap} of it is missing")
    if run and not before and run[0] != (1 if chosen["study"] else 0):
        raise Broken(f"what comes before entry {run[0]} of it is missing")
    if not after and (end is None or (run or [-1])[-1] < end):
        raise Broken("its last entries are missing, or nothing shows which are the last")


def rule_clock(export: Export) -> Rule:
    """Check that no entry claims a time long before more than c hospitals had cosigned heads without it (B3)."""
    heads, latest, limit = sorted(export.cosigned, reverse=True), dict[str, int](), ""
    while (entry := (yield)) is not None:
        while heads and heads[-1][0] <= entry.index:
            _, moment, site = heads.pop()
            latest[site] = max(moment, latest.get(site, 0))
            times = sorted(latest.values(), reverse=True)[export.newest["c"] :]
            limit = datetime.fromtimestamp(times[0] - LATE_SECONDS, UTC).isoformat() if times else ""
        if entry.json["ts"] < limit:
            raise Broken(f"it claims {entry.json['ts']}, but hospitals had cosigned a head without it after {limit}")
    return f"No entry claims a time more than {LATE_SECONDS // 60} minutes before hospitals cosigned a head without it."


# --- the whole --------------------------------------------------------------------------------------------------------

BEFORE: dict[str, Callable[[Export], str]] = {  # each rests on those before it
    "archive": check_archive,
    "rosters": check_rosters,
    "manifest": check_manifest,
    "checkpoint": check_checkpoint,
    "tree": check_tree,
    "witnesses": check_witnesses,
}
FOUNDATION: dict[str, Callable[[Export], Rule]] = {  # without them the rules below mean nothing
    "entries": rule_entries,
    "evidence": rule_evidence,
    "contexts": rule_contexts,
}
RULES: dict[str, Callable[[Export], Rule]] = {  # each stands for itself
    "uploads": rule_uploads,
    "certificates": rule_certificates,
    "results": rule_results,
    "disclosures": rule_disclosures,
    "studies": rule_studies,
    "clock": rule_clock,
}


def verify(path: Path, roster_hash_given: str | None = None, *, final: bool = False) -> Report:
    """Check every rule; with `final` it is a failure when no quorum of hospitals cosigned the newest head."""
    names = [*BEFORE, *FOUNDATION, *RULES]
    findings: dict[str, Finding] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            _check_all(Export(archive, roster_hash_given, final), findings)
    except UNREADABLE as error:
        findings["archive"] = Finding("archive", False, f"the archive cannot be read: {str(error)[:200]}")
    broken = next((name for name in names if name in findings and not findings[name].holds), "")
    skipped = f"not checked to the end, because rule `{broken}` is broken"
    return Report([findings.get(name) or Finding(name, None, skipped) for name in names])


def _check_all(export: Export, findings: dict[str, Finding]) -> None:
    for name, check in BEFORE.items():
        try:
            findings[name] = Finding(name, True, check(export))
        except (Broken, *MALFORMED) as error:
            findings[name] = _failed(name, "", error)
            return
    rules = {name: make(export) for name, make in {**FOUNDATION, **RULES}.items()}
    _step(rules, findings, "", None)  # up to where each waits for the first entry
    for index, leaf in zip(export.places, export.lines("entries.ndjson"), strict=True):
        try:
            entry = Entry(index, leaf)
        except (Broken, *MALFORMED) as error:
            findings["entries"] = _failed("entries", f"entry {index}: ", error)
            return
        _step(rules, findings, f"entry {index} ({entry.type}): ", entry)
        if not findings.keys().isdisjoint(FOUNDATION):
            return
        with suppress(*MALFORMED):
            remember(export, entry)
    _step(rules, findings, "", None)


def _step(rules: dict[str, Rule], findings: dict[str, Finding], place: str, entry: Entry | None) -> None:
    """Send an entry past the rules that hold so far; None is the beginning and the end."""
    for name, rule in rules.items():
        try:
            if name not in findings:
                rule.send(entry)
        except StopIteration as end:
            findings[name] = Finding(name, True, end.value)
        except (Broken, *MALFORMED) as error:
            findings[name] = _failed(name, place, error)
            if name in FOUNDATION:
                return


def _failed(rule: str, place: str, error: Exception) -> Finding:
    malformed = f"malformed ({type(error).__name__}: {str(error)[:100]})"
    return Finding(rule, False, place + (str(error) if isinstance(error, Broken) else malformed))


def main(argv: list[str]) -> int:
    """Verify the export named in `argv`; print the findings; return 0 if every rule holds."""
    parser = argparse.ArgumentParser(description="Verify an audit export of Mitral offline.")
    parser.add_argument("export", type=Path)
    parser.add_argument(
        "--roster-hash", help="64 hex digits of a roster version, from a source other than the coordinator"
    )
    parser.add_argument("--final", action="store_true", help="fail unless a quorum of the hospitals cosigned the head")
    arguments = parser.parse_args(argv)
    if arguments.roster_hash is not None and not HASH.fullmatch(arguments.roster_hash):
        parser.error("--roster-hash takes 64 lowercase hex digits")
    report = verify(arguments.export, arguments.roster_hash, final=arguments.final)
    for line in report.lines():
        print(line)  # noqa: T201
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
