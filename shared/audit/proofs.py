"""Inclusion bundles: one entry, its place, and the proof under a signed checkpoint (PROTOCOLS B3, Omission).

The same object travels with receipts and outcomes: ``{"leaf": b64u, "index": n, "proof": [hex], "checkpoint": note}``.
"""

from dataclasses import dataclass

from shared.audit.entries import check_entry
from shared.audit.log_checkpoint import LogCheckpoint, LogVkey, parse_note, verify_checkpoint
from shared.audit.merkle import NodeReader, inclusion_proof, leaf_hash, verify_inclusion
from shared.canonical import JsonObject, b64u, from_b64u, hash_bytes
from shared.errors import Misuse, PeerFault

_MOST_PROOF = 64


@dataclass(frozen=True, slots=True)
class ProvedEntry:
    """An entry that stands in the log: its parsed form, bytes, place, and the checkpoint that commits to it."""

    entry: JsonObject
    leaf: bytes
    index: int
    checkpoint: LogCheckpoint


def build_inclusion(leaf: bytes, index: int, checkpoint: str, node: NodeReader) -> JsonObject:
    """Return the bundle of entry `leaf` at `index` under the signed note `checkpoint`.

    Raises:
        Misuse: ``proof_out_of_range`` when the checkpoint does not yet cover the entry.
    """
    size = parse_note(checkpoint).checkpoint.size
    proof = inclusion_proof(index, size, node)
    if node(0, index) != leaf_hash(leaf):
        raise Misuse("proof_out_of_range", f"the entry is not leaf {index}")
    return {"leaf": b64u(leaf), "index": index, "proof": [part.hex() for part in proof], "checkpoint": checkpoint}


def verify_inclusion_bundle(bundle: JsonObject, vkey: LogVkey, origin: str) -> ProvedEntry:
    """Return the entry if the bundle proves that it stands in the log `origin`, whose verifier key is `vkey`.

    Raises:
        PeerFault: ``inclusion_invalid``, ``entry_malformed``, and what `verify_checkpoint` raises.
    """
    if set(bundle) != {"leaf", "index", "proof", "checkpoint"}:
        raise PeerFault("inclusion_invalid", "a bundle has exactly leaf, index, proof and checkpoint")
    index, proof, note = bundle["index"], bundle["proof"], bundle["checkpoint"]
    if not isinstance(index, int) or isinstance(index, bool) or not isinstance(note, str):
        raise PeerFault("inclusion_invalid", "index or checkpoint has another type")
    if not isinstance(proof, list) or len(proof) > _MOST_PROOF:
        raise PeerFault("inclusion_invalid", "the proof is no list of hashes")
    checkpoint = verify_checkpoint(note, vkey, origin)
    leaf = from_b64u(bundle["leaf"])
    path = [hash_bytes(part) for part in proof]
    verify_inclusion(leaf_hash(leaf), index, checkpoint.size, path, checkpoint.root)
    entry = check_entry(leaf)
    if entry["log"] != origin:
        raise PeerFault("inclusion_invalid", f"the entry names log {entry['log']!r}")
    return ProvedEntry(entry, leaf, index, checkpoint)
