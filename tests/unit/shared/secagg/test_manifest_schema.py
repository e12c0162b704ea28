"""Attack table A13 row 20: weights, norms and metrics travel in the masked tail and nowhere else."""

import pytest

from shared.canonical import JsonObject
from shared.errors import MitralError
from shared.protocol.masked_update import Manifest, VectorDescription

HASH = "ab" * 32
VECTOR: JsonObject = {"elems": 16, "b": 16, "chunk_elems": 2**20, "chunk_sha256": [HASH]}
MANIFEST: JsonObject = {
    "ctx_hash": HASH,
    "site": "site-a",
    "vec": VECTOR,
    "b_commit": HASH,
    "x_commit": None,
    "seed_commit": {"site-b": HASH},
    "shares": {"site-a": HASH, "site-b": HASH},
    "seq": 1,
    "prev": "00" * 32,
}


def test_row_20_a_manifest_has_sizes_and_hashes_only() -> None:
    assert set(Manifest.model_fields) == set(MANIFEST)
    assert set(VectorDescription.model_fields) == {"elems", "b", "chunk_elems", "chunk_sha256"}
    assert Manifest.check(MANIFEST) is not None


@pytest.mark.parametrize("name", ["weight", "num_samples", "loss", "metrics", "norm"])
def test_row_20_clear_metrics_are_refused(name: str) -> None:
    for body in ({**MANIFEST, name: 1}, {**MANIFEST, "vec": {**VECTOR, name: 1}}):
        with pytest.raises(MitralError):
            Manifest.check(body)
