"""The add-checkpoint body, and when a head is final."""

from itertools import product

import pytest

from shared.audit.witness import enough_to_hear, final_size, parse_add_checkpoint, split_bundle, write_add_checkpoint
from shared.errors import PeerFault
from shared.secagg.roster import next_quorum

NOTE = "alpha/log/1\n5\nqEyycnfbcTnMUc6SBqI6++Yjwy/CeOYbWALmA+ljXGg=\n\n\u2014 alpha/log/1 AAAA\n"


@pytest.mark.parametrize("proof", [[], [b"1" * 32], [bytes(32)] * 63])
def test_a_body_comes_back_as_it_was_written(proof: list[bytes]) -> None:
    found = parse_add_checkpoint(write_add_checkpoint(3, proof, NOTE))
    assert (found.old_size, list(found.proof), found.note) == (3, proof, NOTE)


@pytest.mark.parametrize(
    "text",
    [
        "", "old 3\n", "old 03\n\nx", "old -1\n\nx", "3\n\nx", "old 3\nAAAA\n\nx", "old 3\n!!\n\nx",
        write_add_checkpoint(3, [bytes(32)] * 64, NOTE),
    ],
)  # fmt: skip
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(PeerFault, match="checkpoint_malformed"):
        parse_add_checkpoint(text)


def test_a_head_is_final_when_a_quorum_cosigned_one_at_least_so_large() -> None:
    assert final_size([10, 8, 5, 0], 3) == 5
    assert final_size([10, 8, 5, 0], 4) == 0
    assert final_size([10, 8], 3) == 0
    assert final_size([], 1) == 0


def test_those_who_are_heard_always_hold_one_honest_witness_of_every_final_head() -> None:
    """Whoever made a head final, and whoever is heard: among both there are more sites than may lie."""
    for count, c in product(range(3, 40), range(1, 14)):
        if c > count - 2:
            continue
        roster = {"sites": [{}] * count, "c": c}
        heard, quorum = enough_to_hear(roster), next_quorum(roster)
        assert heard + quorum - count > c
        assert heard <= count


def test_a_bundle_is_split_into_its_entries_and_one_that_is_cut_is_refused() -> None:
    assert split_bundle(b"\x00\x02ab\x00\x00\x00\x01c", 3) == [b"ab", b"", b"c"]
    for bad in (b"\x00\x02a", b"\x00", b"\x00\x01ab", b"", b"\x00\x01a" * 3):
        with pytest.raises(PeerFault, match="log_entries_invalid"):
            split_bundle(bad, 2)
