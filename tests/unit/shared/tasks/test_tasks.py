import numpy as np
import pytest
import torch

from shared.cases import Cases
from shared.errors import InputError
from shared.statistics import statistics_from_sums
from shared.tasks.registry import build_task
from shared.tasks.task import case_losses, decided_classes, log_odds
from tests.support.plans import IMAGES, TABULAR

ROWS = Cases(np.array([[1.0, np.nan], [3.0, 10.0], [5.0, 30.0]]), np.array([0, 1, 1]))


def pictures(cases: int = 6, channels: int = 1) -> Cases:
    generator = np.random.default_rng(3)
    return Cases(generator.integers(0, 256, (cases, 28, 28, channels), np.uint8), np.arange(cases) % 2)


def test_rows_are_normalised_and_missing_cells_become_the_mean() -> None:
    task = build_task(TABULAR)
    statistics = statistics_from_sums(task.sums(ROWS), 1)
    inputs = task.inputs(ROWS, statistics)
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[:, 0], torch.tensor([-1.224745, 0.0, 1.224745]))
    torch.testing.assert_close(inputs[:, 1], torch.tensor([0.0, -1.0, 1.0]))


def test_without_statistics_rows_stay_as_they_are() -> None:
    assert build_task(TABULAR).inputs(ROWS, None).tolist() == [[1.0, 0.0], [3.0, 10.0], [5.0, 30.0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_normalised_per_channel(channels: int) -> None:
    task = build_task({**IMAGES, "channels": channels})
    cases = pictures(40, channels)
    statistics = statistics_from_sums(task.sums(cases), 1)
    pixels = cases.inputs / 255
    np.testing.assert_allclose([float(x) for x in statistics["mean"]], pixels.mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose([float(x) for x in statistics["std"]], pixels.std(axis=(0, 1, 2)), rtol=1e-9)
    inputs = task.inputs(cases, statistics)
    assert inputs.shape == (40, channels, 28, 28)
    assert abs(float(inputs.mean())) < 1e-4
    assert float(inputs.std()) == pytest.approx(1, abs=1e-3)


def test_without_statistics_pixels_lie_between_zero_and_one() -> None:
    inputs = build_task(IMAGES).inputs(pictures(), None)
    assert float(inputs.min()) >= 0
    assert float(inputs.max()) <= 1


def test_random_changes_follow_the_generator() -> None:
    task = build_task(IMAGES)
    inputs = task.inputs(pictures(), None)
    names = ["shift", "flip", "contrast"]
    first, again, other = (task.augmented(inputs, names, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == inputs.shape


def test_a_shift_moves_whole_images() -> None:
    task = build_task(IMAGES)
    inputs = torch.zeros(20, 1, 28, 28)
    inputs[:, 0, 14, 14] = 1
    moved = task.augmented(inputs, ["shift"], torch.Generator().manual_seed(1))
    assert moved.sum(dim=(1, 2, 3)).tolist() == [1.0] * 20
    places = {tuple(row) for row in moved.nonzero()[:, 2:].tolist()}
    assert len(places) > 3
    assert all(12 <= row <= 16 and 12 <= column <= 16 for row, column in places)


def test_a_flip_mirrors_left_and_right() -> None:
    inputs = torch.arange(28.0).expand(30, 1, 28, 28)
    flipped = build_task(IMAGES).augmented(inputs, ["flip"], torch.Generator().manual_seed(1))
    mirrored = [torch.equal(image, inputs[0].flip(2)) for image in flipped]
    assert 5 < sum(mirrored) < 25
    assert all(same or torch.equal(image, inputs[0]) for same, image in zip(mirrored, flipped, strict=True))


@pytest.mark.parametrize("task", [TABULAR, IMAGES])
def test_an_unknown_change_is_refused(task: dict[str, object]) -> None:
    with pytest.raises(InputError, match="augmentation"):
        build_task(task).augmented(torch.zeros(2, 1, 28, 28), ["cutout"], torch.Generator())


def test_binary_losses_scores_and_decisions() -> None:
    outputs, labels = torch.tensor([[0.0], [2.0], [-1.0]]), torch.tensor([1, 1, 0])
    torch.testing.assert_close(case_losses(outputs, labels), torch.tensor([0.693147, 0.126928, 0.313262]))
    assert log_odds(outputs).tolist() == [[0.0], [2.0], [-1.0]]
    assert decided_classes(outputs).tolist() == [1, 1, 0]


def test_two_outputs_and_one_tell_the_same() -> None:
    odds = torch.tensor([[0.7], [-3.0]])
    both = torch.cat([torch.zeros(2, 1), odds], dim=1)
    labels = torch.tensor([1, 0])
    torch.testing.assert_close(case_losses(both, labels), case_losses(odds, labels))
    torch.testing.assert_close(log_odds(both)[:, 1:], log_odds(odds))


def test_scores_of_many_classes_are_the_log_odds_of_each() -> None:
    outputs = torch.tensor([[1.0, 2.0, 3.0], [100.0, 0.0, -100.0]])
    probability = torch.softmax(outputs.double(), dim=1)
    scores = log_odds(outputs)
    torch.testing.assert_close(scores[0], torch.log(probability[0] / (1 - probability[0])))
    assert scores[1, 0] == pytest.approx(100, abs=1e-6), "1 - p has vanished here, the log-odds have not"
    assert decided_classes(outputs).tolist() == [2, 0]
