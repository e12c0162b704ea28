"""RFC 6962 Merkle tree: roots, inclusion and consistency proofs (PROTOCOLS B1).

The tree is never held in memory. Whoever stores it keeps the hashes of its *complete* subtrees: ``node(level, index)``
covers the ``2**level`` leaves from ``index * 2**level`` on. Everything here reads O(log n) of those.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from shared.errors import Misuse, PeerFault

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
NodeReader = Callable[[int, int], bytes]  # (level, index) -> hash of a complete subtree


class Node(NamedTuple):
    """A complete subtree's place (its `level`, and its `position` there) and hash."""

    level: int
    position: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Return ``SHA-256(0x00 || entry)``."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return ``SHA-256(0x01 || left || right)``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: what has to be known to append.

    `append` returns the subtrees that the new leaf completed, lowest first; the caller stores them in the same
    transaction as the leaf. After a restart `Frontier.load` reads the edge back from those.
    """

    def __init__(self) -> None:
        """Start with an empty tree."""
        self.size = 0
        self._peaks: list[Node] = []  # highest level first: one per bit of size

    @classmethod
    def load(cls, size: int, node: NodeReader) -> "Frontier":
        """Read the edge of a stored tree of `size` leaves."""
        frontier = cls()
        frontier.size = size
        frontier._peaks = [Node(level, index, node(level, index)) for level, index in complete_subtrees(size)]
        return frontier

    def append(self, new_leaf_hash: bytes) -> list[Node]:
        """Add a leaf by its hash; return the complete subtrees it made, the leaf itself first (level 0)."""
        made = [Node(0, self.size, new_leaf_hash)]
        self.size += 1
        while self._peaks and self._peaks[-1].level == made[-1].level:
            left = self._peaks.pop()
            made.append(Node(left.level + 1, left.position // 2, node_hash(left.hash, made[-1].hash)))
        self._peaks.append(made[-1])
        return made

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        if not self._peaks:
            return EMPTY_ROOT
        result = self._peaks[-1].hash
        for peak in reversed(self._peaks[:-1]):
            result = node_hash(peak.hash, result)
        return result


class MemoryTree:
    """A tree whose nodes stay in memory: exports, rehearsals and tests."""

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        """Build the tree over leaf hashes."""
        self._frontier = Frontier()
        self._levels: list[list[bytes]] = []
        for one in leaf_hashes:
            self.append(one)

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return self._frontier.size

    def append(self, new_leaf_hash: bytes) -> None:
        """Add a leaf by its hash."""
        for made in self._frontier.append(new_leaf_hash):
            if made.level == len(self._levels):
                self._levels.append([])
            self._levels[made.level].append(made.hash)

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree, as `NodeReader`."""
        return self._levels[level][index]

    def root(self) -> bytes:
        """Return the root."""
        return self._frontier.root()


def complete_subtrees(size: int) -> list[tuple[int, int]]:
    """Return (level, index) of the largest complete subtrees that make up a tree of `size` leaves, left to right."""
    places, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            places.append((level, start >> level))
            start += 1 << level
    return places


def tree_root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes, in one pass and O(log n) memory."""
    frontier = Frontier()
    for one in leaf_hashes:
        frontier.append(one)
    return frontier.root()


def root_at(size: int, node: NodeReader) -> bytes:
    """Return the root of the first `size` leaves of a stored tree."""
    return _range_hash(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of the first `size` leaves, lowest sibling first.

    Raises:
        Misuse: ``proof_out_of_range``.
    """
    if not 0 <= index < size:
        raise Misuse("proof_out_of_range", f"leaf {index} in a tree of {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_hash(middle, end, node))
            end = middle
        else:
            proof.append(_range_hash(start, middle, node))
            start = middle
    return proof[::-1]


def consistency_proof(old_size: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the proof that the first `old_size` leaves are a prefix of the first `size`; empty for sizes 0 and `size`.

    Raises:
        Misuse: ``proof_out_of_range``.
    """
    if not 0 <= old_size <= size:
        raise Misuse("proof_out_of_range", f"a tree of {old_size} leaves inside one of {size}")
    if old_size in {0, size}:
        return []
    proof: list[bytes] = []
    start, end = 0, size
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            proof.append(_range_hash(middle, end, node))
            end = middle
        else:
            proof.append(_range_hash(start, middle, node))
            start = middle
    if start:  # the old tree is not itself a left subtree, so its last part is needed to rebuild its root
        proof.append(_range_hash(start, end, node))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if the entry hashed as `leaf` stands at `index` under `root` of `size` leaves (RFC 9162, 2.1.3.2).

    Raises:
        PeerFault: ``inclusion_invalid``.
    """
    if not 0 <= index < size or any(len(part) != HASH_BYTES for part in (leaf, root, *proof)):
        raise PeerFault("inclusion_invalid", f"leaf {index} cannot stand in a tree of {size}")
    sides = _sides(index, size - 1, len(proof))
    result = leaf
    for part, is_left in zip(proof, sides or [], strict=sides is not None):
        result = node_hash(part, result) if is_left else node_hash(result, part)
    if sides is None or result != root:
        raise PeerFault("inclusion_invalid", f"leaf {index} is not proved under this root")


def verify_consistency(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Return if the tree `old_root` is a prefix of the tree `root` (RFC 9162, 2.1.4.2).

    Raises:
        PeerFault: ``consistency_invalid``.
    """
    if not 0 <= old_size <= size or any(len(part) != HASH_BYTES for part in (old_root, root, *proof)):
        raise PeerFault("consistency_invalid", f"a tree of {old_size} leaves cannot be a prefix of one of {size}")
    if old_size in {0, size}:
        expected = EMPTY_ROOT if old_size == 0 else root
        empty_is_empty = size > 0 or root == EMPTY_ROOT
        if proof or old_root != expected or not empty_is_empty:
            raise PeerFault("consistency_invalid", f"two roots of size {old_size} differ, or the proof is not empty")
        return
    parts = list(proof)
    if old_size & (old_size - 1) == 0:  # the old tree is a left subtree: its root is the first part
        parts.insert(0, old_root)
    shift = ((old_size - 1) ^ old_size).bit_length() - 1  # levels at which the old tree's last part is complete
    sides = _sides((old_size - 1) >> shift, (size - 1) >> shift, len(parts) - 1)
    if sides is None:
        raise PeerFault("consistency_invalid", "the proof has the wrong length")
    old_result = result = parts[0]
    for part, is_left in zip(parts[1:], sides, strict=True):
        old_result = node_hash(part, old_result) if is_left else old_result
        result = node_hash(part, result) if is_left else node_hash(result, part)
    if old_result != old_root or result != root:
        raise PeerFault("consistency_invalid", f"size {old_size} is not proved to be a prefix of size {size}")


def _sides(position: int, last: int, count: int) -> list[bool] | None:
    """Return for each of `count` siblings, lowest first, whether it stands on the left; None if there are not `count`.

    `position` is the proved node's place in its level, `last` the last place there.
    """
    sides = []
    while last:
        is_left = position & 1 == 1 or position == last
        sides.append(is_left)
        while is_left and not position & 1:  # the last node of a level has no sibling until its ancestor is a right one
            position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    return sides if len(sides) == count else None


def _split(count: int) -> int:
    """Return the largest power of two smaller than `count`."""
    return 1 << (count - 1).bit_length() - 1


def _range_hash(start: int, end: int, node: NodeReader) -> bytes:
    """Return the hash of leaves `start` to `end`; `start` is a multiple of the range's largest power of two."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(_range_hash(start, middle, node), _range_hash(middle, end, node))
