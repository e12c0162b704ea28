import os
from pathlib import Path

import pytest

from shared.errors import InputError
from workbench.benchmarks import heart_disease

SOURCE = Path(os.environ.get("HEART_DISEASE_DATA", Path(__file__).parents[5] / "shared/data/heart-disease-uci"))


def rows(*pairs: tuple[float, float]) -> list[dict[str, object]]:
    return [
        {"seed": seed, "federated": fed, "pooled": pool, "pooled_converged": pool, "local": {"a": 0.5}, "best_round": 1}
        for seed, (fed, pool) in enumerate(pairs)
    ]


def test_the_summary_compares_the_same_patients() -> None:
    report = heart_disease.summary(rows((0.90, 0.88), (0.80, 0.84)), ["a"])
    assert report["difference_mean"] == pytest.approx(-0.01)
    assert report["within"] is False
    assert report["mean"]["federated"] == pytest.approx(0.85)
    assert report["sd"]["pooled"] == pytest.approx(0.0283)


def test_the_table_shows_every_column() -> None:
    text = heart_disease.table(heart_disease.summary(rows((0.9, 0.9), (0.8, 0.8)), ["a"]))
    assert "| local a | 0.5000 | 0.0000 |" in text
    assert text.splitlines()[-1] == "| federated minus pooled | +0.00000 | 0.00000 |"


def test_missing_data_is_named() -> None:
    with pytest.raises(InputError, match="demo_data_missing"):
        heart_disease.run(None, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_federated_learning_is_as_good_as_pooled_on_real_hospitals() -> None:
    report = heart_disease.run(SOURCE)
    assert report["splits"] >= 20
    assert abs(report["difference_mean"]) <= heart_disease.ALLOWED_DIFFERENCE
    assert report["mean"]["federated"] > max(
        value for name, value in report["mean"].items() if name.startswith("local")
    )
    assert report["mean"]["federated"] > report["mean"]["pooled_converged"] - heart_disease.ALLOWED_DIFFERENCE
