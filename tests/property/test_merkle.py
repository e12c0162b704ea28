"""The tree against its definition, and proofs against random damage (PROTOCOLS B1)."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.audit.merkle import (
    MemoryTree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from shared.errors import PeerFault

entries = st.lists(st.binary(max_size=20), min_size=1, max_size=300)


@given(entries, st.data())
def test_an_entry_is_proved_by_its_path_only(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MemoryTree(map(leaf_hash, leaves))
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    root, proof = root_at(size, tree.node), inclusion_proof(index, size, tree.node)
    verify_inclusion(leaf_hash(leaves[index]), index, size, proof, root)
    other = data.draw(st.binary(max_size=20))
    assume(other != leaves[index])
    with pytest.raises(PeerFault, match="inclusion_invalid"):
        verify_inclusion(leaf_hash(other), index, size, proof, root)


@given(entries, st.data())
def test_flipping_any_bit_of_a_proof_breaks_it(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MemoryTree(map(leaf_hash, leaves))
    size = data.draw(st.integers(1, len(leaves)))
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, tree.node)
    verify_consistency(old, root_at(old, tree.node), size, root_at(size, tree.node), proof)
    assume(proof)
    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    damaged = bytearray(proof[at])
    damaged[bit // 8] ^= 1 << bit % 8
    mutant = [*proof[:at], bytes(damaged), *proof[at + 1 :]]
    with pytest.raises(PeerFault, match="consistency_invalid"):
        verify_consistency(old, root_at(old, tree.node), size, root_at(size, tree.node), mutant)


@given(entries, st.data())
def test_a_rewritten_entry_is_seen_by_whoever_kept_the_old_root(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MemoryTree(map(leaf_hash, leaves))
    old = data.draw(st.integers(1, len(leaves)))
    at = data.draw(st.integers(0, old - 1))
    forged = list(leaves)
    forged[at] += b"!"
    rewritten = MemoryTree(map(leaf_hash, forged))
    size = len(leaves)
    with pytest.raises(PeerFault, match="consistency_invalid"):
        verify_consistency(
            old, root_at(old, tree.node), size, rewritten.root(), consistency_proof(old, size, rewritten.node)
        )
