"""What can be learned, without torch: tasks, models, and what the masked tail of each kind of context carries.

A plan's ``task`` object is validated here; `shared/tasks` builds the same names in torch. What the sums of a
`statistics` context mean stands in `shared/statistics.py`.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from shared.canonical import JsonObject
from shared.errors import InputError
from shared.metrics import LOSS_CAP, LOSS_SCALE
from shared.protocol.round_context import Kind
from shared.protocol.study import Plan
from shared.protocol.wire import WireObject
from shared.statistics import MAX_COUNT, MAX_SUM

MAX_CASES = 2**24 - 1  # of one site, in one part; the limbs of the tail are sized for it
METRICS = ("auc", "loss")
AUGMENTATIONS = ("shift", "flip", "rotate")
Part = Literal["validation", "test"]
Column = Annotated[str, Field(min_length=1, max_length=200)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Classes = Annotated[int, Field(ge=2, le=1000)]


class LogisticRegression(WireObject):
    """One weight per feature and class score."""

    name: Literal["logistic_regression"] = "logistic_regression"


class Mlp(WireObject):
    """Fully connected layers of the given sizes."""

    name: Literal["mlp"] = "mlp"
    hidden: Annotated[list[Width], Field(default_factory=lambda: [16], min_length=1, max_length=8)]


class SmallCnn(WireObject):
    """Three convolutions with group normalisation."""

    name: Literal["small_cnn"] = "small_cnn"


class ResNet18(WireObject):
    """ResNet-18 with a 3x3 stem and group normalisation."""

    name: Literal["resnet18"] = "resnet18"


TabularModel = Annotated[LogisticRegression | Mlp, Field(discriminator="name")]
ImageModel = Annotated[SmallCnn | ResNet18, Field(discriminator="name")]


class TabularTask(WireObject):
    """Numbers in columns, one class per row."""

    name: Literal["tabular"] = "tabular"
    features: Annotated[list[Column], Field(min_length=1, max_length=10_000)]
    label: Column
    classes: Classes = 2
    model: TabularModel = LogisticRegression()

    @property
    def statistics_length(self) -> int:
        """Return for how many columns statistics are summed."""
        return len(self.features)


class ImageTask(WireObject):
    """Square images, one class each."""

    name: Literal["image_classification"] = "image_classification"
    image_size: Annotated[int, Field(ge=28, le=64)] = 28
    channels: Literal[1, 3] = 1
    classes: Classes = 2
    model: ImageModel = SmallCnn()

    @property
    def statistics_length(self) -> int:
        """Return for how many channels statistics are summed."""
        return self.channels


TaskSpec = TabularTask | ImageTask
_TASK: TypeAdapter[TaskSpec] = TypeAdapter(Annotated[TaskSpec, Field(discriminator="name")])


def task_spec(task: JsonObject) -> TaskSpec:
    """Validate a plan's ``task`` object; absent keys get their defaults.

    Raises:
        InputError: ``task_invalid`` (names the first wrong key).
    """
    try:
        spec = _TASK.validate_python(task)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "task"
        raise InputError("task_invalid", f"{where}: {first['msg']}") from error
    if isinstance(spec, TabularTask):
        twice = next((name for index, name in enumerate(spec.features) if name in spec.features[:index]), None)
        if twice is not None:
            raise InputError("task_invalid", f"tabular.features: {twice!r} stands twice")
        if spec.label in spec.features:
            raise InputError(
                "task_invalid", f"tabular.label: {spec.label!r} is also a feature; it would predict itself"
            )
    return spec


def check_task(task: JsonObject) -> JsonObject:
    """Return a ``task`` object with every key present.

    Raises:
        InputError: ``task_invalid``.
    """
    return task_spec(task).as_json()


def scored_classes(classes: int) -> int:
    """Return how many score histograms a task has: one for two classes, else one per class against the rest."""
    return 1 if classes == 2 else classes


def check_metrics(metrics: JsonObject) -> JsonObject:
    """Return a plan's ``metrics`` object with every key present.

    Raises:
        InputError: ``metrics_invalid`` for unknown keys or a number of bins that is odd or out of range; with an odd
            number the decision threshold would lie inside a bin.
    """
    bins = metrics.get("bins", 64)
    if set(metrics) - {"bins"} or type(bins) is not int or not 2 <= bins <= 4096 or bins % 2:
        raise InputError(
            "metrics_invalid", f"{str(metrics)[:200]}: expected one key, an even number of bins from 2 to 4096"
        )
    return {"bins": bins}


def tail_items(plan: Plan, kind: Kind, part: Part | None) -> list[tuple[str, int, int]]:
    """Return name, length and a site's largest value for every item of the masked tail, in order (PROTOCOLS A9, A15).

    `part` names the patients on whom the received model version is scored; None leaves the score items out.

    Raises:
        InputError: ``task_invalid``, ``metrics_invalid``.
    """
    spec = task_spec(plan.task)
    items = [("weight", 1, plan.secure_aggregation.w_cap)] if kind == "update" else []
    items.append(("n_sites", 1, 1))
    if kind == "statistics":
        features = spec.statistics_length
        items += [
            ("feature_count", features, MAX_COUNT),
            ("feature_sum", features, MAX_SUM),
            ("feature_square_sum", features, MAX_SUM),
            ("class_count", spec.classes, MAX_CASES),
        ]
    elif part is not None:
        bins = check_metrics(plan.metrics)["bins"]
        items += [
            (
                "score_histogram" if part == "validation" else "test_histogram",
                scored_classes(spec.classes) * 2 * bins,
                MAX_CASES,
            ),
            ("loss", 1, MAX_CASES * LOSS_SCALE * LOSS_CAP),
            ("correct", 1, MAX_CASES),
            ("cases", 1, MAX_CASES),
        ]
    items.append(("checksum", 4, 2**plan.secure_aggregation.b - 1))
    return items
