"""The export an auditor carries away: one zip file, verified offline by `verify.py` (PROTOCOLS B5).

checkpoint                       the log's head with its cosignatures (C2SP signed note)
policy                           C2SP tlog-policy: log key, site keys, quorum
tile/entries/...  tile/<L>/...   every entry and every hash, byte for byte C2SP tlog-tiles
rosters/<version>.json           every active roster version; beside it <version>.approvals.json
dsse/<sha256>.json               the signed messages that entries rest on, named by the hash of the envelope
contexts/<ctx_hash>.json         every context that was opened
README  verify.py                conveniences, not trust roots
MANIFEST                         signed by the coordinator: the SHA-256 of every other member
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.audit.log_checkpoint import COSIGNATURE, LogVkey, parse_note, witness_name
from shared.audit.merkle import Frontier, leaf_hash
from shared.canonical import JsonObject, canonical_bytes, parse_strict, sha256_hex, tagged_hash
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import payload_type, sign_envelope
from shared.errors import Misuse
from shared.ids import COORDINATOR
from shared.secagg.roster import log_keys, next_quorum

TILE = 256  # hashes in a full tile, entries in a full bundle
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes; times stand in the entries
_README = """\
Audit export of a Mitral federation
===================================

What happened in the federation, in order, with the signatures of the hospitals that did it. Check it with your own copy
of the verifier, and with the hash of a roster that you have from somebody else than the coordinator (the consortium
agreement, a partner hospital):

    python verify.py THIS-FILE.zip --roster-hash HEX

The verify.py in this archive is a convenience: whoever could forge the archive could forge it too. It needs Python 3.11
or newer and the package `cryptography`, and no connection to anywhere.
"""


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """What goes into an export.

    `checkpoint` is a signed note; `leaves` are exactly its entries, in order. `rosters` are the versions that were
    active, with their approval envelopes. `envelopes` and `contexts` may be more than the entries name (an entry may
    have followed the checkpoint meanwhile): only what they name is written, and all of that must be there.
    """

    checkpoint: str
    leaves: Iterable[bytes]
    rosters: Iterable[tuple[JsonObject, list[bytes]]]
    envelopes: Iterable[bytes]
    contexts: Iterable[JsonObject]


def write_archive(target: Path | IO[bytes], source: ArchiveSource, key: SigningKey, created: str) -> str:
    """Write an export to a path or binary file and return the hex SHA-256 of its MANIFEST.

    `key` is the coordinator's identity key, `created` the time of writing (`shared.clock.timestamp`). Members are
    written as they come, so memory does not grow with the log. The same source gives the same bytes.

    Raises:
        Misuse: ``archive_malformed`` when the leaves are not those of the checkpoint, there is no roster, or an
            envelope holds released shares, which must never be kept together.
    """
    head = parse_note(source.checkpoint).checkpoint
    rosters = sorted(source.rosters, key=lambda pair: int(pair[0]["version"]))
    if not rosters:
        raise Misuse("archive_malformed", "an export needs at least the first active roster")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        members = _Members(archive)
        members.add("checkpoint", source.checkpoint.encode())
        members.add("policy", policy_text(rosters[-1][0]).encode())
        members.add("README", _README.encode())
        members.add("verify.py", Path(__file__).with_name("verify.py").read_bytes())
        frontier = Frontier()
        named: set[str] = set()
        for name, data in _tiles(_watched(source.leaves, named), frontier):
            members.add(name, data)
        if (frontier.size, frontier.root()) != (head.size, head.root):
            raise Misuse("archive_malformed", f"the {frontier.size} leaves are not those of the checkpoint")
        for name, data in _rosters(rosters):
            members.add(name, data)
        for name, data in _blobs(source):
            if name in named:
                members.add(name, data)
        members.check_all(named)
        manifest = sign_envelope("export", members.manifest(head.origin, head.size, created), COORDINATOR, key)
        members.add("MANIFEST", manifest)
    return sha256_hex(manifest)


def policy_text(roster: JsonObject) -> str:
    """Return the C2SP tlog-policy of a roster: the log's key, the sites as witnesses, the quorum that makes final."""
    vkey = roster["coordinator"]["log_vkey"]
    keys = log_keys(roster)
    lines = [f"log {vkey}"]
    origin = vkey.split("+")[0]
    lines += [
        f"witness {site} {LogVkey(witness_name(origin, site), COSIGNATURE, key).encode()}" for site, key in keys.items()
    ]
    lines += [f"group sites {next_quorum(roster)} {' '.join(keys)}", "quorum sites"]
    return "\n".join(lines) + "\n"


def tile_path(prefix: str, number: int, width: int = TILE) -> str:
    """Return the C2SP path of tile `number`: groups of three digits, and the width of a partial one."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return f"{prefix}/{'/'.join(groups)}" + ("" if width == TILE else f".p/{width}")


class _Members:
    """Writes members and remembers their hashes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._hashes: dict[str, str] = {}

    def add(self, name: str, data: bytes) -> None:
        if name in self._hashes:
            raise Misuse("archive_malformed", f"member {name} is given twice")
        self._hashes[name] = sha256_hex(data)
        info = zipfile.ZipInfo(name, _EPOCH)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        self._archive.writestr(info, data)

    def check_all(self, named: set[str]) -> None:
        missing = sorted(named - set(self._hashes))
        if missing:
            raise Misuse("archive_malformed", f"{missing[0]} is named by an entry and not there")

    def manifest(self, origin: str, size: int, created: str) -> JsonObject:
        return {
            "v": "SA1",
            "kind": "export",
            "origin": origin,
            "size": size,
            "created": created,
            "members": [{"name": name, "sha256": self._hashes[name]} for name in sorted(self._hashes)],
        }


class _Tile:
    """The tile that is being filled at one place of the tree: hashes of a level, or entries."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._data = bytearray()
        self._count = 0

    def add(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._data += data
        self._count += 1
        if self._count % TILE == 0:
            yield tile_path(self._prefix, self._count // TILE - 1), bytes(self._data)
            self._data.clear()

    def rest(self) -> Iterator[tuple[str, bytes]]:
        if self._data:
            yield tile_path(self._prefix, self._count // TILE, self._count % TILE), bytes(self._data)


def _tiles(leaves: Iterable[bytes], frontier: Frontier) -> Iterator[tuple[str, bytes]]:
    """Yield entry bundles and hash tiles, full ones as they fill and the partial ones at the end."""
    bundle, levels = _Tile("tile/entries"), [_Tile("tile/0")]
    for leaf in leaves:
        if len(leaf) > 0xFFFF:
            raise Misuse("archive_malformed", f"entry {frontier.size} has {len(leaf)} bytes")
        yield from bundle.add(len(leaf).to_bytes(2, "big") + leaf)
        for node in frontier.append(leaf_hash(leaf)):
            level, between = divmod(node.level, 8)  # a tile holds every eighth level
            if level == len(levels):
                levels.append(_Tile(f"tile/{level}"))
            if not between:
                yield from levels[level].add(node.hash)
    for tile in [bundle, *levels]:
        yield from tile.rest()


def _watched(leaves: Iterable[bytes], named: set[str]) -> Iterator[bytes]:
    """Pass the entries on and note which members they name."""
    for leaf in leaves:
        try:
            entry = json.loads(leaf)
            named.update(f"dsse/{item['sha256']}.json" for item in entry["evidence"])
            if entry["type"] == "round.open":
                named.add(f"contexts/{entry['data']['ctx_hash']}.json")
        except (LookupError, TypeError, ValueError) as error:
            raise Misuse("archive_malformed", "a leaf is no entry of the log") from error
        yield leaf


def _rosters(rosters: list[tuple[JsonObject, list[bytes]]]) -> Iterator[tuple[str, bytes]]:
    for roster, approvals in rosters:
        yield f"rosters/{roster['version']}.json", canonical_bytes(roster)
        signed = [parse_strict(envelope) for envelope in approvals]
        yield f"rosters/{roster['version']}.approvals.json", canonical_bytes(signed)


def _blobs(source: ArchiveSource) -> Iterator[tuple[str, bytes]]:
    for envelope in source.envelopes:
        if parse_strict(envelope).get("payloadType") == payload_type("unmask"):
            raise Misuse("archive_malformed", "released shares must never be kept or exported together")
        yield f"dsse/{hashlib.sha256(envelope).hexdigest()}.json", envelope
    for ctx in source.contexts:
        canonical = canonical_bytes(ctx)
        yield f"contexts/{tagged_hash('SA1 ctx', canonical).hex()}.json", canonical
