"""What the agent asks its training child, as JSON: one line per job. Reading it needs no torch."""

from typing import Literal

from shared.canonical import JsonObject
from shared.protocol.study import Training
from shared.protocol.wire import Count, WireObject
from site_agent.datasets.manifest import DatasetManifest

Score = Literal["validation", "test"]


class Job(WireObject):
    """One piece of work for the child.

    `train`: score the received model on the validation part if `score` says so, then train it. `evaluate`: only score
    it, on the part in `score`. `statistics`: sums over the training part; no model. All write `result`.
    """

    job: Literal["train", "evaluate", "statistics"]
    task: JsonObject
    training: Training | None = None  # train
    metrics: JsonObject  # {"bins": 64}
    manifest: DatasetManifest
    model: str | None = None  # path of the received model version; train, evaluate
    statistics: JsonObject | None = None  # {"mean": [...], "std": [...]}; None: inputs are not normalised
    round: Count = 0
    seed: Count = 0
    score: list[Score] = []  # noqa: RUF012 (pydantic copies defaults)
    result: str  # path of the file to write (`result_file.py`)
