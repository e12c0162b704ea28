"""What a fetched model brings along: its metrics, and where it comes from, as JSON beside the safetensors file."""

import json
import os
from pathlib import Path
from typing import Any

from shared.canonical import JsonObject, sha256_hex
from shared.errors import PeerFault, Unavailable
from shared.protocol.study import Plan, RoundView, StudyView
from workbench.client import CoordinatorClient

MODEL_FILE = "model.safetensors"
CARD_FILE = "card.json"


def fetch_model(client: CoordinatorClient, study: str, folder: Path) -> JsonObject:
    """Save the best model version of a study and its card into `folder`; return the card.

    Raises:
        Unavailable: ``model_version_missing`` when no round has finished.
        PeerFault: ``blob_damaged`` when bytes do not have the digest they were asked by.
    """
    view = client.study(study)
    if view.best_model is None:
        raise Unavailable("model_version_missing", f"study {study} is {view.state} and has no best model version yet")
    model = client.blob(view.best_model)
    plan_raw = client.blob(view.plan)
    plan = Plan.parse(plan_raw)
    card = model_card(view, plan, client.log_checkpoint())
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / MODEL_FILE, model)
    _write(folder / CARD_FILE, (json.dumps(card, indent=2) + "\n").encode())
    if sha256_hex((folder / MODEL_FILE).read_bytes()) != view.best_model:
        raise PeerFault("blob_damaged", f"{folder / MODEL_FILE} changed while it was written")
    return card


def model_card(view: StudyView, plan: Plan, log_checkpoint: str) -> JsonObject:
    """Return the card of a study's best model version."""
    published = [one for one in view.rounds if one.state == "PUBLISHED"]
    return {
        "v": 1,
        "kind": "model_card",
        "study": view.study,
        "title": view.title,
        "purpose": plan.purpose,
        "model": {
            "digest": view.best_model,
            "format": "safetensors",
            "round": view.best_round,
            "parameters": plan.dimension,
            "task": plan.task,
            "is_newest_version": view.best_model == view.model,
        },
        "metrics": {
            "validation": view.best_metrics,
            "test": view.test_metrics,
            "chosen_by": f"{plan.selection.metric} on validation data",
        },
        "provenance": {
            "federation": plan.federation,
            "plan": view.plan,
            "initial_model": plan.initial_model,
            "sites": sorted({site for one in published for site in one.survivors}),
            "approved_by": view.approved_by,
            "rounds": [_provenance(one) for one in published],
            "log_checkpoint": log_checkpoint,
        },
        "privacy": {
            "secure_aggregation": f"SA1, sums of {_least_sum(published)} or more hospitals; no update seen in clear",
            "differential_privacy": plan.dp,
        },
    }


def _least_sum(published: list[RoundView]) -> int:
    return min((len(one.survivors) for one in published), default=3)


def _provenance(one: RoundView) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "round": one.round,
        "ctx_hash": one.ctx_hash,
        "survivors": one.survivors,
        "model": one.model,
        "result_model": one.result_model,
        "published_at": one.published_at,
    }


def _write(path: Path, raw: bytes) -> None:
    """Write a file so that a reader sees all of it or the former one."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
