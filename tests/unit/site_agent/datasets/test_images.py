import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import InputError, Refusal
from shared.task_catalogue import ImageTask, TabularTask
from site_agent.datasets.image_pixels import as_pixels
from site_agent.datasets.manifest import DatasetOptions
from site_agent.datasets.registry import check_fits, inspect, load_part

OPTIONS = DatasetOptions()
TASK = ImageTask()


def arrays(**changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    made: dict[str, Any] = {}
    for part, cases in (("train", 12), ("val", 4), ("test", 6)):
        made[f"{part}_images"] = generator.integers(0, 256, (cases, 28, 28), np.uint8)
        made[f"{part}_labels"] = (np.arange(cases) % 2).astype(np.uint8)[:, None]
    return {**made, **changes}


def write_npz(folder: Path, **changes: Any) -> Path:
    path = folder / "images.npz"
    np.savez(path, **{name: value for name, value in arrays(**changes).items() if value is not None})
    return path


def write_folder(folder: Path, places: list[str], cases: int = 10, size: int = 28) -> Path:
    for place in places:
        (folder / place).mkdir(parents=True)
        for index in range(cases):
            pixels = np.full((size, size), 20 * index + len(place), np.uint8)
            Image.fromarray(pixels).save(folder / place / f"image-{index}.png")
    return folder


def test_an_array_file_is_described_and_read(tmp_path: Path) -> None:
    manifest = inspect(write_npz(tmp_path), "xray", OPTIONS)
    assert manifest.counts == {"training": [6, 6], "validation": [2, 2], "test": [3, 3]}
    cases = load_part(manifest, "validation", TASK)
    assert cases.inputs.shape == (4, 28, 28, 1)
    np.testing.assert_array_equal(cases.inputs[..., 0], arrays()["val_images"])
    assert cases.labels.tolist() == [0, 1, 0, 1]


def test_arrays_are_scaled_and_coloured_as_the_task_asks(tmp_path: Path) -> None:
    manifest = inspect(write_npz(tmp_path), "xray", OPTIONS)
    cases = load_part(manifest, "test", ImageTask(image_size=32, channels=3))
    assert cases.inputs.shape == (6, 32, 32, 3)
    assert (cases.inputs[..., 0] == cases.inputs[..., 2]).all()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"val_images": None}, "data_unreadable"),
        ({"train_images": np.zeros((12, 28), np.uint8)}, "data_unreadable"),
        ({"train_images": np.zeros((12, 28, 28), np.float32)}, "data_unreadable"),
        ({"train_images": np.zeros((12, 28, 28, 2), np.uint8)}, "data_unreadable"),
        ({"train_labels": np.zeros((11, 1), np.uint8)}, "data_unreadable"),
        ({"train_labels": np.zeros((12, 1), np.float32)}, "data_unreadable"),
        ({"train_labels": np.full((12, 1), -1)}, "data_label_invalid"),
        ({"train_images": np.array([{}] * 12, object)}, "data_unreadable"),
        (
            {f"{part}_labels": np.zeros(n, np.uint8) for part, n in (("train", 12), ("val", 4), ("test", 6))},
            "data_one_class",
        ),
        ({"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": np.zeros(0, np.uint8)}, "data_empty"),
    ],
)
def test_an_array_file_out_of_form_is_refused(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        inspect(write_npz(tmp_path, **changes), "xray", OPTIONS)
    assert caught.value.code == code


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    array = io.BytesIO()
    np.save(array, np.arange(3))
    for raw in (b"", b"PK\x03\x04 not really", b"\x00" * 30, array.getvalue()):
        path.write_bytes(raw)
        with pytest.raises(InputError, match="data_unreadable"):
            inspect(path, "xray", OPTIONS)


def test_an_array_file_that_changed_is_refused(tmp_path: Path) -> None:
    manifest = inspect(write_npz(tmp_path), "xray", OPTIONS)
    write_npz(tmp_path, val_labels=np.array([1, 0, 1, 0], np.uint8))
    with pytest.raises(Refusal, match="data_changed"):
        load_part(manifest, "training", TASK)


def test_folders_are_classes(tmp_path: Path) -> None:
    manifest = inspect(write_folder(tmp_path, ["normal", "pneumonia"]), "xray", OPTIONS)
    assert manifest.classes == ["normal", "pneumonia"]
    assert sum(map(sum, manifest.counts.values())) == 20
    cases = load_part(manifest, "training", TASK)
    assert cases.inputs.shape[1:] == (28, 28, 1)
    assert np.bincount(cases.labels).tolist() == manifest.counts["training"]
    first_pixels = cases.inputs[:, 0, 0, 0] % 20
    assert (first_pixels == np.where(cases.labels == 0, len("normal"), len("pneumonia"))).all()


def test_numbered_folders_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    manifest = inspect(write_folder(tmp_path, ["0", "1", "2", "10"], 2), "xray", OPTIONS)
    assert manifest.classes == ["0", "1", "2", "10"]


def test_folders_may_give_the_parts(tmp_path: Path) -> None:
    places = [f"{part}/{name}" for part in ("train", "val", "test") for name in ("a", "b")]
    manifest = inspect(write_folder(tmp_path, places, 3), "xray", OPTIONS)
    assert manifest.counts == {"training": [3, 3], "validation": [3, 3], "test": [3, 3]}
    assert manifest.split.by == "given"


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a", "b"], 2)
    (tmp_path / "a" / ".hidden").write_text("x")
    (tmp_path / "a" / "Thumbs.db").write_text("x")
    (tmp_path / ".git").mkdir()
    assert inspect(tmp_path, "xray", OPTIONS).cases == 4


@pytest.mark.parametrize("raw", [b"", b"text", b"\x89PNG\r\n\x1a\n broken"])
def test_a_broken_image_is_named(tmp_path: Path, raw: bytes) -> None:
    write_folder(tmp_path, ["a", "b"], 2)
    (tmp_path / "b" / "broken.png").write_bytes(raw)
    with pytest.raises(InputError, match=r"data_unreadable.*broken\.png"):
        inspect(tmp_path, "xray", OPTIONS)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a", "b"], 2)
    (tmp_path / "b" / "notes.docx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"data_unreadable.*notes\.docx"):
        inspect(tmp_path, "xray", OPTIONS)


def test_a_folder_with_one_class_or_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="data_empty"):
        inspect(tmp_path / "empty", "xray", OPTIONS)
    with pytest.raises(InputError, match="data_one_class"):
        inspect(write_folder(tmp_path / "one", ["a"]), "xray", OPTIONS)


def test_an_image_that_changed_is_refused(tmp_path: Path) -> None:
    manifest = inspect(write_folder(tmp_path, ["a", "b"], 3), "xray", OPTIONS)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "a" / "image-0.png")
    with pytest.raises(Refusal, match="data_changed"):
        load_part(manifest, "training", TASK)


def test_sixteen_bits_are_mapped_to_eight() -> None:
    wide = Image.fromarray(np.array([[0, 40000], [20000, 10000]], np.uint16))
    assert as_pixels(wide, 2, 1)[..., 0].tolist() == [[0, 255], [127, 64]]


def test_images_do_not_fit_a_table_task_nor_the_other_way(tmp_path: Path) -> None:
    images = inspect(write_folder(tmp_path / "images", ["a", "b"], 2), "xray", OPTIONS)
    (tmp_path / "t.csv").write_text("age,label\n1,0\n2,1\n")
    rows = inspect(tmp_path / "t.csv", "table", OPTIONS)
    for manifest, task in ((images, TabularTask(features=["age"], label="label")), (rows, TASK)):
        with pytest.raises(Refusal, match="data_task_mismatch"):
            check_fits(manifest, task)


def test_folders_have_exactly_the_classes_of_the_task(tmp_path: Path) -> None:
    # With a class folder missing at one hospital, its labels would mean something else there.
    manifest = inspect(write_folder(tmp_path, ["a", "c"], 2), "xray", OPTIONS)
    with pytest.raises(Refusal, match="has the classes a, c"):
        check_fits(manifest, ImageTask(classes=3))
