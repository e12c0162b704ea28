"""The site's own log: what left and what entered, when the agent ran, what the steward allowed.

Every entry is signed by the site's identity key and holds its number and the digest of the entry before it, so nothing
can be changed, taken out or put in unnoticed. Only the newest entries can be cut off; whoever notes the head (number
and digest, as every report, daily summary and copy in syslog shows it) can tell. Nothing of it is sent to the
coordinator.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from shared.canonical import JsonObject, b64u, canonical_bytes, from_b64u, sha256_hex
from shared.clock import timestamp
from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.signed_envelope import open_envelope, peek_body, peek_signer, sign_envelope
from shared.errors import InputError, PeerFault
from site_agent.storage import journal as rows
from site_agent.storage.database import Transaction
from site_agent.storage.enrolment import read_enrolment
from site_agent.storage.journal import StoredEntry
from site_agent.storage.notices import add_to_count
from site_agent.traffic import Flow

IDENTITY = "identity"  # which key signs from here on; the first entry is one
STARTED, STOPPED = "started", "stopped"
TRAFFIC = "traffic"
DAY = "day"
APPROVED, WITHDRAWN = "approved", "withdrawn"
_FIXED = {"v", "kind", "site", "number", "prev", "at", "event"}


@dataclass(frozen=True, slots=True)
class Keeper:
    """Who writes the log: this site, with its identity key."""

    site: str
    fingerprint: str
    key: SigningKey = field(repr=False)


class Head(NamedTuple):
    """The newest entry's number and the digest of its payload."""

    number: int
    digest: str

    def __str__(self) -> str:
        """Return the form people note: ``number:digest``."""
        return f"{self.number}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry whose signature and place in the chain were checked."""

    head: Head
    at: str
    event: str
    facts: JsonObject

    @property
    def flows(self) -> list[Flow]:
        """Return what a traffic or day entry counts."""
        return [Flow(**flow) for flow in self.facts.get("flows", [])]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of the whole log found: how many entries, from when on, the head, and who signed."""

    entries: int
    first_at: str | None
    last_at: str | None
    head: Head
    fingerprints: list[str]
    gaps: list[str]  # when the agent started again without having closed the log


def read_keeper(tx: Transaction) -> Keeper:
    """Return who writes the log of this state directory; there is somebody as soon as there are keys.

    Raises:
        InputError: ``not_enrolled``.
    """
    stored = read_enrolment(tx)
    if stored is None:
        raise InputError("not_enrolled", "this state directory has no keys yet")
    return Keeper(stored.site, stored.fingerprint, SigningKey.from_seed(stored.idk_seed))


def append(tx: Transaction, keeper: Keeper, event: str, facts: JsonObject, now: datetime) -> Head:
    """Write an entry; nothing happens if `tx` is rolled back. A new key introduces itself first."""
    if _key_before(tx, 2**53) != keeper.key.verify_key:
        introduced = {"idk": b64u(keeper.key.verify_key.bytes), "fingerprint": keeper.fingerprint}
        _write(tx, keeper, IDENTITY, introduced, now)
    return _write(tx, keeper, event, facts, now)


def append_traffic(tx: Transaction, keeper: Keeper, flows: list[Flow], since: datetime, now: datetime) -> Head:
    """Write down what was counted since a moment."""
    facts = {"since": timestamp(since), "flows": [flow._asdict() for flow in flows]}
    add_to_count(tx, "bytes_sent", sum(flow.sent for flow in flows))
    return append(tx, keeper, TRAFFIC, facts, now)


def read_head(tx: Transaction) -> Head:
    """Return the newest entry's number and digest; ``0`` and zeros before the first."""
    newest = rows.read_last(tx)
    return Head(0, rows.FIRST_PREV) if newest is None else Head(newest.number, newest.digest)


def read_entry(tx: Transaction, number: int) -> Entry:
    """Return one checked entry.

    Raises:
        PeerFault: ``journal_broken`` when it is missing or not what was signed.
    """
    found = next(read_checked(tx, number - 1), None)
    if found is None:
        raise PeerFault("journal_broken", f"entry {number} is missing")
    return found


def read_last_about(tx: Transaction, study: str) -> int:
    """Return the number of the newest decision about a study; 0 when there is none.

    Raises:
        PeerFault: ``journal_broken``.
    """
    before = 2**53
    while (stored := rows.read_last(tx, APPROVED, WITHDRAWN, before=before)) is not None:
        if read_entry(tx, stored.number).facts.get("study") == study:
            return stored.number
        before = stored.number
    return 0


def read_checked(tx: Transaction, after: int = 0) -> Iterator[Entry]:
    """Return the entries after a number, each checked: number, predecessor, signature, and that its row says the same.

    Raises:
        PeerFault: ``journal_broken`` naming the first entry that does not fit.
    """
    before = rows.read_last(tx, before=after + 1)
    head = Head(0, rows.FIRST_PREV) if before is None else Head(before.number, before.digest)
    if head.number != after:
        raise PeerFault("journal_broken", f"entry {after} is missing")
    key = _key_before(tx, after + 1)
    for stored in rows.read_entries(tx, after):
        entry, key = check_entry(stored, head, key)
        head = entry.head
        yield entry


def verify(tx: Transaction, noted: Head | None = None) -> Verified:
    """Check the whole log, and that an entry somebody noted earlier still stands where it stood.

    Raises:
        PeerFault: ``journal_broken`` naming the first entry that does not fit.
    """
    first_at, last_at, head = None, None, Head(0, rows.FIRST_PREV)
    fingerprints, gaps, key = [], [], None
    for entry in read_checked(tx):
        first_at, last_at, head = first_at or entry.at, entry.at, entry.head
        if entry.event == IDENTITY:
            fingerprints.append(str(entry.facts["fingerprint"]))
            key = entry.facts["idk"]
        if entry.event == STARTED and entry.facts.get("unclosed"):
            gaps.append(entry.at)
        if noted is not None and noted.number == entry.head.number and noted != entry.head:
            raise PeerFault("journal_broken", f"entry {noted.number} is {entry.head.digest}, it was {noted.digest}")
    if noted is not None and noted.number > head.number:
        raise PeerFault("journal_broken", f"the log ends with entry {head.number}; entry {noted.number} was cut off")
    stored = read_enrolment(tx)
    if head.number and stored is not None and stored.state == "approved":
        own = SigningKey.from_seed(stored.idk_seed).verify_key
        if key != b64u(own.bytes):
            raise PeerFault("journal_broken", "the newest entries are signed by another key than this site's")
    return Verified(head.number, first_at, last_at, head, fingerprints, gaps)


def check_entry(stored: StoredEntry, head: Head | None, key: VerifyKey | None) -> tuple[Entry, VerifyKey]:
    """Return a checked entry and the key that signs after it; without a `head` its place is not looked at.

    Raises:
        PeerFault: ``journal_broken``.
    """
    if head is not None and stored.number != head.number + 1:
        raise PeerFault("journal_broken", f"entry {head.number + 1} is missing")
    try:
        if stored.event == IDENTITY:
            key = VerifyKey.from_bytes(from_b64u(str(peek_body(stored.envelope).get("idk")), size=32))
        if key is None:
            raise PeerFault("journal_broken", "nobody introduced a key")
        message = open_envelope(stored.envelope, "journal", {peek_signer(stored.envelope): key})
    except PeerFault as fault:
        raise PeerFault("journal_broken", f"entry {stored.number}: {fault.detail}") from fault
    body = message.body
    named = (body.get("number"), body.get("at"), body.get("event"), message.digest, message.keyid)
    if named != (stored.number, stored.at, stored.event, stored.digest, body.get("site")):
        raise PeerFault("journal_broken", f"entry {stored.number}: its row says something else than was signed")
    if head is not None and body.get("prev") != head.digest:
        raise PeerFault("journal_broken", f"entry {stored.number} does not follow the one before it")
    facts = {name: value for name, value in body.items() if name not in _FIXED}
    return Entry(Head(stored.number, stored.digest), stored.at, stored.event, facts), key


def parse_head(text: str) -> Head:
    """Read the form that people note.

    Raises:
        InputError: ``journal_head_malformed``.
    """
    number, _, digest = text.strip().partition(":")
    if not (number.isascii() and number.isdigit() and len(number) < 16 and len(digest) == 64):
        raise InputError("journal_head_malformed", f"{text[:100]!r} is not NUMBER:DIGEST")
    return Head(int(number), digest.lower())


def _write(tx: Transaction, keeper: Keeper, event: str, facts: JsonObject, now: datetime) -> Head:
    head, at = read_head(tx), timestamp(now)
    payload = {
        **facts, "v": 1, "kind": "journal", "site": keeper.site, "number": head.number + 1, "prev": head.digest,
        "at": at, "event": event,
    }  # fmt: skip
    envelope = sign_envelope("journal", payload, keeper.site, keeper.key)
    written = Head(head.number + 1, sha256_hex(canonical_bytes(payload)))
    rows.add_entry(tx, StoredEntry(written.number, at, event, written.digest, envelope))
    return written


def _key_before(tx: Transaction, number: int) -> VerifyKey | None:
    """Return the key that signs at a number: the one that introduced itself last."""
    introduced = rows.read_last(tx, IDENTITY, before=number)
    return None if introduced is None else check_entry(introduced, None, None)[1]
