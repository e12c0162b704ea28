"""Federated against pooled learning on the four UCI hospitals: AUC on the same test patients, over many splits.

The federation is the float64 reference (`workbench/rehearsal/simulate.py`), which differs from the secure one by
rounding only. Beside pooled training under the same plan stands scikit-learn's logistic regression on the pooled data,
trained to convergence, its regularisation chosen on validation patients: the pooled side is not weak by construction.
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from shared.canonical import JsonObject
from shared.metrics import exact_auc
from shared.protocol.study import Plan
from site_agent.datasets.manifest import DatasetManifest, DatasetOptions
from site_agent.datasets.registry import inspect
from workbench.rehearsal import simulate
from workbench.rehearsal.rehearsal_plan import rehearsal_plan
from workbench.splits import heart_disease

LEAST_SPLITS = 20
ALLOWED_DIFFERENCE = 0.005
INVERSE_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

Say = Callable[[str], None]


def run(source: Path | None, splits: int = LEAST_SPLITS, say: Say = lambda _: None) -> JsonObject:
    """Return the figures over `splits` seeds: means, standard deviations, and every split's AUCs.

    Raises:
        InputError: ``demo_data_missing``.
    """
    sites = list(heart_disease.SITES)
    plan = rehearsal_plan(heart_disease.default_settings(), sites)
    rows: list[JsonObject] = []
    for seed in range(splits):
        with tempfile.TemporaryDirectory() as folder:
            manifests = _registered(Path(folder), source, sites, seed)
            rows.append({"seed": seed, **one_split(plan, manifests)})
        say(f"split {seed}: federated {rows[-1]['federated']:.4f}, pooled {rows[-1]['pooled']:.4f}")
    return summary(rows, sites)


def one_split(plan: Plan, manifests: dict[str, DatasetManifest]) -> JsonObject:
    """Return the exact test AUC of the federation, of pooled training, and of each hospital alone."""
    federated = simulate.simulate(plan, manifests)
    return {
        "federated": federated.test_auc,
        "pooled": simulate.pooled(plan, manifests).test_auc,
        "pooled_converged": converged_auc(plan, manifests),
        "local": {site: simulate.local(plan, manifests, site).test_auc for site in manifests},
        "best_round": federated.best,
    }


def converged_auc(plan: Plan, manifests: dict[str, DatasetManifest]) -> float:
    """Return the test AUC of scikit-learn's logistic regression on the pooled training patients."""
    from sklearn.linear_model import LogisticRegression

    data = simulate.pooled_tensors(plan, manifests)
    inputs, labels = data["training"]
    found = []
    for strength in INVERSE_STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=10_000, tol=1e-8).fit(inputs, labels)
        validation, test = (
            exact_auc(model.decision_function(data[part][0]), data[part][1]) for part in ("validation", "test")
        )
        found.append((validation, test))
    return max(found, key=lambda pair: pair[0])[1]


def summary(rows: list[JsonObject], sites: list[str]) -> JsonObject:
    """Return means and standard deviations over the splits; the difference is federated minus pooled."""
    differences = [row["federated"] - row["pooled"] for row in rows]
    columns = {name: [row[name] for row in rows] for name in ("federated", "pooled", "pooled_converged")}
    columns |= {f"local_{site}": [row["local"][site] for row in rows] for site in sites}
    mean = statistics.fmean(differences)
    return {
        "splits": len(rows),
        "difference_mean": round(mean, 5),
        "difference_sd": round(statistics.stdev(differences), 5) if len(rows) > 1 else 0.0,
        "difference_allowed": ALLOWED_DIFFERENCE,
        "within": abs(mean) <= ALLOWED_DIFFERENCE,
        "mean": {name: round(statistics.fmean(values), 4) for name, values in columns.items()},
        "sd": {name: round(statistics.stdev(values), 4) if len(rows) > 1 else 0.0 for name, values in columns.items()},
        "rows": rows,
    }


def table(report: JsonObject) -> str:
    """Return the figures as a Markdown table for the benchmark page."""
    lines = ["| trained on | mean AUC | sd |", "|---|---|---|"]
    lines += [
        f"| {name.replace('_', ' ')} | {mean:.4f} | {report['sd'][name]:.4f} |" for name, mean in report["mean"].items()
    ]
    lines.append(f"| federated minus pooled | {report['difference_mean']:+.5f} | {report['difference_sd']:.5f} |")
    return "\n".join(lines)


def _registered(folder: Path, source: Path | None, sites: list[str], seed: int) -> dict[str, DatasetManifest]:
    split = heart_disease.write(folder, source, sites, seed)
    return {
        site: inspect(one.path, site, DatasetOptions(one.label, one.features, one.split, seed=one.seed))
        for site, one in split.sites.items()
    }
