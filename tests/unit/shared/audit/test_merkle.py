import hashlib

import pytest

from shared.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    MemoryTree,
    complete_subtrees,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_at,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from shared.errors import Misuse, PeerFault

CLASSIC = [bytes.fromhex(leaf) for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
CLASSIC.append(bytes(range(0x60, 0x70)))
ROOTS = {
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
COUNT = 70
LEAVES = [leaf_hash(b"leaf %d" % number) for number in range(COUNT)]
TREE = MemoryTree(LEAVES)
TREE_ROOTS = [tree_root(LEAVES[:size]) for size in range(COUNT + 1)]


def mth(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962, word for word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:split]) + mth(leaves[split:])).digest()


def test_roots_of_b5() -> None:
    tree = MemoryTree(map(leaf_hash, CLASSIC))
    for size, expected in ROOTS.items():
        assert root_at(size, tree.node).hex() == expected
        assert tree_root(map(leaf_hash, CLASSIC[:size])).hex() == expected
    one = root_at(1, tree.node).hex()
    assert one.startswith("6e340b9c")
    assert one.endswith("fa01d")


def test_the_empty_tree() -> None:
    assert Frontier().root() == tree_root([]) == EMPTY_ROOT == root_at(0, TREE.node)
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_every_root_is_the_definition() -> None:
    leaves = [b"leaf %d" % number for number in range(COUNT)]
    for size in range(1, COUNT):
        assert TREE_ROOTS[size] == root_at(size, TREE.node) == mth(leaves[:size])


def test_append_gives_exactly_the_completed_subtrees() -> None:
    frontier, stored = Frontier(), {}
    for size, leaf in enumerate(LEAVES):
        made = frontier.append(leaf)
        assert [node.level for node in made] == list(range(((size + 1) & -(size + 1)).bit_length()))
        for node in made:
            assert node.position == size >> node.level
            stored[node.level, node.position] = node.hash
        assert frontier.root() == TREE_ROOTS[size + 1]
        again = Frontier.load(size + 1, lambda level, index: stored[level, index])
        assert (again.size, again.root()) == (size + 1, frontier.root())
    assert len(stored) == sum(COUNT >> level for level in range(7))
    assert stored[1, 0] == node_hash(LEAVES[0], LEAVES[1])


def test_a_restarted_frontier_goes_on_alike() -> None:
    for size in range(COUNT):
        frontier = Frontier.load(size, TREE.node)
        for leaf in LEAVES[size:]:
            frontier.append(leaf)
        assert frontier.root() == TREE.root()


def test_proofs_read_few_nodes() -> None:
    large = MemoryTree(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(5000))
    reads = 0

    def node(level: int, index: int) -> bytes:
        nonlocal reads
        reads += 1
        return large.node(level, index)

    for act in (
        lambda: root_at(4999, node),
        lambda: inclusion_proof(1234, 4999, node),
        lambda: consistency_proof(1234, 4999, node),
    ):
        reads = 0
        assert act()
        assert reads < 40
    assert complete_subtrees(5000) == [(12, 0), (9, 8), (8, 18), (7, 38), (3, 624)]


def test_every_inclusion_proof_and_every_mutation_of_it() -> None:
    for size in range(1, COUNT):
        root = TREE_ROOTS[size]
        for index in range(size):
            proof = inclusion_proof(index, size, TREE.node)
            verify_inclusion(LEAVES[index], index, size, proof, root)
            mutants = [[*proof[:at], bytes(32), *proof[at + 1 :]] for at in range(len(proof))]
            mutants += [proof[:-1], proof[1:]] if proof else []
            mutants += [[*proof, bytes(32)], [bytes(32), *proof], proof[::-1] if proof[::-1] != proof else [b""]]
            for mutant in mutants:
                with pytest.raises(PeerFault, match="inclusion_invalid"):
                    verify_inclusion(LEAVES[index], index, size, mutant, root)


def test_inclusion_of_another_leaf_place_or_root() -> None:
    for size in range(1, 20):
        for index in range(size):
            proof = inclusion_proof(index, size, TREE.node)
            claims = [
                (LEAVES[index + 1], index, size, TREE_ROOTS[size]),
                (LEAVES[index], index, size, TREE_ROOTS[size + 1]),
                (LEAVES[index], size, size, TREE_ROOTS[size]),
                (LEAVES[index], -1, size, TREE_ROOTS[size]),
                (LEAVES[index], index, 0, TREE_ROOTS[size]),
                (LEAVES[index][:31], index, size, TREE_ROOTS[size]),
            ]
            claims += [(LEAVES[index], other, size, TREE_ROOTS[size]) for other in range(size) if other != index]
            for leaf, place, total, root in claims:
                with pytest.raises(PeerFault, match="inclusion_invalid"):
                    verify_inclusion(leaf, place, total, proof, root)


def test_every_consistency_proof_and_every_mutation_of_it() -> None:
    for size in range(COUNT):
        for old in range(size + 1):
            proof = consistency_proof(old, size, TREE.node)
            verify_consistency(old, TREE_ROOTS[old], size, TREE_ROOTS[size], proof)
            mutants = [[*proof[:at], bytes(32), *proof[at + 1 :]] for at in range(len(proof))]
            mutants += [proof[:-1], proof[1:]] if proof else []
            mutants += [[*proof, bytes(32)], [bytes(32), *proof]]
            for mutant in mutants:
                with pytest.raises(PeerFault, match="consistency_invalid"):
                    verify_consistency(old, TREE_ROOTS[old], size, TREE_ROOTS[size], mutant)


def test_consistency_with_another_history() -> None:
    forked = MemoryTree([*LEAVES[:10], leaf_hash(b"forged"), *LEAVES[11:]])
    for size in range(12, 30):
        for old in range(11, size):
            proof = consistency_proof(old, size, forked.node)
            with pytest.raises(PeerFault, match="consistency_invalid"):
                verify_consistency(old, TREE_ROOTS[old], size, root_at(size, forked.node), proof)
    with pytest.raises(PeerFault, match="consistency_invalid"):
        verify_consistency(5, TREE_ROOTS[5], 5, TREE_ROOTS[6], [])
    with pytest.raises(PeerFault, match="consistency_invalid"):
        verify_consistency(6, TREE_ROOTS[6], 5, TREE_ROOTS[5], [])
    with pytest.raises(PeerFault, match="consistency_invalid"):
        verify_consistency(0, TREE_ROOTS[1], 5, TREE_ROOTS[5], [])
    with pytest.raises(PeerFault, match="consistency_invalid"):
        verify_consistency(0, EMPTY_ROOT, 0, TREE_ROOTS[5], [])
    with pytest.raises(PeerFault, match="consistency_invalid"):
        verify_consistency(3, TREE_ROOTS[3][:31], 5, TREE_ROOTS[5], consistency_proof(3, 5, TREE.node))


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_proofs_outside_the_tree_are_our_bug(index: int, size: int) -> None:
    with pytest.raises(Misuse, match="proof_out_of_range"):
        inclusion_proof(index, size, TREE.node)
    with pytest.raises(Misuse, match="proof_out_of_range"):
        consistency_proof(size + 1, size, TREE.node)
    with pytest.raises(Misuse, match="proof_out_of_range"):
        consistency_proof(-1, size, TREE.node)
