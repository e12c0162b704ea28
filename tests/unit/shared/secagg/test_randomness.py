"""Attack table A13 row 17, and a light form of the simulator test of PROTOCOLS A18.3."""

import ast
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.crypto.keystream import keystream_words
from shared.secagg import pair_secrets
from shared.secagg.packing import unpack
from shared.secagg.quantization import RandomBits
from tests.support.masked_round import MaskedRound
from tests.support.tree import name_of, parsed, python_files

BANNED = ("numpy.random", "random")


def imported_names(tree: ast.AST) -> set[str]:
    """Return every module a file imports and every dotted name it uses, with numpy's usual short name written out."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node).replace("np.", "numpy.", 1))
    return names


def test_row_17_no_other_generator_where_masks_are_made() -> None:
    files = list(python_files("shared/secagg", "shared/crypto"))
    assert len(files) > 15
    found = [
        f"{name_of(path)}: {name}"
        for path in files
        for name in imported_names(parsed(path))
        if name in BANNED or name.startswith(tuple(f"{banned}." for banned in BANNED))
    ]
    assert not found


def chi_square(raw: bytes) -> float:
    """Return the chi-square statistic of the byte values against the uniform distribution (255 degrees of freedom)."""
    counts = np.bincount(np.frombuffer(raw, np.uint8), minlength=256)
    expected = len(raw) / 256
    return float(((counts - expected) ** 2 / expected).sum())


MOST = 255 + 6 * (2 * 255) ** 0.5  # six standard deviations above the mean


@pytest.mark.parametrize("word", [np.uint16, np.uint32])
def test_row_17_masks_are_uniform(word: type[np.unsignedinteger]) -> None:
    words = keystream_words(bytes(range(32)), np.dtype(word), 2**20, 2**18)
    assert chi_square(words.tobytes()) < MOST
    assert words.max() > np.iinfo(word).max * 0.999  # the top value is as likely as any other: no modulo bias
    assert chi_square(b"".join(bytes([value % 251]) for value in words.tobytes()[: 2**18])) > MOST


DERIVATIONS: list[Callable[[bytes], bytes]] = [
    lambda secret: pair_secrets.mask_seed(secret, bytes(32)),
    lambda secret: pair_secrets.stream_key(secret, bytes(32), "a", "b"),
    lambda secret: pair_secrets.self_key(secret, bytes(32), "a"),
    lambda secret: pair_secrets.share_key(secret, bytes(32), "a", "b"),
    lambda secret: keystream_words(secret, np.dtype(np.uint32), 0, 64).tobytes(),
    lambda secret: RandomBits(secret).words(64).tobytes(),
]


@pytest.mark.parametrize("derive", DERIVATIONS)
def test_row_17_every_bit_of_a_seed_matters(derive: Callable[[bytes], bytes]) -> None:
    secret = bytes(range(32))
    start = derive(secret)
    outputs = {start}
    for bit in range(256):
        changed = bytearray(secret)
        changed[bit // 8] ^= 1 << bit % 8
        made = derive(bytes(changed))
        outputs.add(made)
        flipped = sum(byte.bit_count() for byte in (a ^ b for a, b in zip(start, made, strict=True)))
        bits = 8 * len(start)
        assert abs(flipped - bits / 2) < 6 * (bits / 4) ** 0.5
    assert len(outputs) == 257


def stripped(masked: MaskedRound, site: str, corrupt: str) -> NDArray[np.uint16]:
    """Return a site's words after the adversary took off all it can: the opened self mask, its own pair mask."""
    upload = masked.uploads[site]
    words = np.concatenate([unpack(chunk, 16, len(chunk) // 2) for chunk in upload.chunks])[: masked.d]
    own = pair_secrets.self_key(upload.self_secret, masked.ctx_hash, site)
    lo, hi = pair_secrets.in_order(site, corrupt)
    shared = pair_secrets.stream_key(masked.seeds(corrupt)[site], masked.ctx_hash, lo, hi)
    masks = [keystream_words(key, np.dtype(np.uint16), 0, masked.d) for key in (own, shared)]
    sign = pair_secrets.mask_sign(site, corrupt)
    return (words - masks[0] - masks[1] if sign > 0 else words - masks[0] + masks[1]).astype(np.uint16)


def test_honest_words_are_uniform_given_their_sum_whoever_holds_which_input() -> None:
    # Two honest sites, the third one and the coordinator collude and everything legal is opened. What is left of each
    # honest vector is uniform, whatever was put in; only the sum of the two is fixed, and the same when they swap.
    first, second = np.full(2**16, 1.0, np.float32), np.full(2**16, -0.25, np.float32)
    sums = []
    for seed, inputs in ((1, (first, second)), (2, (second, first))):
        masked = MaskedRound(3, 2**16, 16, 8, seed, 2**16, equal_weights=True)
        masked.clips = [(2**16, 1.0)]
        for site, update in zip(masked.cohort, (*inputs, first), strict=True):
            masked.add_upload(site, update)
        views = [stripped(masked, site, "s02") for site in masked.cohort[:2]]
        for view, site in zip(views, masked.cohort, strict=False):
            assert chi_square(view.tobytes()) < MOST
            assert chi_square((view - masked.uploads[site].plain.astype(np.uint16)).tobytes()) < MOST
        total = (views[0] + views[1]).view(np.int16)
        np.testing.assert_array_equal(total, masked.uploads["s00"].plain + masked.uploads["s01"].plain)
        sums.append(total)
    assert abs(sums[0].mean() - sums[1].mean()) < 0.01
    assert set(sums[0].tolist()) == set(sums[1].tolist())


def test_row_10_two_uploads_of_one_context_do_not_give_away_their_difference() -> None:
    # A crash before SEALED means masking again: same mask seeds, but a fresh b hides the difference.
    masked = MaskedRound(3, 2**15, 16, 8, 4, 2**15)
    once = np.frombuffer(masked.add_upload("s00").chunks[0], "<u2")
    again = np.frombuffer(masked.add_upload("s00").chunks[0], "<u2")
    assert chi_square((once - again).tobytes()) < MOST
