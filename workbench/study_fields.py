"""Every key of a study file, as data: kind, range, default and meaning. Reader, example and reference page use it."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from shared.task_catalogue import AUGMENTATIONS


class Kind(Enum):
    """What a key's value is, in the words of an error message."""

    ID = "an id: 1 to 64 of a-z 0-9 . _ -"
    IDS = "a list of ids"
    TEXT = "text"
    TEXTS = "a list of texts"
    INTEGER = "a whole number"
    INTEGERS = "a list of whole numbers"
    DECIMAL = "a number"
    CHOICE = "one of the listed words"
    DATE = "a date such as 2027-06-30"
    CLIPS = "keys are tensor names, values are numbers"


@dataclass(frozen=True)
class Required:
    """Stands where a default would: the key must be given, and the example shows this value."""

    example: Any


@dataclass(frozen=True)
class Field:
    """One key. `low` and `high` bound numbers (inclusive), the length of texts and the number of list items."""

    path: str
    kind: Kind
    default: Any  # a YAML-ready value, Required(example), or None where the key may be absent
    meaning: str
    low: int | str | None = None
    high: int | str | None = None
    choices: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # the models that have this key; empty: all
    above_low: bool = False  # the lower bound itself is out

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def section(self) -> str:
        """Return the path without its last part; empty for the top level."""
        return self.path.rpartition(".")[0]

    @property
    def is_required(self) -> bool:
        """Answer whether a file without this key is refused."""
        return isinstance(self.default, Required)

    def range_text(self) -> str:
        """Return the allowed values for people; empty when there is nothing to say."""
        if self.choices:
            return ", ".join(self.choices)
        if self.kind in {Kind.INTEGER, Kind.INTEGERS, Kind.DECIMAL, Kind.CLIPS} and self.low is not None:
            return f"{'above' if self.above_low else 'from'} {self.low} to {self.high}"
        return ""

    def bounds(self) -> tuple[Decimal | None, Decimal | None]:
        """Return the numeric bounds."""
        return tuple(None if bound is None else Decimal(bound) for bound in (self.low, self.high))  # type: ignore[return-value]


SECTIONS = {
    "": "Who, what and how long",
    "task": "What is learned. Every hospital's data must have this form",
    "task.model": "The network",
    "preprocessing": "What happens to the inputs before training",
    "training": "What a hospital does in one round",
    "strategy": "How the sum of the updates becomes the next model version",
    "secure_aggregation": "How numbers are written into the masked vector",
    "secure_aggregation.clip": "The largest change of one weight in one round; what lies beyond is cut off",
    "selection": "Which model version is the best (on validation data, never on test data), and when to stop early",
    "metrics": "How scores are summed up",
    "deadlines": "How long the coordinator waits in one round",
}

# Keys that do not depend on the task, in the order of the example.
COMMON = (
    Field("study", Kind.ID, Required("my-study"), "the study's name on the wire, in logs and on the command line"),
    Field("title", Kind.TEXT, Required("A title people recognise"), "shown to the hospitals' data stewards", 1, 200),
    Field("purpose", Kind.TEXT, Required("What is asked, and who benefits"), "shown to the data stewards", 1, 2000),
    Field(
        "federation", Kind.ID, Required("my-federation"), "the federation's id; `mitral-coordinator init` was given it"
    ),
    Field(
        "sites",
        Kind.IDS,
        Required(["hospital-a", "hospital-b", "hospital-c"]),
        "the hospitals that may take part once they approve; at least three",
        3,
        200,
    ),
    Field("not_after", Kind.DATE, Required("2027-12-31"), "no round is opened after this day"),
    Field(
        "preprocessing.normalise",
        Kind.CHOICE,
        "federated",
        "mean and deviation from a secure sum",
        choices=("federated", "none"),
    ),
    Field("training.rounds", Kind.INTEGER, 20, "train-and-aggregate cycles, at most", 1, 10_000),
    Field("training.local_epochs", Kind.INTEGER, 1, "passes over the hospital's data per round", 1, 1000),
    Field("training.batch_size", Kind.INTEGER, 32, "cases per step; 0: all of a hospital's in one", 0, 1_000_000),
    Field("training.optimizer", Kind.CHOICE, "sgd", "starts afresh in every round", choices=("sgd", "adam")),
    Field("training.learning_rate", Kind.DECIMAL, "0.1", "step size at the hospitals", "0", "100", above_low=True),
    Field("training.momentum", Kind.DECIMAL, "0", "for sgd", "0", "0.9999"),
    Field("training.weight_decay", Kind.DECIMAL, "0", "pull of the weights to zero", "0", "10"),
    Field("training.seed", Kind.INTEGER, 7, "start of every random choice that is not a secret", 0, 2**53 - 1),
    Field("training.augmentation", Kind.TEXTS, [], "random changes of the images", 0, 3, choices=AUGMENTATIONS),
    Field("strategy.name", Kind.CHOICE, "fedavg", "average weighted by training cases", choices=("fedavg",)),
    Field("strategy.server_learning_rate", Kind.DECIMAL, "1", "1: the plain average", "0", "100", above_low=True),
    Field("secure_aggregation.b", Kind.INTEGER, 24, "bits sent per weight", 8, 32),
    Field(
        "secure_aggregation.q",
        Kind.INTEGER,
        None,
        "bits of one hospital's weight; default: b less what the sum needs, at most 20",
        2,
        20,
    ),
    Field(
        "secure_aggregation.w_cap",
        Kind.INTEGER,
        10_000,
        "most training cases of one hospital; near the truth is best",
        1,
        2**40,
    ),
    Field(
        "secure_aggregation.least_survivors",
        Kind.INTEGER,
        None,
        "fewest hospitals in a sum; default: as the roster asks",
        3,
        200,
    ),
    Field(
        "secure_aggregation.clip.default",
        Kind.DECIMAL,
        "1",
        "for every tensor that is not named",
        "0",
        "1000000",
        above_low=True,
    ),
    Field(
        "secure_aggregation.clip.tensors", Kind.CLIPS, {}, "other limits by tensor name", "0", "1000000", above_low=True
    ),
    Field("selection.metric", Kind.CHOICE, "auc", "of the federated validation data", choices=("auc", "loss")),
    Field("selection.patience", Kind.INTEGER, 0, "stop after this many rounds without gain; 0: never", 0, 10_000),
    Field("selection.min_delta", Kind.DECIMAL, "0.0005", "what counts as gain", "0", "1"),
    Field("metrics.bins", Kind.INTEGER, 64, "bins of the score histograms that make the AUC; even", 2, 4096),
    Field("deadlines.upload_seconds", Kind.INTEGER, 86_400, "time to train and upload", 1, 10**9),
    Field("deadlines.grace_seconds", Kind.INTEGER, 600, "for the others, once enough have uploaded", 0, 10**9),
    Field("deadlines.expire_seconds", Kind.INTEGER, 259_200, "then the round is given up", 1, 10**9),
)

TABULAR_MODELS = ("logistic_regression", "mlp")
IMAGE_MODELS = ("small_cnn", "resnet18")
TASKS = ("tabular", "image_classification")
_NAME = Field("task.name", Kind.CHOICE, Required("tabular"), "the kind of data", choices=TASKS)
_CLASSES = Field("task.classes", Kind.INTEGER, 2, "how many classes the label has", 2, 1000)

TASK_FIELDS = {
    "tabular": (
        _NAME,
        Field(
            "task.features", Kind.TEXTS, Required(["age", "blood_pressure"]), "columns every hospital has", 1, 10_000
        ),
        Field("task.label", Kind.TEXT, Required("outcome"), "the column to predict: 0, 1, ...", 1, 200),
        _CLASSES,
        Field("task.model.name", Kind.CHOICE, "logistic_regression", "the model", choices=TABULAR_MODELS),
        Field("task.model.hidden", Kind.INTEGERS, [16], "sizes of the hidden layers", 1, 65_536, models=("mlp",)),
    ),
    "image_classification": (
        _NAME,
        _CLASSES,
        Field("task.image_size", Kind.INTEGER, 28, "images are scaled to this many pixels square", 28, 64),
        Field("task.channels", Kind.INTEGER, 1, "1: grey, 3: colour", 1, 3, choices=("1", "3")),
        Field("task.model.name", Kind.CHOICE, "small_cnn", "the model", choices=IMAGE_MODELS),
    ),
}


def fields_of(task: str) -> tuple[Field, ...]:
    """Return the keys of a study file with this task, in the order of the example."""
    head = tuple(field for field in COMMON if not field.section)
    return (*head, *TASK_FIELDS[task], *(field for field in COMMON if field.section))


def every_field() -> tuple[Field, ...]:
    """Return the keys of all tasks, each path once."""
    found = {field.path: field for task in TASKS for field in fields_of(task)}
    return tuple(found.values())
