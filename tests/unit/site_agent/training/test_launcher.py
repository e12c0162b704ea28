"""The training child as a real process, and everything a broken one could send."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import safetensors.numpy
import torch

from shared.errors import InputError, MitralError, PeerFault, Unavailable
from shared.model_state import from_bytes, to_bytes
from shared.statistics import statistics_from_sums
from shared.task_catalogue import task_spec
from shared.tasks.registry import build_model, build_task
from shared.tasks.weights import state_of
from site_agent.datasets.manifest import DatasetManifest
from site_agent.datasets.registry import load_part
from site_agent.training.launcher import TrainingChild, child_environment
from site_agent.training.local_steps import local_steps, update_of
from site_agent.training.result_file import read_result
from tests.support.datasets import image_manifest, table_manifest
from tests.support.plans import IMAGES, TABULAR, plan_with

ROOT = Path(__file__).resolve().parents[4]


def job_for(folder: Path, manifest: DatasetManifest, task: dict[str, Any] = TABULAR, **changes: Any) -> dict[str, Any]:
    torch.manual_seed(3)
    model = folder / "model.safetensors"
    model.write_bytes(to_bytes(state_of(build_model(task))))
    return {
        "job": "train",
        "task": task,
        "training": plan_with().training.as_json(),
        "metrics": {"bins": 64},
        "manifest": manifest.as_json(),
        "model": str(model),
        "statistics": None,
        "round": 1,
        "seed": 5,
        "score": ["validation"],
        "result": str(folder / "result.safetensors"),
        **changes,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def child(folder: Path) -> Iterator[TrainingChild]:
    """Return one warm child for all tests that do not break it."""
    made = TrainingChild("study-1", folder / "child", 1)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("task", "training"),
    [
        (TABULAR, {"batch_size": 8, "local_epochs": 2}),
        (IMAGES, {"batch_size": 16, "optimizer": "adam", "learning_rate": "0.001", "augmentation": ["shift", "flip"]}),
    ],
)
def test_the_child_computes_what_local_steps_computes(
    child: TrainingChild, folder: Path, task: dict[str, Any], training: dict[str, Any]
) -> None:
    manifest = table_manifest(folder) if task is TABULAR else image_manifest(folder)
    settings = plan_with(training=training).training
    cases = load_part(manifest, "training", task_spec(task))
    built = build_task(task)
    statistics = statistics_from_sums(built.sums(cases), 1)
    job = job_for(folder, manifest, task, training=settings.as_json(), statistics=statistics)
    result = child.run(job, 60)
    received = from_bytes(Path(job["model"]).read_bytes())
    expected = local_steps(
        build_model(task),
        received,
        task=built,
        inputs=built.inputs(cases, statistics),
        labels=torch.from_numpy(cases.labels),
        training=settings,
        seed=5,
    )
    assert result.update is not None
    assert result.update.tobytes() == update_of(received, expected)[1].tobytes()
    assert result.values["weight"] == [len(cases)]
    assert sum(result.values["score_histogram"]) == result.values["cases"][0] > 0


def test_statistics_come_as_exact_sums(child: TrainingChild, folder: Path) -> None:
    manifest = table_manifest(folder)
    cases = load_part(manifest, "training", task_spec(TABULAR))
    result = child.run(job_for(folder, manifest, job="statistics", score=[], training=None, model=None), 60)
    assert result.update is None
    assert result.values == build_task(TABULAR).sums(cases)
    assert max(result.values["feature_sum"]) > 2**64
    assert result.report == {"cases": len(cases)}


def test_an_evaluation_brings_test_scores_only(child: TrainingChild, folder: Path) -> None:
    result = child.run(job_for(folder, table_manifest(folder), job="evaluate", score=["test"]), 60)
    assert set(result.values) == {"test_histogram", "loss", "correct", "cases"}
    assert result.update is None


def test_the_child_stays_warm_and_forgets_nothing_it_should_know(child: TrainingChild, folder: Path) -> None:
    before = child.pid
    first = child.run(job_for(folder, table_manifest(folder)), 60)
    again = child.run(job_for(folder, table_manifest(folder)), 60)
    assert child.pid == before
    kept = read_result(Path(job_for(folder, table_manifest(folder))["result"]))
    assert kept.values == again.values, "an agent that restarts reads what the child left"
    assert first.update is not None
    assert again.update is not None
    assert first.update.tobytes() == again.update.tobytes()


def test_progress_is_reported(child: TrainingChild, folder: Path) -> None:
    training = plan_with(training={"batch_size": 1, "local_epochs": 200}).training.as_json()
    seen: list[tuple[int, int]] = []
    child.run(job_for(folder, table_manifest(folder), training=training), 60, lambda *step: seen.append(step))
    assert seen
    assert all(0 < done <= steps for done, steps in seen)


def test_an_update_that_is_not_finite_is_refused(child: TrainingChild, folder: Path) -> None:
    training = plan_with(training={"learning_rate": "1" + "0" * 38, "local_epochs": 40}).training.as_json()
    with pytest.raises(PeerFault, match="update_not_finite"):
        child.run(job_for(folder, table_manifest(folder), training=training), 60)


def test_data_that_changed_keeps_its_code(child: TrainingChild, folder: Path) -> None:
    manifest = table_manifest(folder, 61)
    Path(manifest.path).write_text("age,pressure,outcome\n1,2,0\n3,4,1\n")
    with pytest.raises(InputError, match="data_changed"):
        child.run(job_for(folder, manifest), 60)


def test_a_model_of_another_layout_is_refused(child: TrainingChild, folder: Path) -> None:
    job = job_for(folder, table_manifest(folder))
    Path(job["model"]).write_bytes(to_bytes({"w": np.zeros(2, np.float32)}))
    with pytest.raises(InputError, match="model_layout_differs"):
        child.run(job, 60)


def test_a_job_out_of_form_is_not_sent(child: TrainingChild, folder: Path) -> None:
    with pytest.raises(PeerFault, match="message_malformed"):
        child.run(job_for(folder, table_manifest(folder), secrets="no"), 60)


def test_the_child_is_alone(child: TrainingChild, monkeypatch: pytest.MonkeyPatch) -> None:
    assert child.pid is not None
    process = psutil.Process(child.pid)
    assert process.net_connections() == []
    named = {name.upper() for name in process.environ()}
    allowed = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED"}
    allowed |= {"PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    allowed |= {"CUBLAS_WORKSPACE_CONFIG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}
    assert named <= allowed


def test_the_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "MITRAL_ACCESS", "AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER", "HOME"):
        monkeypatch.setenv(name, "secret")
    found = child_environment(2)
    assert "secret" not in found.values()
    assert found["OMP_NUM_THREADS"] == "2"


@pytest.mark.skipif(sys.platform == "win32", reason="core dumps are a POSIX thing")
def test_the_child_leaves_no_core_file(child: TrainingChild) -> None:
    assert child.pid is not None
    limits = Path(f"/proc/{child.pid}/limits")
    if limits.exists():
        line = next(line for line in limits.read_text().splitlines() if line.startswith("Max core file size"))
        assert line.split()[4:6] == ["0", "0"]
    else:
        assert sys.platform == "darwin"


def test_a_child_that_was_killed_is_started_again(folder: Path) -> None:
    child = TrainingChild("study-2", folder / "killed", 1)
    job = job_for(folder, table_manifest(folder))
    child.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], timeout=5)
    assert child.run(job, 60).update is not None
    assert child.pid not in {None, first}
    child.stop()
    assert child.pid is None


def test_a_child_dies_with_its_parent(folder: Path) -> None:
    # The parent is killed with -9 while the child is in the middle of a job.
    job = job_for(folder, table_manifest(folder))
    job["training"] |= {"local_epochs": 1000, "batch_size": 1, "rounds": 1}
    (folder / "job.json").write_text(json.dumps(job))
    program = (
        "import json, sys; from pathlib import Path; from site_agent.training.launcher import TrainingChild\n"
        "child = TrainingChild('s', Path(sys.argv[1]) / 'orphan', 1); child.start(); print(child.pid, flush=True)\n"
        "job = json.loads((Path(sys.argv[1]) / 'job.json').read_text())\n"
        "child.run(job, 60, lambda done, steps: print('training', flush=True))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert parent.stdout.readline() == "training\n"
    orphan = psutil.Process(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([orphan], timeout=10)
    assert not alive
    assert gone


def stand_in(folder: Path, lines: list[str], name: str) -> TrainingChild:
    """Return a child that is a small program: `lines` run after it said that it is ready and a job arrived."""
    body = "\n    ".join(lines)
    program = f'import os, sys, time\nprint(\'{{"ready": "cpu"}}\', flush=True)\nfor line in sys.stdin:\n    {body}\n'
    return TrainingChild("study-x", folder / name, 1, [sys.executable, "-c", program])


ANSWER = """print('{"done": true, "report": {}}', flush=True)"""
LIMBS = np.array([[1, 0, 0]], np.int64)


def outcome(folder: Path, lines: list[str], raw: bytes | None = None, timeout: float = 20) -> MitralError:
    """Run a training job on a stand-in that leaves `raw` as its result; return the error."""
    path = folder / "stand-in.safetensors"
    written = [] if raw is None else [f"open({str(path)!r}, 'wb').write(bytes.fromhex({raw.hex()!r}))"]
    child = stand_in(folder, [*written, *lines], "stand-in")
    with pytest.raises(MitralError) as caught:
        child.run(job_for(folder, table_manifest(folder), result=str(path)), timeout)
    child.stop()
    return caught.value


def made(**tensors: Any) -> bytes:
    arrays = {"update": np.zeros(3, np.float32), "weight": LIMBS, **tensors}
    return safetensors.numpy.save({name: array for name, array in arrays.items() if array is not None})


def test_a_stand_in_with_a_good_result_is_believed(folder: Path) -> None:
    path = folder / "good.safetensors"
    child = stand_in(folder, [f"open({str(path)!r}, 'wb').write(bytes.fromhex({made().hex()!r}))", ANSWER], "good")
    result = child.run(job_for(folder, table_manifest(folder), result=str(path)), 20)
    assert result.values == {"weight": [1]}
    child.stop()


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"not safetensors",
        made()[:-1],
        made(update=None),
        made(update=np.zeros((1, 3), np.float32)),
        made(update=np.zeros(3)),
        made(update=np.zeros(0, np.float32)),
        made(names=LIMBS),
        made(weight=LIMBS[0]),
        made(weight=-LIMBS),
        made(weight=LIMBS.astype(np.int32)),
        made(weight=LIMBS.astype(np.float64)),
        made(weight=np.array([[2**40, 0, 0]], np.int64)),
        made(weight=np.zeros((0, 3), np.int64)),
    ],
)
def test_a_malformed_result_file_is_refused(folder: Path, raw: bytes | None) -> None:
    assert outcome(folder, [ANSWER], raw).code == "result_malformed"


def test_a_result_of_an_earlier_job_is_not_taken_for_this_ones(folder: Path) -> None:
    (folder / "stand-in.safetensors").write_bytes(made())
    assert outcome(folder, [ANSWER]).code == "result_malformed"


def test_a_result_file_with_nan_is_refused(folder: Path) -> None:
    assert outcome(folder, [ANSWER], made(update=np.array([np.nan], np.float32))).code == "update_not_finite"


@pytest.mark.parametrize(
    "line",
    [
        "print('no json', flush=True)",
        "print('[1]', flush=True)",
        """print('{"progress": {"done": "x"}}', flush=True)""",
    ],
)
def test_a_malformed_answer_is_refused(folder: Path, line: str) -> None:
    assert outcome(folder, [line], made()).code == "result_malformed"


def test_an_unknown_code_of_the_child_is_not_passed_on(folder: Path) -> None:
    error = outcome(folder, ["""print('{"done": false, "code": "signature_of_god", "detail": "x"}', flush=True)"""])
    assert error.code == "training_failed"


def test_a_crash_is_reported(folder: Path) -> None:
    error = outcome(folder, ["os._exit(3)"])
    assert isinstance(error, Unavailable)
    assert error.code == "training_failed"
    assert "status 3" in error.detail


def test_a_child_that_does_not_answer_is_killed_at_the_deadline(folder: Path) -> None:
    child = stand_in(folder, ["time.sleep(600)"], "slow")
    child.start()
    pid = child.pid
    assert pid is not None
    with pytest.raises(Unavailable, match="training_timeout"):
        child.run(job_for(folder, table_manifest(folder)), 0.2)
    assert child.pid is None
    assert not psutil.pid_exists(pid)
    child.stop()


def test_a_child_that_does_not_start_is_reported(folder: Path) -> None:
    with pytest.raises(Unavailable, match="training_failed"):
        TrainingChild("s", folder / "none", 1, [str(folder / "no-such-program")]).start()


def test_stopping_ends_a_job_within_seconds_and_starts_no_other(folder: Path) -> None:
    child = stand_in(folder, ["time.sleep(600)"], "stopped")
    child.start()
    threading.Timer(0.2, child.stop).start()
    started = time.monotonic()
    with pytest.raises(Unavailable, match="training_stopped"):
        child.run(job_for(folder, table_manifest(folder)), 60)
    assert time.monotonic() - started < 4
    with pytest.raises(Unavailable, match="training_stopped"):
        child.run(job_for(folder, table_manifest(folder)), 60)


def test_the_launcher_and_the_data_sets_load_no_torch() -> None:
    program = (
        "import sys, site_agent.training.launcher, site_agent.training.worker, site_agent.datasets.registry\n"
        "assert not {'torch', 'opacus'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
