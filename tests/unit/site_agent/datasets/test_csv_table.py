from pathlib import Path

import numpy as np
import pytest

from shared.errors import InputError, Refusal
from shared.task_catalogue import TabularTask, TaskSpec
from site_agent.datasets.manifest import DatasetManifest, DatasetOptions
from site_agent.datasets.registry import check_fits, inspect, load_part

OPTIONS = DatasetOptions(label="outcome")
TASK = TabularTask(features=["pressure", "age"], label="outcome")


def write(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def table(rows: int = 20, header: str = "age,pressure,outcome") -> str:
    return "\n".join([header, *(f"{40 + row},{120.5 + row},{row % 2}" for row in range(rows))]) + "\n"


def all_parts(manifest: DatasetManifest, task: TaskSpec) -> list[list[float]]:
    return [load_part(manifest, part, task).inputs[:, 1].tolist() for part in ("training", "validation", "test")]


def test_a_table_is_described(tmp_path: Path) -> None:
    manifest = inspect(write(tmp_path, table()), "heart", OPTIONS)
    assert manifest.kind == "csv_table"
    assert manifest.features == ["age", "pressure"]
    assert manifest.classes == ["0", "1"]
    assert manifest.counts == {"training": [6, 6], "validation": [2, 2], "test": [2, 2]}
    assert manifest.cases == 20
    assert DatasetManifest.parse(manifest.canonical()) == manifest


def test_every_case_is_in_exactly_one_part(tmp_path: Path) -> None:
    manifest = inspect(write(tmp_path, table(101)), "heart", OPTIONS)
    ages = [age for part in all_parts(manifest, TASK) for age in part]
    assert sorted(ages) == [40.0 + row for row in range(101)]


def test_the_split_follows_the_seed_and_nothing_else(tmp_path: Path) -> None:
    first = inspect(write(tmp_path, table(60)), "a", OPTIONS)
    again = inspect(write(tmp_path, table(60), "moved.csv"), "b", OPTIONS)
    other = inspect(write(tmp_path, table(60)), "a", DatasetOptions(label="outcome", seed=1))
    assert all_parts(first, TASK) == all_parts(again, TASK)
    assert all_parts(first, TASK) != all_parts(other, TASK)
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_the_split_is_pinned(tmp_path: Path) -> None:
    # A registered data set keeps its parts through every upgrade: test patients never become training patients.
    manifest = inspect(write(tmp_path, table(20)), "heart", OPTIONS)
    assert load_part(manifest, "test", TASK).inputs[:, 1].tolist() == [50.0, 51.0, 53.0, 56.0]


def test_columns_come_in_the_order_of_the_task(tmp_path: Path) -> None:
    manifest = inspect(write(tmp_path, "outcome,age,pressure\n" + "0,1,2\n1,3,4\n" * 4), "heart", OPTIONS)
    training = load_part(manifest, "training", TASK)
    assert {tuple(row) for row in training.inputs.tolist()} == {(2.0, 1.0), (4.0, 3.0)}
    assert training.labels.dtype == np.int64


@pytest.mark.parametrize("missing", ["", "?", "NA", "nan", " n/a ", "NULL"])
def test_missing_cells_are_nan(tmp_path: Path, missing: str) -> None:
    manifest = inspect(write(tmp_path, f"age,outcome\n{missing},0\n" + "5,1\n5,0\n" * 3), "heart", OPTIONS)
    task = TabularTask(features=["age"], label="outcome")
    inputs = np.concatenate([load_part(manifest, part, task).inputs for part in ("training", "validation", "test")])
    assert np.isnan(inputs).sum() == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_quotes_and_marks(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeff" + delimiter.join(['"age, years"', "outcome"]) + "\r\n"
    text += "".join(delimiter.join([f'"{age}"', str(age % 2)]) + "\r\n" for age in range(10))
    # With another delimiter than the comma, a comma inside a quoted header is no delimiter.
    if delimiter == ",":
        text = text.replace('"age, years"', '"age years"')
    manifest = inspect(write(tmp_path, text), "heart", OPTIONS)
    assert manifest.features == ["age years" if delimiter == "," else "age, years"]


def test_a_split_column_decides(tmp_path: Path) -> None:
    rows = ["1,0,train", "2,1,TRAIN", "3,0,val", "4,1,validation", "5,0,test"]
    path = write(tmp_path, "age,outcome,part\n" + "\n".join(rows))
    manifest = inspect(path, "heart", DatasetOptions(label="outcome", split_column="part"))
    assert manifest.counts == {"training": [1, 1], "validation": [1, 1], "test": [1, 0]}
    assert manifest.features == ["age"]
    assert load_part(manifest, "test", TabularTask(features=["age"], label="outcome")).inputs.tolist() == [[5.0]]


def refused(path: Path, options: DatasetOptions = OPTIONS) -> InputError:
    with pytest.raises(InputError) as caught:
        inspect(path, "heart", options)
    return caught.value


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    error = refused(tmp_path / "nothing.csv")
    assert error.code == "data_missing"
    assert "nothing.csv" in error.detail


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, table())
    error = refused(path, DatasetOptions(label="outcome", features=("age", "presure")))
    assert error.code == "data_column_missing"
    assert "'presure'; the nearest is 'pressure'" in error.detail


def test_a_missing_label_lists_the_columns(tmp_path: Path) -> None:
    error = refused(write(tmp_path, table()), DatasetOptions(label="xyz"))
    assert error.code == "data_column_missing"
    assert "age, pressure, outcome" in error.detail


def test_a_missing_split_column(tmp_path: Path) -> None:
    error = refused(write(tmp_path, table()), DatasetOptions(label="outcome", split_column="fold"))
    assert error.code == "data_column_missing"


@pytest.mark.parametrize("cell", ["high", "1_000", "inf", "1.2.3", "--"])
def test_a_cell_that_is_no_number_is_named(tmp_path: Path, cell: str) -> None:
    error = refused(write(tmp_path, table().replace("43,", f"{cell},")))
    assert error.code == "data_not_numeric"
    assert f"row 5, column 'age': '{cell}'" in error.detail


def test_rows_are_counted_as_people_count_them(tmp_path: Path) -> None:
    error = refused(write(tmp_path, "age,outcome\n\n1,0\n\n\nx,1\n"))
    assert "row 6, column 'age'" in error.detail


def test_a_decimal_comma_is_explained(tmp_path: Path) -> None:
    error = refused(write(tmp_path, "age;outcome\n1,5;0\n2,5;1\n"))
    assert error.code == "data_not_numeric"
    assert "decimals are written with a point" in error.detail


@pytest.mark.parametrize("label", ["", "0.5", "-1", "1000", "?"])
def test_a_label_that_is_no_class_is_named(tmp_path: Path, label: str) -> None:
    error = refused(write(tmp_path, f"age,outcome\n1,0\n2,1\n3,{label}\n"))
    assert error.code == "data_label_invalid"
    assert "row 4, column 'outcome'" in error.detail


def test_one_class_only(tmp_path: Path) -> None:
    error = refused(write(tmp_path, "age,outcome\n1,1\n2,1\n3,1\n"))
    assert error.code == "data_one_class"
    assert "all 3 cases are of class 1" in error.detail


@pytest.mark.parametrize("text", ["", "age,outcome\n"])
def test_a_table_without_rows(tmp_path: Path, text: str) -> None:
    assert refused(write(tmp_path, text)).code == "data_empty"


def test_only_test_cases_are_nothing_to_train_on(tmp_path: Path) -> None:
    path = write(tmp_path, "age,outcome,part\n1,0,test\n2,1,test\n")
    assert refused(path, DatasetOptions(label="outcome", split_column="part")).code == "data_empty"


@pytest.mark.parametrize(
    "text",
    ["age,outcome\n1,0,7\n", "age,age,outcome\n1,1,0\n", "age,,outcome\n1,1,0\n", 'age,outcome\n"1,0\n', "a\n1\n"],
)
def test_a_table_out_of_shape(tmp_path: Path, text: str) -> None:
    assert refused(write(tmp_path, text)).code in {"data_unreadable", "data_column_missing"}


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"age,outcome\n\xff\xfe,1\n")
    assert refused(path).code == "data_unreadable"


def test_another_kind_of_file(tmp_path: Path) -> None:
    assert refused(write(tmp_path, "{}", "data.json")).code == "data_unreadable"


@pytest.mark.parametrize("split", ["70/30", "70/15/16", "0/50/50", "a/b/c", "-10/100/10"])
def test_an_impossible_split(tmp_path: Path, split: str) -> None:
    error = refused(write(tmp_path, table()), DatasetOptions(label="outcome", split=split))
    assert error.code == "data_split_invalid"


def test_an_unknown_word_in_the_split_column(tmp_path: Path) -> None:
    path = write(tmp_path, "age,outcome,part\n1,0,train\n2,1,tran\n")
    error = refused(path, DatasetOptions(label="outcome", split_column="part"))
    assert error.code == "data_split_invalid"
    assert "row 3: 'tran'" in error.detail


def test_the_label_is_no_feature(tmp_path: Path) -> None:
    error = refused(write(tmp_path, table()), DatasetOptions(label="outcome", features=("age", "outcome")))
    assert error.code == "data_column_missing"


def test_data_that_changed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, table())
    manifest = inspect(path, "heart", OPTIONS)
    write(tmp_path, table().replace("43,", "44,"))
    with pytest.raises(Refusal, match="data_changed"):
        load_part(manifest, "training", TASK)


def test_data_that_went_away_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, table())
    manifest = inspect(path, "heart", OPTIONS)
    path.unlink()
    with pytest.raises(InputError, match="data_missing"):
        load_part(manifest, "training", TASK)


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (TabularTask(features=["age", "weigth"], label="outcome"), "data_column_missing"),
        (TabularTask(features=["age"], label="dead"), "data_task_mismatch"),
    ],
)
def test_a_task_that_asks_for_other_columns_is_refused(tmp_path: Path, task: TabularTask, code: str) -> None:
    manifest = inspect(write(tmp_path, table()), "heart", OPTIONS)
    with pytest.raises(Refusal) as caught:
        check_fits(manifest, task)
    assert caught.value.code == code


def test_more_classes_than_the_task_has_are_refused(tmp_path: Path) -> None:
    manifest = inspect(write(tmp_path, "age,outcome\n1,0\n2,1\n3,2\n"), "heart", OPTIONS)
    with pytest.raises(Refusal, match="labels up to 2"):
        check_fits(manifest, TabularTask(features=["age"], label="outcome"))
