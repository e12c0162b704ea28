"""Log entries: the leaves of the tree and the salted commitments of personal fields (PROTOCOLS B2).

An entry is canonical JSON of at most 16 kB. It says who did what to what under which rule; what a site did is shown by
the envelope the site signed, of which the entry carries the hash. Clear fields hold no personal data: no names,
addresses, free text or small counts. Those are committed in ``sd`` and disclosed, or erased, apart from the log.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from shared.audit import entry_types
from shared.audit.entry_types import Action, type_of
from shared.canonical import (
    JsonObject,
    b64u,
    canonical_bytes,
    from_b64u,
    length_prefixed,
    parse_strict,
    tagged_hash,
)
from shared.errors import Misuse, MitralError, PeerFault
from shared.ids import check_id

ENTRY_TYPES = entry_types.ENTRY_TYPES  # read with the entries they describe
MOST_BYTES = 16 * 1024
SALT_BYTES = 16
ActorKind = Literal["coordinator", "site", "user", "auditor", "system"]
Outcome = Literal["success", "minor", "serious", "major"]

_KEYS = frozenset(
    [
        "v",
        "log",
        "id",
        "ts",
        "type",
        "actor",
        "action",
        "outcome",
        "study",
        "subject",
        "authz",
        "data",
        "evidence",
        "sd",
    ]
)
_OF_STUDY = _KEYS | {"study_seq", "study_prev"}
_HASH_FACTS = frozenset(
    ["ctx_hash", "stmt_hash", "manifest_hash", "plan", "model", "roster", "pairing", "response", "token_hash"]
)
_ACTORS = frozenset(["coordinator", "site", "user", "auditor", "system"])
_OUTCOMES = frozenset(["success", "minor", "serious", "major"])
_ACTIONS = frozenset("CRUDE")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3])(:[0-5]\d){2}\.\d{3}Z", re.ASCII)
_WORD = re.compile(r"[a-z0-9._:/+-]{1,200}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FIELD = re.compile(r"[a-z0-9_.]{1,64}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted; users have pseudonymous ids. `authn` is ``mtls:<cert sha256>``, ``oidc``, ``token`` or ``local``."""

    kind: ActorKind
    id: str
    authn: str
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Commitment:
    """A committed field and what opens it: `value` and `salt` go into the disclosure table, never into the entry."""

    name: str
    value: object = field(repr=False)
    salt: bytes = field(repr=False)


def build_entry(
    *,
    log: str,
    entry_id: str,
    ts: str,
    type_: str,
    actor: Actor,
    data: Mapping[str, object],
    subject: tuple[str, str] | None = None,
    study: str | None = None,
    outcome: Outcome = "success",
    authz: Mapping[str, str] | None = None,
    evidence: Iterable[str] = (),
    commitments: Iterable[Commitment] = (),
    action: Action | None = None,
    follows: tuple[int, str] | None = None,
) -> bytes:
    """Return the canonical bytes of an entry, ready to be appended.

    `log` is the log's origin, `entry_id` a UUID version 7, `ts` what `shared.clock.timestamp` writes, `subject` a
    (kind, id) pair, `evidence` the hex SHA-256 of whole DSSE envelopes (`SignedMessage.envelope_digest`) that are kept
    beside the log. `action` defaults to the type's own. `follows` is the number and leaf hash of the entry before this
    one in its study; None for the study's first entry.

    Raises:
        Misuse: ``entry_unknown_type``; ``entry_malformed`` when a field is missing or wrong, or the entry is too large.
    """
    kind = type_of(type_)
    if kind is None:
        raise Misuse("entry_unknown_type", f"{type_!r} is not in ENTRY_TYPES")
    committed = {one.name: commit_field(entry_id, one.name, one.value, one.salt) for one in commitments}
    entry: JsonObject = {
        "v": 1,
        "log": log,
        "id": entry_id,
        "ts": ts,
        "type": type_,
        "actor": {"kind": actor.kind, "id": actor.id, "authn": actor.authn, "instance": actor.instance},
        "action": action or kind.action,
        "outcome": outcome,
        "study": study,
        "subject": None if subject is None else {"kind": subject[0], "id": subject[1]},
        "authz": None if authz is None else dict(authz),
        "data": dict(data),
        "evidence": [{"type": "dsse", "sha256": digest} for digest in evidence],
        "sd": [{"field": name, "h": committed[name]} for name in sorted(committed)],
    }
    if study is not None:
        seq, before = follows or (0, None)
        entry |= {"study_seq": seq + 1, "study_prev": before}
    raw = canonical_bytes(entry)
    try:
        check_entry(raw)
    except PeerFault as error:
        raise Misuse(error.code, f"{type_}: {error.detail}") from error
    return raw


def check_entry(raw: bytes) -> JsonObject:
    """Return the entry in `raw` if it is canonical and has exactly the agreed form.

    Raises:
        PeerFault: ``entry_malformed`` naming the first wrong field.
    """
    _require(len(raw) <= MOST_BYTES, f"it has {len(raw)} bytes, at most {MOST_BYTES} fit")
    try:
        entry = parse_strict(raw)
        canonical = canonical_bytes(entry)
    except MitralError as error:
        raise PeerFault("entry_malformed", error.detail) from error
    _require(canonical == raw, "it is not canonical JSON")
    wanted = _KEYS if entry.get("study") is None else _OF_STUDY
    _require(set(entry) == wanted, "its keys are not exactly those of an entry")
    _require(entry["v"] == 1 and not isinstance(entry["v"], bool), "v is not 1")
    _require(_matches(_WORD, entry["log"]), "log is not an origin")
    _require(_matches(_UUID7, entry["id"]), "id is not a UUID version 7")
    _require(_matches(_TIME, entry["ts"]), "ts is not RFC 3339 in UTC with milliseconds")
    _require(_is_one_of(entry["action"], _ACTIONS), "action is not one of C R U D E")
    _require(_is_one_of(entry["outcome"], _OUTCOMES), "outcome is not one of the four")
    _check_who(entry)
    _check_data(entry)
    _check_lists(entry)
    kind = type_of(entry["type"])
    _require(kind is None or kind.evidence is None or entry["evidence"], "the signed message it rests on is missing")
    return entry


def commit_field(entry_id: str, name: str, value: object, salt: bytes) -> str:
    """Return a field's commitment as base64url: ``SHA-256("SD1"||0x00||leaf_id||salt16||lp(name)||JCS(value))``.

    Raises:
        Misuse: ``entry_malformed`` for a salt that is not 16 bytes long; ``not_canonical``.
    """
    if len(salt) != SALT_BYTES:
        raise Misuse("entry_malformed", f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    prefixed = length_prefixed(name.encode())
    return b64u(tagged_hash("SD1", entry_id.encode("ascii"), salt, prefixed, canonical_bytes(value)))


def check_disclosure(entry: JsonObject, name: str, value: object, salt: bytes) -> None:
    """Return if `value` and `salt` open the field `name` of a checked `entry`.

    Raises:
        PeerFault: ``disclosure_mismatch``, also when the entry commits to no such field.
    """
    committed = next((shown["h"] for shown in entry["sd"] if shown["field"] == name), None)
    try:
        given = commit_field(entry["id"], name, value, salt)
    except (MitralError, UnicodeError) as error:
        raise PeerFault("disclosure_mismatch", f"{name!r} cannot be a committed field") from error
    if committed is None or not hmac.compare_digest(committed, given):
        raise PeerFault("disclosure_mismatch", f"entry {entry['id']} does not commit to this value of {name!r}")


def _check_who(entry: JsonObject) -> None:
    actor, subject, authz = entry["actor"], entry["subject"], entry["authz"]
    _require(_has(actor, "kind id authn instance"), "actor has other keys")
    _require(_is_one_of(actor["kind"], _ACTORS) and _matches(_WORD, actor["id"]), "actor kind or id is malformed")
    _require(_matches(_WORD, actor["authn"]), "actor authn is malformed")
    _require(actor["instance"] == "" or _matches(_WORD, actor["instance"]), "actor instance is malformed")
    if entry["study"] is not None:
        try:
            check_id(entry["study"], "study")
        except MitralError as error:
            raise PeerFault("entry_malformed", error.detail) from error
        seq, before = entry["study_seq"], entry["study_prev"]
        _require(isinstance(seq, int) and not isinstance(seq, bool) and seq >= 1, "study_seq is not a number from 1")
        _require(before is None if seq == 1 else _matches(_HASH, before), "study_prev does not go with study_seq")
    if subject is not None:
        _require(_has(subject, "kind id"), "subject has other keys")
        _require(_matches(_WORD, subject["kind"]) and _matches(_WORD, subject["id"]), "subject is malformed")
    if authz is not None:
        _require(_has(authz, "decision policy rule"), "authz has other keys")
        _require(all(isinstance(part, str) for part in authz.values()), "authz is malformed")


def _check_data(entry: JsonObject) -> None:
    kind, data = type_of(entry["type"]), entry["data"]
    if kind is None or not isinstance(data, dict):
        raise PeerFault("entry_malformed", "type is unknown, or data is not an object")
    missing = sorted(kind.facts - set(data))
    _require(not missing, f"data lacks {', '.join(missing)}")
    for name in sorted(_HASH_FACTS & kind.facts):
        _require(_matches(_HASH, data[name]), f"data.{name} is not a hash")


def _check_lists(entry: JsonObject) -> None:
    evidence, committed = entry["evidence"], entry["sd"]
    _require(isinstance(evidence, list) and isinstance(committed, list), "evidence or sd is not a list")
    for item in evidence:
        _require(_has(item, "type sha256"), "evidence has other keys")
        _require(item["type"] == "dsse" and _matches(_HASH, item["sha256"]), "evidence is malformed")
    for item in committed:
        _require(_has(item, "field h") and _matches(_FIELD, item["field"]), "sd is malformed")
        try:
            from_b64u(item["h"], size=32)
        except PeerFault as error:
            raise PeerFault("entry_malformed", "a commitment is not 32 bytes") from error
    names = [item["field"] for item in committed]
    _require(names == sorted(set(names)), "committed fields are not sorted and unique")


def _has(value: object, keys: str) -> bool:
    return isinstance(value, dict) and set(value) == set(keys.split())


def _is_one_of(value: object, words: frozenset[str]) -> bool:
    return isinstance(value, str) and value in words


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _require(holds: object, detail: str) -> None:
    if not holds:
        raise PeerFault("entry_malformed", detail)
