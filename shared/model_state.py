"""A model as named float32 arrays, as one flat vector and as canonical safetensors bytes with a digest (ADR 0005).

The bytes are written here rather than by a library, because the coordinator and every site have to arrive at the same
digest: tensors in the order of their names, a JCS header padded with spaces to 8 bytes, little endian, no metadata.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from shared.canonical import canonical_bytes, sha256_hex
from shared.errors import InputError, Misuse

Array = NDArray[np.float32]
ModelState = Mapping[str, Array]

MAX_ELEMENTS = 2**31 - 1
MAX_HEADER_BYTES = 4 * 2**20
MAX_TENSORS = 10_000
MAX_RANK = 8
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class Layout(NamedTuple):
    """Which tensors a model has, ascending by name: their places in the flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the number of elements of each tensor."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Return d, the number of elements of the flat vector."""
        return sum(self.lengths)

    def runs(self) -> list[tuple[str, int, int]]:
        """Return name, first element and end of each tensor in the flat vector."""
        found, start = [], 0
        for name, length in zip(self.names, self.lengths, strict=True):
            found.append((name, start, start + length))
            start += length
        return found


def layout_of(state: ModelState) -> Layout:
    """Return the layout of a model state."""
    names = tuple(sorted(state))
    return Layout(names, tuple(tuple(state[name].shape) for name in names))


def flatten(layout: Layout, state: ModelState) -> Array:
    """Return all elements as one float32 vector, tensors by ascending name, each in C order.

    Raises:
        Misuse: ``model_layout_differs``.
    """
    check_same_layout(layout, layout_of(state))
    return np.concatenate([np.ascontiguousarray(state[name], np.float32).ravel() for name in layout.names])


def unflatten(layout: Layout, flat: NDArray[np.float32]) -> dict[str, Array]:
    """Return the named arrays of a flat vector, as views of it.

    Raises:
        Misuse: ``model_layout_differs`` for another length or type.
    """
    if flat.shape != (layout.size,) or flat.dtype != np.float32:
        raise Misuse(
            "model_layout_differs", f"{flat.dtype}{list(flat.shape)} is no float32 vector of {layout.size} elements"
        )
    shapes = zip(layout.runs(), layout.shapes, strict=True)
    return {name: flat[start:stop].reshape(shape) for (name, start, stop), shape in shapes}


def check_same_layout(expected: Layout, found: Layout) -> None:
    """Check that two models have the same tensors.

    Raises:
        Misuse: ``model_layout_differs`` names the first difference.
    """
    if expected == found:
        return
    missing, extra = sorted(set(expected.names) - set(found.names)), sorted(set(found.names) - set(expected.names))
    if missing or extra:
        raise Misuse("model_layout_differs", f"tensors missing: {missing[:5]}; not expected: {extra[:5]}")
    name, want, have = next(row for row in zip(*expected, found.shapes, strict=True) if row[1] != row[2])
    raise Misuse("model_layout_differs", f"{name} has the shape {list(have)}, not {list(want)}")


def to_bytes(state: ModelState) -> bytes:
    """Return the canonical safetensors bytes of a model state.

    Raises:
        Misuse: ``model_malformed`` for a name or type that no model version may have.
        InputError: ``model_not_finite``.
    """
    layout = layout_of(state)
    for name in layout.names:
        if state[name].dtype != np.float32 or not _NAME.fullmatch(name):
            raise Misuse(
                "model_malformed", f"{name[:80]!r} is {state[name].dtype}; names are short ASCII, values float32"
            )
    if not layout.names:
        raise Misuse("model_malformed", "a model needs at least one tensor")
    _check_finite(state)
    return b"".join((_header(layout), *(np.ascontiguousarray(state[name], "<f4").tobytes() for name in layout.names)))


def from_bytes(raw: bytes) -> dict[str, Array]:
    """Read a model version; only the canonical form is accepted, so that a model has one digest.

    Raises:
        InputError: ``model_malformed`` (not safetensors, not float32, too large, not canonical), ``model_not_finite``.
    """
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 10 or size > min(MAX_HEADER_BYTES, len(raw) - 8) or len(raw) > 4 * MAX_ELEMENTS:
        raise InputError("model_malformed", f"{len(raw)} bytes with a header of {size} are no model version")
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError("model_malformed", str(error)[:200]) from error
    if not 0 < len(tensors) <= MAX_TENSORS:
        raise InputError("model_malformed", f"a model version has 1 to {MAX_TENSORS} tensors, not {len(tensors)}")
    state: dict[str, Array] = {}
    for name, array in sorted(tensors.items()):
        if array.dtype != np.float32 or not _NAME.fullmatch(name) or array.ndim > MAX_RANK or not array.size:
            raise InputError("model_malformed", f"{name[:80]!r} is {array.dtype}{list(array.shape)}")
        state[name] = array
    if raw[: 8 + size] != _header(layout_of(state)):
        raise InputError("model_malformed", "the header is not in canonical form: names ascending, no metadata")
    _check_finite(state)
    return state


def digest(raw: bytes) -> str:
    """Return the name of a model version: the SHA-256 of its bytes, as hex."""
    return sha256_hex(raw)


def _header(layout: Layout) -> bytes:
    entries = {
        name: {"dtype": "F32", "shape": list(shape), "data_offsets": [4 * start, 4 * stop]}
        for (name, start, stop), shape in zip(layout.runs(), layout.shapes, strict=True)
    }
    text = canonical_bytes(entries)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _check_finite(state: ModelState) -> None:
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise InputError("model_not_finite", f"{name} holds NaN or infinity")
