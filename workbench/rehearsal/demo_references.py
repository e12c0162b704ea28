"""What the federated model is compared with: every hospital alone, pooled data, and the same federation in float64."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import MitralError
from shared.protocol.study import Plan
from site_agent.datasets.manifest import DatasetManifest
from site_agent.datasets.registry import inspect
from workbench.rehearsal import simulate
from workbench.rehearsal.demo_data import DemoData
from workbench.rehearsal.federation import DATA_NAME


@dataclass(frozen=True)
class References:
    """Exact AUCs on the same test patients: those of all hospitals together. A lone hospital's may be missing."""

    plan: Plan
    manifests: dict[str, DatasetManifest]
    training_cases: dict[str, int]
    test_cases: int
    pooled_auc: float
    local_auc: dict[str, float | None]
    float64_auc: float

    def auc_of(self, model: bytes) -> float:
        """Return the exact AUC of a federated model version."""
        return simulate.auc_of(self.plan, self.manifests, model)


def compute_references(plan: Plan, data: DemoData, survivors: Sequence[Sequence[str]] | None) -> References:
    """Train all references; `survivors` names the sites of each round, None stands for all of them in every round."""
    manifests = {site: inspect(one.path, DATA_NAME, data.options[site]) for site, one in data.sites.items()}
    everybody = sorted(manifests)
    padded = None if survivors is None else [*survivors, *[everybody] * plan.training.rounds]
    return References(
        plan=plan,
        manifests=manifests,
        training_cases={site: sum(one.counts["training"]) for site, one in manifests.items()},
        test_cases=sum(sum(one.counts["test"]) for one in manifests.values()),
        pooled_auc=simulate.pooled(plan, manifests).test_auc,
        local_auc={site: _local(plan, manifests, site) for site in manifests},
        float64_auc=simulate.simulate(plan, manifests, padded).test_auc,
    )


def _local(plan: Plan, manifests: dict[str, DatasetManifest], site: str) -> float | None:
    try:
        return simulate.local(plan, manifests, site).test_auc
    except MitralError:  # a hospital may have too few cases to learn anything alone
        return None
