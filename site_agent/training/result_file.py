"""The one file a training job leaves: the update and the site's own tail values. Read as if a stranger had written it.

safetensors with ``update`` (float32, flat) and one int64 tensor (values, 3) per tail item: a value in three limbs of 40
bits, low limb first, because fixed-point sums do not fit 64 bits.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared.canonical import JsonObject
from shared.errors import InputError, Misuse, PeerFault
from shared.model_state import Array

LIMBS, LIMB_BITS = 3, 40
MAX_BYTES = 16 * 2**30
MAX_VALUES = 2**24
ITEMS = {
    "weight", "score_histogram", "test_histogram", "loss", "correct", "cases",
    "feature_count", "feature_sum", "feature_square_sum", "class_count",
}  # fmt: skip


@dataclass(frozen=True)
class TrainingResult:
    """What a job brought: the flat update (train only), values of tail items, and a report that stays at the site.

    `values` has `weight` (train), `score_histogram` or `test_histogram`, `loss`, `correct`, `cases` (where asked for),
    or `feature_count`, `feature_sum`, `feature_square_sum`, `class_count` (statistics). `n_sites` and `checksum` are
    not of the child's making.
    """

    update: Array | None
    values: dict[str, list[int]]
    report: JsonObject = field(default_factory=dict)


def write_result(path: Path, update: Array | None, values: Mapping[str, Sequence[int]]) -> None:
    """Write a result so that it is there whole or not at all.

    Raises:
        InputError: ``update_not_finite``.
    """
    if update is not None and not np.isfinite(update).all():
        raise InputError("update_not_finite", "training left NaN or infinity in the update")
    tensors: dict[str, NDArray[Any]] = {name: _limbs(row) for name, row in values.items()}
    if update is not None:
        tensors["update"] = np.ascontiguousarray(update, np.float32)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(save(tensors))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_result(path: Path) -> TrainingResult:
    """Read a result file, now or after a restart.

    Raises:
        PeerFault: ``result_malformed``, ``update_not_finite``.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PeerFault("result_malformed", f"the result is larger than {MAX_BYTES} bytes")
        tensors = load(path.read_bytes())
    except OSError as error:
        raise PeerFault("result_malformed", f"the training process left no result: {error.strerror}") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise PeerFault("result_malformed", f"the training process's result: {str(error)[:200]}") from error
    update = tensors.pop("update", None)
    if update is not None and (update.dtype != np.float32 or update.ndim != 1 or not update.size):
        raise PeerFault("result_malformed", f"the update is {update.dtype}{list(update.shape)}")
    if update is not None and not np.isfinite(update).all():
        raise PeerFault("update_not_finite", "the training process's update holds NaN or infinity")
    return TrainingResult(update, {name: _integers(name, array) for name, array in sorted(tensors.items())})


def _limbs(values: Sequence[int]) -> NDArray[np.int64]:
    if not values or any(not 0 <= value < 2 ** (LIMBS * LIMB_BITS) for value in values):
        raise Misuse("result_malformed", "a tail item has no values or one that does not fit")
    mask = 2**LIMB_BITS - 1
    return np.array([[(value >> LIMB_BITS * limb) & mask for limb in range(LIMBS)] for value in values], np.int64)


def _integers(name: str, limbs: NDArray[Any]) -> list[int]:
    fits = name in ITEMS and limbs.dtype == np.int64 and limbs.ndim == 2 and limbs.shape[1] == LIMBS
    if not fits or not 0 < len(limbs) <= MAX_VALUES or limbs.min() < 0 or limbs.max() >= 2**LIMB_BITS:
        raise PeerFault("result_malformed", f"{name[:40]!r} is {limbs.dtype}{list(limbs.shape)}, no tail item")
    return [low | middle << LIMB_BITS | high << 2 * LIMB_BITS for low, middle, high in limbs.tolist()]
