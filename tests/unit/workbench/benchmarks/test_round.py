"""The benchmark of whole rounds: its arithmetic, without running a federation."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from shared.errors import InputError
from workbench.benchmarks import round as benchmark
from workbench.study_file import read_study


@pytest.mark.parametrize("dimension", [1_000, 12_345, 1_000_000])
def test_the_layers_reach_the_dimension_and_hardly_exceed_it(dimension: int) -> None:
    size = benchmark.hidden_layers(dimension)[0]
    weights = (benchmark.FEATURES + 1) * size + (size + 1) * size + (size + 1)
    assert dimension <= weights <= dimension * 1.1


def test_the_study_it_runs_is_a_valid_study_file() -> None:
    raw = yaml.safe_dump(benchmark._study(1_000_000, ["a", "b", "c", "d"], 13, 16)).encode()
    draft = read_study(raw, "study.yaml", datetime.now(UTC))
    assert draft.values["training"]["rounds"] == 13
    assert draft.values["secure_aggregation"]["q"] == 14


def test_the_cases_have_both_classes_and_every_column(tmp_path: Path) -> None:
    lines = benchmark._cases(tmp_path / "a.csv", 0).read_text().splitlines()
    assert lines[0].split(",")[-1] == "label"
    assert {line.split(",")[-1] for line in lines[1:]} == {"0", "1"}
    assert len(lines) == benchmark.CASES + 1


@pytest.mark.parametrize("arguments", [(10, 4, 10), (10**6, 2, 10), (10**6, 4, 0)])
def test_arguments_out_of_range_are_refused_before_anything_starts(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(InputError) as caught:
        benchmark.measure_rounds(*arguments)
    assert caught.value.code == "bench_arguments"
