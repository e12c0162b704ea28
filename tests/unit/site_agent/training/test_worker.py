"""The worker's own logic in this process; what a process of its own adds is in test_launcher."""

import json
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.canonical import JsonObject
from shared.cases import Cases, DataPart
from shared.model_state import to_bytes
from shared.task_catalogue import TaskSpec
from shared.tasks.registry import build_model
from shared.tasks.weights import state_of
from site_agent.datasets.manifest import DatasetManifest
from site_agent.datasets.registry import load_part
from site_agent.training.result_file import read_result
from site_agent.training.worker import Worker, serve
from tests.support.datasets import table_manifest
from tests.support.plans import TABULAR, plan_with

ROOT = Path(__file__).resolve().parents[4]


def job(folder: Path, **changes: Any) -> dict[str, Any]:
    model = folder / "model.safetensors"
    model.write_bytes(to_bytes(state_of(build_model(TABULAR))))
    return {
        "job": "train",
        "task": TABULAR,
        "training": plan_with().training.as_json(),
        "metrics": {"bins": 16},
        "manifest": table_manifest(folder).as_json(),
        "model": str(model),
        "statistics": None,
        "round": 1,
        "seed": 1,
        "score": ["validation"],
        "result": str(folder / "result"),
        **changes,
    }


def answers(*lines: str, worker: Worker | None = None) -> list[JsonObject]:
    """Return what the worker says to these lines."""
    waiting: queue.Queue[str] = queue.Queue()
    for line in (*lines, ""):
        waiting.put(line)
    said: list[JsonObject] = []
    serve(worker or Worker(), waiting, said.append)
    return said


def test_each_kind_of_job_brings_its_items(tmp_path: Path) -> None:
    brought = []
    changes: list[dict[str, Any]] = [
        {},
        {"score": []},
        {"job": "evaluate", "score": ["test"], "training": None},
        {"job": "statistics", "score": [], "training": None, "model": None},
    ]
    for change in changes:
        said = answers(json.dumps(job(tmp_path, **change)))
        assert said[-1]["done"] is True
        result = read_result(tmp_path / "result")
        brought.append((result.update is not None, sorted(result.values)))
    scores = ["cases", "correct", "loss"]
    assert brought == [
        (True, [*scores, "score_histogram", "weight"]),
        (True, ["weight"]),
        (False, [*scores, "test_histogram"]),
        (False, ["class_count", "feature_count", "feature_square_sum", "feature_sum"]),
    ]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"training": None}, "training_failed"),
        ({"model": None}, "training_failed"),
        ({"job": "evaluate", "score": []}, "training_failed"),
        ({"task": {**TABULAR, "features": ["height"]}}, "data_column_missing"),
        ({"job": "guess"}, "message_malformed"),
    ],
)
def test_what_is_wrong_with_a_job_is_said(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    said = answers(json.dumps(job(tmp_path, **change)))
    assert said[-1]["done"] is False
    assert said[-1]["code"] == code
    assert not (tmp_path / "result").exists()


def test_a_line_that_is_no_json_is_answered() -> None:
    assert answers("{")[0]["code"] == "json_malformed"


def test_a_foreign_error_tells_its_place_and_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("patient Smith, 63 years")

    monkeypatch.setattr("site_agent.training.worker.load_part", broken)
    said = answers(json.dumps(job(tmp_path)), json.dumps(job(tmp_path)))
    assert len(said) == 2, "the worker goes on after a failed job"
    assert said[0]["code"] == "training_failed"
    assert "ValueError" in said[0]["detail"]
    assert "Smith" not in json.dumps(said)


def test_data_is_read_once_per_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(manifest: DatasetManifest, part: DataPart, task: TaskSpec) -> Cases:
        read.append(part)
        return load_part(manifest, part, task)

    monkeypatch.setattr("site_agent.training.worker.load_part", counted)
    answers(*[json.dumps(job(tmp_path))] * 3)
    assert read == ["validation", "training"]


def test_a_confined_process_opens_no_socket() -> None:
    program = (
        "import socket\nfrom site_agent.training.worker import _confine\n_confine()\n"
        "for call in (lambda: socket.create_connection(('127.0.0.1', 9)), lambda: socket.create_server(('', 0))):\n"
        "    try:\n        call()\n    except PermissionError:\n        continue\n"
        "    raise SystemExit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
