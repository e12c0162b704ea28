from typing import Any

import pytest

from shared.audit.log_checkpoint import LogCheckpoint, LogVkey, sign_checkpoint
from shared.audit.merkle import MemoryTree, leaf_hash, root_at
from shared.audit.proofs import build_inclusion, verify_inclusion_bundle
from shared.canonical import JsonObject, b64u
from shared.errors import Misuse, PeerFault
from tests.support.audit_story import COORDINATOR_KEY, LOG_KEY, ORIGIN, tell

STORY = tell(1)
TREE = MemoryTree(map(leaf_hash, STORY.leaves))
SIZE = len(STORY.leaves)
VKEY = LogVkey(ORIGIN, 1, LOG_KEY.verify_key)


def note_at(size: int) -> str:
    return sign_checkpoint(LogCheckpoint(ORIGIN, size, root_at(size, TREE.node)), LOG_KEY)


def bundle_of(index: int, size: int = SIZE) -> JsonObject:
    return build_inclusion(STORY.leaves[index], index, note_at(size), TREE.node)


def test_every_entry_is_proved_under_every_later_head() -> None:
    for size in range(1, SIZE + 1):
        for index in range(size):
            proved = verify_inclusion_bundle(bundle_of(index, size), VKEY, ORIGIN)
            assert (proved.index, proved.checkpoint.size, proved.leaf) == (index, size, STORY.leaves[index])
            assert proved.entry["log"] == ORIGIN


def test_a_head_that_does_not_cover_the_entry_proves_nothing() -> None:
    with pytest.raises(Misuse, match="proof_out_of_range"):
        bundle_of(5, 5)
    with pytest.raises(Misuse, match="proof_out_of_range"):
        build_inclusion(STORY.leaves[4], 5, note_at(SIZE), TREE.node)


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 4},
        {"index": -1},
        {"index": SIZE},
        {"index": True},
        {"index": "5"},
        {"proof": []},
        {"proof": None},
        {"proof": ["00" * 32] * 65},
        {"proof": [1]},
        {"proof": ["00" * 31]},
        {"leaf": b64u(STORY.leaves[4])},
        {"leaf": "!"},
        {"leaf": None},
        {"checkpoint": None},
        {"checkpoint": ""},
        {"checkpoint": note_at(SIZE - 1)},
        {"checkpoint": sign_checkpoint(LogCheckpoint(ORIGIN, SIZE, TREE.root()), COORDINATOR_KEY)},
        {"extra": 1},
    ],
)
def test_changed_bundles_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PeerFault):
        verify_inclusion_bundle({**bundle_of(5), **changes}, VKEY, ORIGIN)


def test_another_log_and_missing_fields_are_refused() -> None:
    with pytest.raises(PeerFault, match="checkpoint_origin"):
        verify_inclusion_bundle(bundle_of(5), VKEY, "beta/log/1")
    for name in ("leaf", "index", "proof", "checkpoint"):
        bundle = bundle_of(5)
        del bundle[name]
        with pytest.raises(PeerFault, match="inclusion_invalid"):
            verify_inclusion_bundle(bundle, VKEY, ORIGIN)


def test_a_well_proved_leaf_that_is_no_entry_is_refused() -> None:
    tree = MemoryTree([leaf_hash(b"{}")])
    note = sign_checkpoint(LogCheckpoint(ORIGIN, 1, tree.root()), LOG_KEY)
    with pytest.raises(PeerFault, match="entry_malformed"):
        verify_inclusion_bundle(build_inclusion(b"{}", 0, note, tree.node), VKEY, ORIGIN)
