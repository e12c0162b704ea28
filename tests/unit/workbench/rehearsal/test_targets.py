"""What the demo data sets have to reach. The quick one runs always, the images take minutes."""

import os
from pathlib import Path
from types import ModuleType

import pytest

from shared.protocol.study import Plan
from site_agent.datasets.manifest import DatasetManifest, DatasetOptions
from site_agent.datasets.registry import inspect
from workbench.rehearsal import simulate
from workbench.rehearsal.rehearsal_plan import rehearsal_plan
from workbench.splits import breast_cancer, pneumoniamnist

SITES = ["north", "south", "east", "west"]
CHESTS = Path(os.environ.get("PNEUMONIAMNIST_DATA", Path(__file__).parents[5] / "shared/data/pneumoniamnist"))


def prepared(module: ModuleType, folder: Path, source: Path | None) -> tuple[Plan, dict[str, DatasetManifest]]:
    split = module.write(folder, source, SITES, 7)
    manifests = {
        site: inspect(one.path, site, DatasetOptions(one.label, one.features, one.split, seed=one.seed))
        for site, one in split.sites.items()
    }
    return rehearsal_plan(module.default_settings(), SITES), manifests


def test_the_default_demo_is_worth_federating(tmp_path: Path) -> None:
    plan, manifests = prepared(breast_cancer, tmp_path, None)
    federated = simulate.simulate(plan, manifests).test_auc
    assert federated == pytest.approx(simulate.pooled(plan, manifests).test_auc, abs=0.003)
    assert federated >= max(simulate.local(plan, manifests, site).test_auc for site in SITES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_chest_images_are_worth_federating(tmp_path: Path) -> None:
    plan, manifests = prepared(pneumoniamnist, tmp_path, CHESTS)
    assert sum(sum(manifest.counts["test"]) for manifest in manifests.values()) == 624
    small = [site for site in SITES if sum(manifests[site].counts["training"]) < 1000]
    assert len(small) == 3
    federated = simulate.simulate(plan, manifests).test_auc
    assert federated >= 0.93
    assert federated > max(simulate.local(plan, manifests, site).test_auc for site in small)
