import csv
import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shared.errors import InputError
from shared.model_state import from_bytes, layout_of
from shared.strategies.strategy import clip_runs
from site_agent.datasets.manifest import DatasetManifest, DatasetOptions
from site_agent.datasets.registry import inspect
from workbench.initial_model import build_initial_model
from workbench.rehearsal.rehearsal_plan import rehearsal_plan
from workbench.splits import breast_cancer, heart_disease, pneumoniamnist
from workbench.splits.site_data import Split

FOUR = ["north", "south", "east", "west"]
HEART_LINES = {
    "cleveland": [
        "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0",
        "67,1,4,160,286,0,2,108,1,1.5,2,3,3,2",
    ],
    "hungarian": ["28,1,2,130,132,0,2,185,0,0,?,?,?,0", "29,1,2,120,243,0,0,160,0,0,?,?,?,1"],
    "switzerland": ["32,1,1,95,0,?,0,127,0,.7,1,?,?,1", "34,1,4,115,0,?,?,154,0,.2,1,?,?,0"],
    "va": ["63,1,4,140,260,0,1,112,1,3,2,?,?,2", "44,1,4,130,209,0,1,127,0,0,?,?,?,0"],
}


def manifests_of(split: Split) -> dict[str, DatasetManifest]:
    return {
        site: inspect(one.path, site, DatasetOptions(one.label, one.features, one.split, seed=one.seed))
        for site, one in split.sites.items()
    }


def heart_folder(folder: Path) -> Path:
    for site, lines in HEART_LINES.items():
        (folder / f"processed.{site}.data").write_text("\n".join(lines * 5) + "\n")
    return folder


def chest_folder(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, cases in (("train", 40), ("val", 16), ("test", 24)):
        arrays[f"{part}_images"] = generator.integers(0, 256, (cases, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(cases) % 4 > 0).astype(np.uint8)[:, None]
    np.savez(folder / "pneumoniamnist.npz", **arrays)
    rows = "".join(
        f"{index},{int(index % 4 > 0)},{index // 4 % 4},{index // 20 * 2 + index % 2}\n" for index in range(40)
    )
    (folder / "partitions.csv").write_text("train_index,label,iid4,dirichlet05_4\n" + rows)
    return folder


def test_breast_cancer_patients_are_each_at_one_hospital(tmp_path: Path) -> None:
    manifests = manifests_of(breast_cancer.write(tmp_path, None, FOUR, 7))
    assert sum(manifest.cases for manifest in manifests.values()) == 569
    malignant = sum(sum(row[1] for row in manifest.counts.values()) for manifest in manifests.values())
    assert malignant == 212, "scikit-learn codes malignant as 0; a study's positive class is the disease"
    rows = [line for site in FOUR for line in (tmp_path / f"{site}.csv").read_text().splitlines()[1:]]
    assert len(set(rows)) == 569


def test_breast_cancer_hospitals_are_unequal(tmp_path: Path) -> None:
    manifests = manifests_of(breast_cancer.write(tmp_path, None, FOUR, 7))
    sizes = [manifests[site].cases for site in FOUR]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[3]
    shares = [sum(row[1] for row in manifests[site].counts.values()) / manifests[site].cases for site in FOUR]
    assert min(shares[1], shares[3]) > 1.5 * max(shares[0], shares[2])


@pytest.mark.parametrize("count", [3, 12])
def test_breast_cancer_can_be_cut_otherwise(tmp_path: Path, count: int) -> None:
    sites = [f"site-{index}" for index in range(count)]
    assert len(manifests_of(breast_cancer.write(tmp_path, None, sites, 1))) == count


@pytest.mark.parametrize("count", [2, 13])
def test_breast_cancer_cannot_be_cut_into_too_few_or_many(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match="demo_data_missing"):
        breast_cancer.write(tmp_path, None, [str(index) for index in range(count)], 1)


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        (tmp_path / name).mkdir()
        breast_cancer.write(tmp_path / name, None, FOUR, seed)
        digests.append(hashlib.sha256((tmp_path / name / "north.csv").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_heart_disease_says_what_the_files_mean(tmp_path: Path) -> None:
    split = heart_disease.write(tmp_path, heart_folder(tmp_path), list(heart_disease.SITES), 0)
    with (tmp_path / "switzerland.csv").open(newline="") as file:
        first, second = list(csv.DictReader(file))[:2]
    assert first["chol"] == "", "a cholesterol of 0 is a missing one"
    assert first["oldpeak"] == "0.7"
    assert (first["cp_1"], first["cp_4"], second["cp_1"], second["cp_4"]) == ("1", "0", "0", "1")
    assert (first["thal_3"], first["thal_6"], first["thal_7"]) == ("", "", "")
    assert (first["disease"], second["disease"]) == ("1", "0")
    with (tmp_path / "cleveland.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["age"] == "63.0"
    assert {manifest.cases for manifest in manifests_of(split).values()} == {10}


def test_other_files_than_the_published_ones_are_a_warning(tmp_path: Path) -> None:
    split = heart_disease.write(tmp_path, heart_folder(tmp_path), list(heart_disease.SITES), 0)
    assert len(split.warnings) == 4
    assert "processed.va.data" in split.warnings[3]


def test_pneumonia_images_go_where_the_partition_puts_them(tmp_path: Path) -> None:
    split = pneumoniamnist.write(tmp_path, chest_folder(tmp_path), FOUR, 3)
    with np.load(tmp_path / "pneumoniamnist.npz") as source, np.load(tmp_path / "east.npz") as east:
        owners = np.arange(40) // 20 * 2 + np.arange(40) % 2
        np.testing.assert_array_equal(east["train_images"], source["train_images"][owners == 2])
    assert len(split.warnings) == 2
    assert all(sum(map(sum, one.counts.values())) for one in manifests_of(split).values())


@pytest.mark.parametrize("part", ["val", "test"])
def test_official_images_are_shared_out_and_none_is_lost(tmp_path: Path, part: str) -> None:
    pneumoniamnist.write(tmp_path, chest_folder(tmp_path), FOUR, 3)
    pieces = [np.load(tmp_path / f"{site}.npz") for site in FOUR]
    found = sorted(image.tobytes() for piece in pieces for image in piece[f"{part}_images"])
    with np.load(tmp_path / "pneumoniamnist.npz") as source:
        assert found == sorted(image.tobytes() for image in source[f"{part}_images"])
    assert all(set(piece[f"{part}_labels"].ravel()) == {0, 1} for piece in pieces)
    for piece in pieces:
        piece.close()


def test_another_partition_can_be_asked_for(tmp_path: Path) -> None:
    chest_folder(tmp_path)
    pneumoniamnist.write(tmp_path, tmp_path, FOUR, 3, partition="iid4")
    with pytest.raises(InputError, match="no partition 'iid5'"):
        pneumoniamnist.write(tmp_path, tmp_path, FOUR, 3, partition="iid5")


def test_without_the_partition_file_shares_are_drawn(tmp_path: Path) -> None:
    chest_folder(tmp_path)
    (tmp_path / "partitions.csv").unlink()
    split = pneumoniamnist.write(tmp_path, tmp_path, FOUR, 3)
    counts = {site: manifest.counts["training"] for site, manifest in manifests_of(split).items()}
    assert sum(map(sum, counts.values())) == 40
    assert counts["east"][0] == 0, "the third hospital has hardly a normal image"
    assert "partitions.csv is not there" in split.warnings[1]


@pytest.mark.parametrize("module", [heart_disease, pneumoniamnist])
def test_missing_data_says_where_to_get_it(tmp_path: Path, module: ModuleType) -> None:
    for source in (None, tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="demo_data_missing") as caught:
            module.write(tmp_path, source, FOUR, 1)
        assert all(checksum in caught.value.detail for checksum in module.FILES.values())
        assert module.WHERE in caught.value.detail


@pytest.mark.parametrize("module", [heart_disease, pneumoniamnist])
def test_real_hospitals_cannot_be_cut(tmp_path: Path, module: ModuleType) -> None:
    with pytest.raises(InputError, match="4 hospitals, 3"):
        module.write(tmp_path, tmp_path, FOUR[:3], 1)


@pytest.mark.parametrize("module", [breast_cancer, heart_disease, pneumoniamnist])
def test_the_proposed_settings_are_a_plan(module: ModuleType) -> None:
    plan = rehearsal_plan(module.default_settings(), FOUR)
    state = from_bytes(build_initial_model(plan).raw)
    assert clip_runs(plan, layout_of(state))
    assert plan.training.rounds <= 40
    assert plan.selection.metric == "auc"


def test_the_options_are_what_a_data_steward_types(tmp_path: Path) -> None:
    one = breast_cancer.write(tmp_path, None, FOUR, 7).sites["north"]
    words = one.arguments()
    assert words[:2] == ["--label", "malignant"]
    assert words[4:] == ["--split", "30/20/50", "--seed", "7"]
    assert len(words[3].split(",")) == 30
