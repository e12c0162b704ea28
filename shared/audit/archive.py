"""The export an auditor carries away: one zip file, verified offline by `verify.py` (PROTOCOLS B5).

checkpoint                       the log's head with its cosignatures (C2SP signed note)
heads.ndjson                     every earlier head that hospitals cosigned: a signed note as a JSON string per line
policy                           C2SP tlog-policy: log key, site keys, quorum
tile/<L>/...                     the hash of every entry and of the tree above them, byte for byte C2SP tlog-tiles
entries.ndjson                   the entries, one per line, in order: all of them, or those of a `Selection`
rosters/<version>.json           every active roster version; beside it <version>.approvals.json
dsse.ndjson                      the signed messages that entries rest on and name by the SHA-256 of the line
contexts.ndjson                  every context that was opened
disclosures.ndjson               what opens the committed fields of entries, where it was not erased
derived/...                      the entries in other forms (FHIR, DICOM syslog, CEF, CSV), when asked for
README  verify.py                conveniences, not trust roots
MANIFEST                         signed by the coordinator: the SHA-256 of every other member

An entry stands in the log if its hash is among those of `tile/0`, from which the signed root follows: that proves the
inclusion of every entry at once, in whole and partial exports alike.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from shared.audit.derived import FORMS, derived_lines
from shared.audit.log_checkpoint import COSIGNATURE, LogVkey, parse_note, witness_name
from shared.audit.merkle import Frontier, leaf_hash
from shared.audit.selection import Selection
from shared.canonical import JsonObject, b64u, canonical_bytes, parse_strict, sha256_hex, tagged_hash
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import payload_type, sign_envelope
from shared.errors import Misuse
from shared.ids import COORDINATOR
from shared.secagg.roster import log_keys, next_quorum

TILE = 256  # hashes in a full tile
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
class Disclosure:
    """What opens a committed field of entry number `index`."""

    index: int
    name: str
    value: object = field(repr=False)
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """What goes into an export.

    `checkpoint` is a signed note; `leaves` are exactly its entries, in order, and are gone through several times.
    `heads` are earlier notes with cosignatures. `rosters` are the versions that were active, with their approval
    envelopes. `envelopes`, `contexts` and `disclosures` may be more than the exported entries name (an entry may have
    followed the checkpoint meanwhile): only what they name is written, and all envelopes and contexts must be there.
    With `disclosures` None the export leaves them out and says so. `derived` names the forms of `derived.FORMS` to add.
    """

    checkpoint: str
    leaves: Iterable[bytes]
    rosters: Iterable[tuple[JsonObject, list[bytes]]]
    envelopes: Iterable[bytes]
    contexts: Iterable[JsonObject]
    heads: Iterable[str] = ()
    disclosures: Iterable[Disclosure] | None = ()
    selection: Selection | None = None
    derived: tuple[str, ...] = ()


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
        members.add_lines("heads.ndjson", map(canonical_bytes, source.heads))
        members.add("policy", policy_text(rosters[-1][0]).encode())
        members.add("README", _README.encode())
        members.add("verify.py", Path(__file__).with_name("verify.py").read_bytes())
        frontier = Frontier()
        for name, data in _tiles(source.leaves, frontier):
            members.add(name, data)
        if (frontier.size, frontier.root()) != (head.size, head.root):
            raise Misuse("archive_malformed", f"the {frontier.size} leaves are not those of the checkpoint")
        chosen = None if source.selection is None else source.selection.select(source.leaves)
        named = _Named(_chosen(source.leaves, chosen))
        members.add_lines("entries.ndjson", (leaf for _, leaf in _chosen(source.leaves, chosen)))
        for name, data in _rosters(rosters):
            members.add(name, data)
        members.add_lines("dsse.ndjson", named.envelopes(source.envelopes))
        members.add_lines("contexts.ndjson", named.contexts(source.contexts))
        members.add_lines("disclosures.ndjson", named.disclosures(source.disclosures or ()))
        for name in source.derived:
            members.add_lines(FORMS[name].file, derived_lines(name, _chosen(source.leaves, chosen)))
        manifest = {
            "v": "SA1",
            "kind": "export",
            "origin": head.origin,
            "size": head.size,
            "created": created,
            "selection": None if source.selection is None else source.selection.as_json(),
            "disclosures": source.disclosures is not None,
            "members": members.listed(),
        }
        signed = sign_envelope("export", manifest, COORDINATOR, key)
        members.add("MANIFEST", signed)
    return sha256_hex(signed)


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


def tile_path(level: int, number: int, width: int = TILE) -> str:
    """Return the C2SP path of tile `number` of a level: groups of three digits, and the width of a partial one."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return f"tile/{level}/{'/'.join(groups)}" + ("" if width == TILE else f".p/{width}")


class _Members:
    """Writes members and remembers their hashes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._hashes: dict[str, str] = {}

    def add(self, name: str, data: bytes) -> None:
        self._write(name, [data])

    def add_lines(self, name: str, lines: Iterable[bytes]) -> None:
        self._write(name, (line + b"\n" for line in lines))

    def _write(self, name: str, parts: Iterable[bytes]) -> None:
        if name in self._hashes:
            raise Misuse("archive_malformed", f"member {name} is given twice")
        info = zipfile.ZipInfo(name, _EPOCH)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        hashed = hashlib.sha256()
        with self._archive.open(info, "w", force_zip64=True) as file:
            for part in parts:
                hashed.update(part)
                file.write(part)
        self._hashes[name] = hashed.hexdigest()

    def listed(self) -> list[JsonObject]:
        return [{"name": name, "sha256": self._hashes[name]} for name in sorted(self._hashes)]


class _Named:
    """What the exported entries name, and so must go with them."""

    def __init__(self, entries: Iterable[tuple[int, bytes]]) -> None:
        self._entries: dict[int, str] = {}  # with commitments: place -> leaf hash
        self._envelopes: set[str] = set()
        self._contexts: set[str] = set()
        for index, leaf in entries:
            try:
                entry = json.loads(leaf)
                self._envelopes.update(item["sha256"] for item in entry["evidence"])
                if entry["type"] == "round.open":
                    self._contexts.add(entry["data"]["ctx_hash"])
                if entry["sd"]:
                    self._entries[index] = leaf_hash(leaf).hex()
            except (LookupError, TypeError, ValueError) as error:
                raise Misuse("archive_malformed", "a leaf is no entry of the log") from error

    def envelopes(self, given: Iterable[bytes]) -> Iterator[bytes]:
        for envelope in given:
            if parse_strict(envelope).get("payloadType") == payload_type("unmask"):
                raise Misuse("archive_malformed", "released shares must never be kept or exported together")
            if _take(self._envelopes, sha256_hex(envelope)):
                yield envelope
        _check_all_there(self._envelopes)

    def contexts(self, given: Iterable[JsonObject]) -> Iterator[bytes]:
        for ctx in given:
            raw = canonical_bytes(ctx)
            if _take(self._contexts, tagged_hash("SA1 ctx", raw).hex()):
                yield raw
        _check_all_there(self._contexts)

    def disclosures(self, given: Iterable[Disclosure]) -> Iterator[bytes]:
        for one in given:
            if one.index in self._entries:
                shown = {"leaf": self._entries[one.index], "field": one.name}
                yield canonical_bytes({**shown, "salt": b64u(one.salt), "value": one.value})


def _take(wanted: set[str], name: str) -> bool:
    found = name in wanted
    wanted.discard(name)
    return found


def _check_all_there(missing: set[str]) -> None:
    if missing:
        raise Misuse("archive_malformed", f"{min(missing)} is named by an entry and not there")


def _chosen(leaves: Iterable[bytes], chosen: set[int] | None) -> Iterator[tuple[int, bytes]]:
    return ((index, leaf) for index, leaf in enumerate(leaves) if chosen is None or index in chosen)


class _Tile:
    """The tile that is being filled at one level of the tree."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._data = bytearray()
        self._count = 0

    def add(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        self._data += data
        self._count += 1
        if self._count % TILE == 0:
            yield tile_path(self._level, self._count // TILE - 1), bytes(self._data)
            self._data.clear()

    def rest(self) -> Iterator[tuple[str, bytes]]:
        if self._data:
            yield tile_path(self._level, self._count // TILE, self._count % TILE), bytes(self._data)


def _tiles(leaves: Iterable[bytes], frontier: Frontier) -> Iterator[tuple[str, bytes]]:
    """Yield the hash tiles, full ones as they fill and the partial ones at the end."""
    levels = [_Tile(0)]
    for leaf in leaves:
        for node in frontier.append(leaf_hash(leaf)):
            level, between = divmod(node.level, 8)  # a tile holds every eighth level
            if level == len(levels):
                levels.append(_Tile(level))
            if not between:
                yield from levels[level].add(node.hash)
    for tile in levels:
        yield from tile.rest()


def _rosters(rosters: list[tuple[JsonObject, list[bytes]]]) -> Iterator[tuple[str, bytes]]:
    for roster, approvals in rosters:
        yield f"rosters/{roster['version']}.json", canonical_bytes(roster)
        signed = [parse_strict(envelope) for envelope in approvals]
        yield f"rosters/{roster['version']}.approvals.json", canonical_bytes(signed)
