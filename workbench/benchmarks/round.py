"""One whole secure round between real processes over mutual TLS, with a training step that costs next to nothing."""

import csv
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import yaml

from shared.canonical import JsonObject
from shared.clock import parse_timestamp
from shared.errors import InputError, Unavailable
from shared.protocol.study import Plan, StudyView
from workbench.rehearsal.federation import Federation, FederationSettings, SiteData, silent
from workbench.rehearsal.processes import stopping_on_signals
from workbench.study_picture import ENDED

FEATURES = 8
CLASSES = 2
CASES = 40  # per site: the step over all of them at once takes milliseconds
WARM_UP_ROUNDS = 3  # children load torch, pairings are made, caches fill
STUDY = "bench-round"
_LARGEST_DIMENSION = 30_000_000


def measure_rounds(
    dimension: int, sites: int = 4, rounds: int = 10, b: int = 24, say: Callable[[str], None] = silent
) -> JsonObject:
    """Run a federation and return the seconds of `rounds` rounds, by the coordinator's clock and by the wall.

    Raises:
        InputError: ``bench_arguments``.
        Unavailable: ``rehearsal_failed`` or ``rehearsal_timeout``.
    """
    if not 1_000 <= dimension <= _LARGEST_DIMENSION or not 3 <= sites <= 32 or not 1 <= rounds <= 1000:
        limits = f"dimension 1000 to {_LARGEST_DIMENSION}, sites 3 to 32, rounds 1 to 1000"
        raise InputError(
            "bench_arguments", f"dimension {dimension}, sites {sites}, rounds {rounds}: allowed are {limits}"
        )
    names = [f"site-{chr(ord('a') + index)}" if sites <= 26 else f"site-{index:02}" for index in range(sites)]
    with stopping_on_signals(), tempfile.TemporaryDirectory(prefix="mitral-bench-") as folder:
        root = Path(folder)
        settings = FederationSettings(name="bench", coordinator={"online_seconds": "60"})
        with Federation(root / "federation", names, settings, say) as federation:
            data = {
                name: SiteData(_cases(root / f"{name}.csv", index), DATA_OPTIONS) for index, name in enumerate(names)
            }
            federation.set_up(data)
            study_file = root / "study.yaml"
            study_file.write_text(
                yaml.safe_dump(_study(dimension, names, rounds + WARM_UP_ROUNDS, b)), encoding="utf-8"
            )
            federation.submit(study_file)
            federation.approve_study(STUDY)
            say(f"{WARM_UP_ROUNDS} rounds to warm up, then {rounds} that count")
            federation.start_study(STUDY)
            view, seen = _follow(federation, rounds + WARM_UP_ROUNDS)
            with federation.client() as client:
                plan = Plan.parse(client.blob(view.plan))
    return _report(view, seen, rounds, plan)


DATA_OPTIONS = ("--label", "label", "--split", "60/20/20", "--seed", "1")


def hidden_layers(dimension: int) -> list[int]:
    """Return two hidden layers of one size with which a small MLP has at least `dimension` weights."""
    size = 1
    while _weights(size) < dimension:
        size += 1
    return [size, size]


def _weights(size: int) -> int:
    return (FEATURES + 1) * size + (size + 1) * size + (size + 1)  # two classes need one output


def _cases(path: Path, seed: int) -> Path:
    """Write a small table whose label follows from its first column."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*(f"x{index}" for index in range(FEATURES)), "label"])
        for row in range(CASES):
            table.writerow([*(((row * 7 + index * 3 + seed) % 11) / 10 for index in range(FEATURES)), row % CLASSES])
    return path


def _study(dimension: int, sites: list[str], rounds: int, b: int) -> JsonObject:
    return {
        "study": STUDY,
        "title": "How long a round takes",
        "purpose": "Measure transport and secure aggregation",
        "federation": "bench",
        "sites": sites,
        "not_after": str((datetime.now(UTC) + timedelta(days=2)).date()),
        "task": {
            "name": "tabular",
            "features": [f"x{index}" for index in range(FEATURES)],
            "label": "label",
            "classes": CLASSES,
            "model": {"name": "mlp", "hidden": hidden_layers(dimension)},
        },
        "preprocessing": {"normalise": "none"},
        "training": {"rounds": rounds, "batch_size": 0, "learning_rate": 0.001},
        "secure_aggregation": {"b": b, "w_cap": CASES},
        "deadlines": {"upload_seconds": 300, "grace_seconds": 120, "expire_seconds": 900},
    }


def _follow(federation: Federation, rounds: int) -> tuple[StudyView, dict[str, float]]:
    """Wait for the study's end; return it and when each context was first seen published, in wall seconds."""
    seen: dict[str, float] = {}
    cursor = ""
    with federation.client() as client:
        deadline = time.monotonic() + 120 + 30 * rounds
        while time.monotonic() < deadline:
            cursor, view, _ = client.watch(STUDY, cursor, 5)
            for one in view.rounds:
                if one.state == "PUBLISHED":
                    seen.setdefault(one.ctx_hash, time.monotonic())
            if view.state in ENDED:
                return view, seen
    raise Unavailable("rehearsal_timeout", f"{rounds} rounds did not end; logs were in {federation.logs}")


def _report(view: StudyView, seen: dict[str, float], rounds: int, plan: Plan) -> JsonObject:
    updates = [one for one in view.rounds if one.kind == "update" and one.state == "PUBLISHED"]
    if len(updates) < rounds + 1:
        raise Unavailable("rehearsal_failed", f"only {len(updates)} rounds were published: {view.state}, {view.reason}")
    measured = updates[-rounds:]
    before = updates[-rounds - 1 : -1]
    wall = [seen[one.ctx_hash] - seen[former.ctx_hash] for former, one in zip(before, measured, strict=True)]
    return {
        "sites": len(view.sites),
        "rounds": rounds,
        "dimension": plan.dimension,
        "b": plan.secure_aggregation.b,
        "upload_bytes": max(measured[-1].upload_bytes.values()),
        "round_seconds": _figures([_between(one.opened_at, one.published_at) for one in measured]),
        "wall_seconds": _figures(wall),
        "phases": {
            "train_and_upload": _figures([_between(one.opened_at, one.closed_at) for one in measured]),
            "close_unmask_aggregate": _figures([_between(one.closed_at, one.published_at) for one in measured]),
        },
        "survivors_per_round": [len(one.survivors) for one in measured],
    }


def _between(start: str | None, end: str | None) -> float:
    if start is None or end is None:
        raise Unavailable("rehearsal_failed", "a published round has no time of publication")
    return (parse_timestamp(end) - parse_timestamp(start)).total_seconds()


def _figures(seconds: list[float]) -> JsonObject:
    return {
        "median": round(median(seconds), 3),
        "min": round(min(seconds), 3),
        "max": round(max(seconds), 3),
    }
