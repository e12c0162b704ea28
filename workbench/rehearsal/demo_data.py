"""What the demo trains on: a data set cut into hospitals, and the study file that suits it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import yaml

from shared.errors import InputError
from site_agent.datasets.manifest import DatasetOptions
from workbench.rehearsal.federation import SiteData
from workbench.splits import breast_cancer, heart_disease, pneumoniamnist
from workbench.splits.site_data import SiteData as RegisteredData

STUDY = "demo"
FEDERATION = "demo"
DATASETS: dict[str, ModuleType] = {
    "breast-cancer": breast_cancer,
    "heart-disease": heart_disease,
    "pneumoniamnist": pneumoniamnist,
}
_HOSPITALS = ("north", "south", "east", "west")


@dataclass(frozen=True)
class DemoData:
    """The sites' data sets as files, the study file, and what people should know about the source files."""

    sites: dict[str, SiteData]
    options: dict[str, DatasetOptions]
    study_file: Path
    warnings: list[str]


def prepare_data(
    folder: Path, dataset: str, source: Path | None, site_count: int, rounds: int | None, seed: int
) -> DemoData:
    """Write one data set per hospital and a study file below `folder`.

    Raises:
        InputError: ``demo_arguments``, ``demo_data_missing``.
    """
    if dataset not in DATASETS:
        raise InputError("demo_arguments", f"--dataset {dataset}: there are {', '.join(DATASETS)}")
    folder.mkdir(parents=True, exist_ok=True)
    module = DATASETS[dataset]
    split = module.write(folder, source, site_names(dataset, site_count), seed)
    content = {
        "study": STUDY,
        "title": f"Demo on {dataset}",
        "purpose": "Show that hospitals can train one model while the coordinator sees nothing but the sum",
        "federation": FEDERATION,
        "sites": list(split.sites),
        "not_after": str((datetime.now(UTC) + timedelta(days=2)).date()),
        **module.default_settings(),
    }
    content["training"] = {**content["training"], "seed": seed, **({} if rounds is None else {"rounds": rounds})}
    study_file = folder / "study.yaml"
    study_file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    sites = {site: SiteData(one.path, one.arguments()) for site, one in split.sites.items()}
    options = {site: _options(one) for site, one in split.sites.items()}
    return DemoData(sites, options, study_file, split.warnings)


def site_names(dataset: str, count: int) -> list[str]:
    """Return what the hospitals are called: real ones by their names, simulated ones by the points of the compass."""
    if dataset == "heart-disease" and count == len(heart_disease.SITES):
        return list(heart_disease.SITES)
    return [*_HOSPITALS, *(f"hospital-{number}" for number in range(5, count + 1))][:count]


def _options(data: RegisteredData) -> DatasetOptions:
    return DatasetOptions(label=data.label, features=data.features, split=data.split, seed=data.seed)
