"""What a witness is sent, and what makes a head final (C2SP tlog-witness with the direction reversed, PROTOCOLS B3).

A site cannot be called, so the poll answer brings it the body that C2SP calls *add-checkpoint*: the size it cosigned
last, the proof that the new head continues that one, a blank line, and the log's signed note.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.audit.merkle import HASH_BYTES
from shared.canonical import JsonObject
from shared.errors import PeerFault
from shared.secagg.roster import next_quorum

MOST_PROOF = 63  # hashes, as C2SP has it: enough for any log that can exist
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A head to cosign; nothing in it has been verified."""

    old_size: int
    proof: tuple[bytes, ...]
    note: str


def write_add_checkpoint(old_size: int, proof: Sequence[bytes], note: str) -> str:
    """Return the add-checkpoint body."""
    lines = [f"old {old_size}", *(base64.b64encode(part).decode() for part in proof)]
    return "\n".join(lines) + "\n\n" + note


def parse_add_checkpoint(text: str) -> AddCheckpoint:
    """Parse an add-checkpoint body strictly.

    Raises:
        PeerFault: ``checkpoint_malformed``.
    """
    head, blank, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    match = _OLD.fullmatch(first)
    try:
        proof = tuple(base64.b64decode(line, validate=True) for line in lines)
    except ValueError as error:
        raise PeerFault("checkpoint_malformed", "a line of a consistency proof is not base64") from error
    if not blank or match is None or len(proof) > MOST_PROOF or any(len(part) != HASH_BYTES for part in proof):
        raise PeerFault("checkpoint_malformed", "not an old size, a consistency proof, a blank line and a note")
    return AddCheckpoint(int(match[1]), proof, note)


def split_bundle(bundle: bytes, most: int) -> list[bytes]:
    """Return the entries of a C2SP entry bundle, at least one and at most `most`: two bytes of length before each.

    Raises:
        PeerFault: ``log_entries_invalid``.
    """
    entries, at = [], 0
    while at < len(bundle):
        size = int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(bundle) or not 0 < len(entries) <= most:
        raise PeerFault("log_entries_invalid", f"{len(bundle)} bytes are no bundle of 1 to {most} entries")
    return entries


def final_size(cosigned: Iterable[int], quorum: int) -> int:
    """Return the size up to which the log is final: `quorum` sites cosigned a head at least so large; 0: none yet.

    `cosigned` has one size per site, of heads that were found consistent with each other.
    """
    largest = sorted(cosigned, reverse=True)
    return largest[quorum - 1] if len(largest) >= quorum else 0


def enough_to_hear(roster: JsonObject) -> int:
    """Return how many witnesses' last heads show every final head there was, though c of them lie: N - q + c + 1."""
    return len(roster["sites"]) - next_quorum(roster) + int(roster["c"]) + 1
