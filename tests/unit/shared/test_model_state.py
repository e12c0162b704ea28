import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError, Misuse
from shared.model_state import (
    Layout,
    check_same_layout,
    digest,
    flatten,
    from_bytes,
    layout_of,
    to_bytes,
    unflatten,
)

STATE = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([1.5], np.float32),
    "c.scale": np.array(0.25, np.float32),
}


def header_and_data(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_the_bytes_do_not_depend_on_the_order_of_the_mapping() -> None:
    assert to_bytes(STATE) == to_bytes(dict(reversed(STATE.items())))


def test_the_bytes_are_pinned() -> None:
    # A change of this digest renames every model version there is.
    assert digest(to_bytes(STATE)) == "1fb92b61ec297504b12a3d79a594b204cdc99e06e82e5689ee4fc8404ae25c47"


def test_the_header_is_canonical_and_aligned() -> None:
    raw = to_bytes(STATE)
    size = int.from_bytes(raw[:8], "little")
    assert size % 8 == 0
    header = raw[8 : 8 + size].decode()
    assert header.startswith('{"a.bias":{"data_offsets":[0,4],"dtype":"F32","shape":[1]},"b.weight"')
    assert len(raw) == 8 + size + 4 * 8


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(STATE))
    with safetensors.safe_open(path, framework="numpy") as opened:
        assert set(opened.keys()) == set(STATE)
        for name, array in STATE.items():
            np.testing.assert_array_equal(opened.get_tensor(name), array)


def test_values_survive_bit_for_bit_and_views_are_allowed() -> None:
    column = np.asfortranarray(np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32))
    state = {"w": column, "part": column[::2]}
    back = from_bytes(to_bytes(state))
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array)


def test_pickle_is_refused() -> None:
    with pytest.raises(InputError, match="model_malformed"):
        from_bytes(pickle.dumps(STATE))


@pytest.mark.parametrize("cut", [0, 7, 9, 50, -1])
def test_a_truncated_model_is_refused(cut: int) -> None:
    with pytest.raises(InputError, match="model_malformed"):
        from_bytes(to_bytes(STATE)[:cut])


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(InputError, match="model_malformed"):
        from_bytes(to_bytes(STATE) + b"\x00")


def test_another_writers_form_is_refused() -> None:
    # Valid safetensors, but a second name for the same model: metadata, and float types in another order.
    raw = safetensors.numpy.save(STATE, metadata={"made": "elsewhere"})
    with pytest.raises(InputError, match="canonical"):
        from_bytes(raw)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"w": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, b"\x00" * 8),
        ({"w": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"\x00" * 2),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"\x00" * 4),
        ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"\x00" * 8),
        ({"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, b""),
        ({"w": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, b"\x00" * 4),
        ({"../w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\x00" * 4),
        ({}, b""),
        ([], b""),
    ],
)
def test_other_headers_are_refused(header: object, data: bytes) -> None:
    with pytest.raises(InputError, match="model_malformed"):
        from_bytes(header_and_data(header, data))


def test_a_huge_header_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="model_malformed"):
        from_bytes((2**40).to_bytes(8, "little") + b"{}" * 20)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_refused_both_ways(value: float) -> None:
    with pytest.raises(InputError, match="model_not_finite"):
        to_bytes({"w": np.array([1, value], np.float32)})
    header = {"w": {"data_offsets": [0, 4], "dtype": "F32", "shape": [1]}}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    raw = len(text).to_bytes(8, "little") + text + np.array([value], "<f4").tobytes()
    with pytest.raises(InputError, match="model_not_finite"):
        from_bytes(raw)


@pytest.mark.parametrize("state", [{}, {"w": np.zeros(2)}, {"__metadata__": np.zeros(2, np.float32)}])
def test_what_is_no_model_is_not_written(state: dict[str, np.ndarray]) -> None:
    with pytest.raises(Misuse, match="model_malformed"):
        to_bytes(state)


def test_flatten_and_unflatten_are_inverse() -> None:
    layout = layout_of(STATE)
    flat = flatten(layout, STATE)
    assert layout.size == len(flat) == 8
    assert layout.runs() == [("a.bias", 0, 1), ("b.weight", 1, 7), ("c.scale", 7, 8)]
    back = unflatten(layout, flat)
    assert {name: array.tolist() for name, array in back.items()} == {name: STATE[name].tolist() for name in STATE}


def test_a_flat_vector_of_another_size_is_refused() -> None:
    with pytest.raises(Misuse, match="model_layout_differs"):
        unflatten(layout_of(STATE), np.zeros(9, np.float32))


def test_differing_layouts_name_the_difference() -> None:
    with pytest.raises(Misuse, match=r"w has the shape \[3\], not \[2\]"):
        check_same_layout(Layout(("w",), ((2,),)), Layout(("w",), ((3,),)))
    with pytest.raises(Misuse, match=r"missing: \['w'\]; not expected: \['v'\]"):
        check_same_layout(Layout(("w",), ((2,),)), Layout(("v",), ((2,),)))


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,20}", fullmatch=True)
SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)


@given(st.dictionaries(NAMES, SHAPES, min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_any_state_survives(shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    state = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    raw = to_bytes(state)
    back = from_bytes(raw)
    assert to_bytes(back) == raw
    assert flatten(layout_of(state), state).tobytes() == flatten(layout_of(back), back).tobytes()


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_the_stable_codes(raw: bytes) -> None:
    with pytest.raises(InputError):
        from_bytes(raw)
