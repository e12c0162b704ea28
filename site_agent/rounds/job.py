"""What the training child is asked to do for a context, and what of its answer stays at the site."""

import shutil
from datetime import datetime

import numpy as np

from shared.canonical import JsonObject, sha256_hex, tagged_hash, u32
from shared.clock import timestamp
from shared.errors import MitralError, Refusal
from shared.metrics import LOSS_SCALE, auc_from_histogram, check_case_counts, split_histogram
from shared.protocol.round_context import Context
from shared.protocol.study import Plan
from shared.protocol.vector_layout import scored_part
from site_agent.approvals import Consent
from site_agent.policy import HISTOGRAMS
from site_agent.rounds.session import Session
from site_agent.state_folder import StateFolder
from site_agent.storage import datasets, notices, outcomes
from site_agent.storage.database import Transaction
from site_agent.storage.notices import OwnMetric

JOBS = {"update": "train", "metrics": "evaluate", "statistics": "statistics"}
RESULT_FILE = "result.safetensors"

digest_of = sha256_hex


def build_job(session: Session, ctx: Context, consent: Consent) -> JsonObject:
    """Return the child's job for a bound context; the model version is on disk when this returns.

    Raises:
        Refusal: ``dataset_unknown``, ``statistics_missing``, ``kind_unsupported``.
        Retry: the model version cannot be fetched now.
    """
    plan = consent.plan
    with session.database.reading("read job inputs") as tx:
        dataset, statistics = datasets.read_dataset(tx, consent.dataset), outcomes.read_statistics(tx, ctx.study)
    if dataset is None:
        raise Refusal("dataset_unknown", f"the data set {consent.dataset!r} is not registered any more")
    if ctx.kind not in JOBS:
        raise Refusal("kind_unsupported", f"this release has no {ctx.kind} contexts")
    federated = plan.preprocessing.get("normalise") == "federated"
    if federated and ctx.kind != "statistics" and statistics is None:
        raise Refusal("statistics_missing", f"{ctx.study} normalises by federated statistics, which are not known yet")
    part = scored_part(ctx.tail)
    folder = session.folder.work(ctx.ctx_hash)
    folder.mkdir(mode=0o700, exist_ok=True)
    return {
        "job": JOBS[ctx.kind],
        "task": plan.task,
        "training": plan.training.as_json(),
        "metrics": plan.metrics,
        "manifest": dataset.manifest,
        "model": None if ctx.kind == "statistics" else str(session.model_file(ctx.model)),
        "statistics": statistics if federated else None,
        "round": ctx.round,
        "seed": training_seed(plan, session.site, ctx.round),
        "score": [] if part is None else [part],
        "result": str(folder / RESULT_FILE),
    }


def training_seed(plan: Plan, site: str, number: int) -> int:
    """Return 48 bits that differ between plans, sites and rounds, the same whenever a round is trained again."""
    digest = tagged_hash("MITRAL training seed", plan.training.seed.to_bytes(8, "big"), u32(number), site.encode())
    return int.from_bytes(digest[:6], "big")


def keep_own_figures(tx: Transaction, ctx: Context, plan: Plan, values: dict[str, list[int]], now: datetime) -> None:
    """Store this site's own figures of the model version it received; they are shown by `mitral-site status` only."""
    figures: JsonObject = {}
    if "weight" in values:
        figures["training_cases"] = values["weight"][0]
    name = next((name for name in HISTOGRAMS if name in values), None)
    if name is not None:
        cases = values["cases"][0]
        figures |= {"part": scored_part(ctx.tail), "cases": cases}
        if cases:
            figures["loss"] = f"{values['loss'][0] / LOSS_SCALE / cases:.6f}"
            figures["accuracy"] = f"{values['correct'][0] / cases:.6f}"
        counts = split_histogram(np.asarray(values[name], np.int64), int(plan.metrics.get("bins", 64)))
        try:
            check_case_counts(counts)
            figures["auc"] = f"{auc_from_histogram(counts):.6f}"
        except MitralError as error:
            figures["auc"] = error.code  # fewer than ten cases of a class say nothing, even to the hospital itself
    if figures:
        metric = OwnMetric(ctx.study, ctx.kind, ctx.round, figures)
        notices.add_own_metric(tx, ctx.ctx_hash, metric, ctx.model, timestamp(now))


def erase_result(folder: StateFolder, ctx_hash: str) -> None:
    """Remove the child's result of a context."""
    shutil.rmtree(folder.work(ctx_hash), ignore_errors=True)
