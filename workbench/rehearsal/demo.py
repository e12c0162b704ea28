"""`mitral demo`: the whole path on one machine, and an honest comparison at its end."""

import contextlib
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shared.canonical import JsonObject
from shared.errors import InputError, MitralError, Unavailable
from shared.protocol.study import Plan, RoundView, StudyView
from workbench.audit import verify_export
from workbench.client import CoordinatorClient
from workbench.model_card import MODEL_FILE, fetch_model
from workbench.rehearsal.demo_data import FEDERATION, STUDY, DemoData, prepare_data
from workbench.rehearsal.demo_references import References, compute_references
from workbench.rehearsal.demo_screen import Screen
from workbench.rehearsal.federation import Federation, FederationSettings
from workbench.rehearsal.processes import stopping_on_signals
from workbench.study_picture import ENDED, masked_bytes

DIFFERENCE_ALLOWED = 0.002  # in AUC, between the secure federation and the float64 reference
KILL_IN_ROUND = 2
RESTART_IN_ROUND = 4
CHECKPOINT_FILE = "checkpoint.txt"
_WATCH_SECONDS = 5
_FINAL_SECONDS = 60
_LONGEST_SECONDS = 6 * 3600


@dataclass(frozen=True)
class DemoOptions:
    """What the command line of the demo says."""

    dataset: str
    data: Path | None
    sites: int
    rounds: int | None
    kill: str | None
    keep: Path | None
    seed: int


def run_demo(options: DemoOptions, screen: Screen) -> JsonObject:
    """Run the demo and return its report; every process is stopped, and without `keep` all state is deleted.

    Raises:
        InputError: ``demo_arguments``, ``demo_data_missing`` and what the data's checks say.
        Unavailable: ``rehearsal_failed`` or ``rehearsal_timeout``.
    """
    started = time.monotonic()
    with stopping_on_signals(), _folder(options.keep) as (work, results):
        screen.say(f"data: {options.dataset}, cut into hospitals")
        data = prepare_data(work / "data", options.dataset, options.data, options.sites, options.rounds, options.seed)
        if options.kill is not None and options.kill not in data.sites:
            raise InputError("demo_arguments", f"--kill {options.kill}: the sites are {', '.join(data.sites)}")
        # Short polls, so that a killed site is missed soon: after the round it died in it is not invited any more.
        settings = FederationSettings(
            FEDERATION, {"online_seconds": "12", "checkpoint_seconds": "2"}, {"poll_seconds": "5"}
        )
        with Federation(work / "federation", list(data.sites), settings, screen.say) as federation:
            report = _run(federation, data, options, screen, results)
    report["seconds"] = round(time.monotonic() - started, 1)
    return report


def _run(federation: Federation, data: DemoData, options: DemoOptions, screen: Screen, results: Path) -> JsonObject:
    with ThreadPoolExecutor(1) as pool:
        federation.set_up(data.sites)
        screen.say("study: submitted by the researcher, approved by every hospital's data steward")
        federation.submit(data.study_file)
        federation.approve_study(STUDY)
        federation.start_study(STUDY)
        with federation.client() as client:
            plan_hash = client.study(STUDY).plan
            plan = Plan.parse(client.blob(plan_hash))
        screen.say(f"study {STUDY} started under plan {plan_hash[:16]}...")
        # Without a kill every hospital is in every sum, so the references can be computed while the rounds run.
        early = None if options.kill else pool.submit(compute_references, plan, data, None)
        view = _follow(federation, options.kill, screen)
        if view.state != "finished" or view.best_model is None:
            raise Unavailable("rehearsal_failed", f"the study ended {view.state}: {view.reason}")
        screen.say("references: every hospital alone, pooled data, and the federation in float64 without masks")
        references = _references(early, plan, data, view)
    with federation.client() as client:
        card = fetch_model(client, STUDY, results)
    screen.say("audit log: exported and verified offline")
    export = results / "audit-log.zip"
    federation.run_admin("audit", "export", str(export))
    verified = verify_export(export, federation.roster_hash())
    report = _report(data, options, view, references, results)
    report["bytes_sent"] = {site: federation.bytes_sent(site) for site in data.sites}
    report["log_entries"] = log_size(export)
    report["log_verified"] = verified.ok
    screen.say("audit log: the hospitals cosign its last head")
    report["log_final"] = _final_head(federation, report["log_entries"], results / CHECKPOINT_FILE)
    report["card"] = card
    return report


def _references(early: Future[References] | None, plan: Plan, data: DemoData, view: StudyView) -> References:
    survivors = [one.survivors for one in _published(view)]
    everybody = sorted(data.sites)
    if early is not None:
        references = early.result()
        if all(one == everybody for one in survivors):
            return references
    return compute_references(plan, data, survivors)


def _published(view: StudyView) -> list[RoundView]:
    return [one for one in view.rounds if one.kind == "update" and one.state == "PUBLISHED"]


def _final_head(federation: Federation, size: int, target: Path) -> JsonObject:
    """Wait until the head over the export is final, keep it with its cosignatures, and return who cosigned it."""

    def is_final() -> bool:
        with federation.client() as client:
            found = client.witnesses()
        return bool(found) and found["size"] == found["final"] >= size

    federation.wait_until(is_final, f"the log of {size} entries is final", _FINAL_SECONDS)
    with federation.client() as client:
        target.write_text(client.log_checkpoint(), encoding="utf-8")
        found = client.witnesses()
    cosigned = sorted(site for site, largest in found["cosigned"].items() if largest >= size)
    return {"size": found["final"], "quorum": found["quorum"], "cosigned_by": cosigned}


def log_size(export: Path) -> int:
    """Return how many entries an export of the log has, as its checkpoint says."""
    with zipfile.ZipFile(export) as archive:
        return int(archive.read("checkpoint").decode().splitlines()[1])


def _follow(federation: Federation, kill: str | None, screen: Screen) -> StudyView:
    """Show the study until it ends; kill and restart one agent on the way if that was asked for."""
    cursor, deadline = "", time.monotonic() + _LONGEST_SECONDS
    killed = restarted = False
    with federation.client() as client:
        while time.monotonic() < deadline:
            cursor, view, sites = client.watch(STUDY, cursor, _WATCH_SECONDS)
            newest = max((one.round for one in view.rounds if one.kind == "update"), default=0)
            if kill is not None and newest >= KILL_IN_ROUND and not killed:
                federation.agents[kill].kill()
                killed = True
                screen.say(f"{kill}: agent killed with -9 in round {newest}")
            if kill is not None and newest >= RESTART_IN_ROUND and not restarted:
                restarted = True
                screen.say(f"{kill}: agent started again in round {newest}")
                _bring_back(federation, client, kill, screen)
            screen.show(view, sites)
            if view.state in ENDED:
                return view
            _check_alive(federation, kill if killed and not restarted else None)
    raise Unavailable("rehearsal_timeout", f"the study did not end; logs: {federation.logs}")


def _bring_back(federation: Federation, client: CoordinatorClient, site: str, screen: Screen) -> None:
    """Start a killed agent. The study rests meanwhile: a round of the demo is shorter than the start of a process."""
    with contextlib.suppress(MitralError):  # it may have ended in this very moment
        client.command(STUDY, "pause")
    federation.bring_back(site)
    screen.say(f"{site}: back, nothing lost; the study goes on")
    with contextlib.suppress(MitralError):
        client.command(STUDY, "start")


def _check_alive(federation: Federation, killed: str | None) -> None:
    for process in [federation.coordinator, *federation.agents.values()]:
        if not process.is_running and process.name != killed:
            detail = f"{process.name} ended with status {process.exit_code}; its log ends with\n{process.log_tail()}"
            raise Unavailable("rehearsal_failed", detail)


def _report(data: DemoData, options: DemoOptions, view: StudyView, references: References, results: Path) -> JsonObject:
    updates = _published(view)
    published = [one for one in view.rounds if one.state == "PUBLISHED"]
    federated_auc = references.auc_of((results / MODEL_FILE).read_bytes())
    return {
        "dataset": options.dataset,
        "sites": list(data.sites),
        "training_cases": references.training_cases,
        "test_cases": references.test_cases,
        "federated_auc": federated_auc,
        "federated_auc_published": (view.test_metrics or {}).get("auc"),
        "pooled_auc": references.pooled_auc,
        "local_auc": references.local_auc,
        "float64_auc": references.float64_auc,
        "difference_to_float64": federated_auc - references.float64_auc,
        "difference_allowed": DIFFERENCE_ALLOWED,
        "rounds": len(updates),
        "best_round": view.best_round,
        "survivors_per_round": [len(one.survivors) for one in updates],
        "bytes_out": {site: masked_bytes(view, site) for site in data.sites},
        "coordinator_saw": {
            "masked_vectors": sum(len(one.uploaded) for one in view.rounds),
            "masked_bytes": sum(masked_bytes(view, site) for site in data.sites),
            "sums": len(published),
            "updates_in_clear": 0,
        },
        "model_digest": view.best_model,
        "plan": view.plan,
        "files": str(results if options.keep is None else options.keep),
        "killed": options.kill,
        "seed": options.seed,
    }


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield a folder to work in and one for the results. Without `keep` only the results of a finished demo remain."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise InputError("demo_arguments", f"--keep {keep}: the folder is not empty")
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        results = keep / "results"
        results.mkdir()
        yield keep.resolve(), results.resolve()
        return
    root = Path(tempfile.mkdtemp(prefix="mitral-demo-"))
    finished = False
    try:
        (root / "work").mkdir(mode=0o700)
        (root / "results").mkdir()
        yield root / "work", root / "results"
        finished = True
    finally:
        shutil.rmtree(root / "work" if finished else root, ignore_errors=True)
