"""A federation of real processes for the end-to-end tests, and a study small enough that a round takes a moment."""

import csv
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import yaml

from shared.protocol.study import RoundView, StudyView
from workbench.rehearsal.federation import Federation, FederationSettings, SiteData

SITES = ("a", "b", "c", "d")
FEATURES = 4
CASES = 60
FEDERATION = "e2e"
SPLIT = "60/20/20"


def tiny_cases(path: Path, seed: int) -> Path:
    """Write a table whose label follows from its first column, with some noise; no two sites have the same rows."""
    numbers = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*(f"x{index}" for index in range(FEATURES)), "label"])
        for row in range(CASES):
            label = row % 2
            cells = [round(numbers.gauss(label if index == 0 else 0, 1), 4) for index in range(FEATURES)]
            table.writerow([*cells, label])
    return path


def tiny_data(folder: Path, sites: tuple[str, ...] = SITES) -> dict[str, SiteData]:
    """Write one table per site."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ("--label", "label", "--split", SPLIT, "--seed", "1")
    return {site: SiteData(tiny_cases(folder / f"{site}.csv", index), options) for index, site in enumerate(sites)}


def tiny_study(
    path: Path, study: str, sites: tuple[str, ...] = SITES, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Path:
    """Write a study file; `changes` are merged into its sections."""
    content: dict[str, Any] = {
        "study": study,
        "title": "A tiny study",
        "purpose": "See every phase of a round between real processes",
        "federation": FEDERATION,
        "sites": list(sites),
        "not_after": str((datetime.now(UTC) + timedelta(days=2)).date()),
        "task": {"name": "tabular", "features": [f"x{index}" for index in range(FEATURES)], "label": "label"},
        "preprocessing": {"normalise": "none"},
        "training": {"rounds": 500, "batch_size": 0, "learning_rate": 0.5},
        "secure_aggregation": {"w_cap": CASES},
        "deadlines": {"upload_seconds": 120, "grace_seconds": 8, "expire_seconds": 600},
    }
    for section, values in (changes or {}).items():
        content[section] = {**content.get(section, {}), **values}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def started_federation(
    folder: Path,
    sites: tuple[str, ...] = SITES,
    on_port: Callable[[int], object] = lambda _port: None,
    **coordinator: str,
) -> Federation:
    """Return a federation whose sites are enrolled and run, with an approved roster; the caller stops it.

    `on_port` is told the agents' port before anybody dials it.
    """
    settings = FederationSettings(name=FEDERATION, coordinator={"gather_seconds": "2", **coordinator})
    federation = Federation(folder / "federation", sites, settings)
    on_port(federation.agent_port)
    try:
        federation.set_up(tiny_data(folder / "data", sites))
    except BaseException:
        federation.stop()
        raise
    return federation


def approved_study(federation: Federation, study: str, changes: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Submit a tiny study and approve it at every site; it is not started."""
    path = tiny_study(federation.folder / f"{study}.yaml", study, tuple(federation.sites), changes)
    federation.submit(path)
    federation.approve_study(study)


def newest_round(view: StudyView) -> RoundView:
    """Return the newest context of a study."""
    return view.rounds[-1]


def wait_for_view(
    federation: Federation, study: str, condition: Callable[[StudyView], bool], what: str, seconds: float = 60
) -> StudyView:
    """Wait until a study's view fulfils a condition, and return that view."""
    views: list[StudyView] = []

    def holds() -> bool:
        with federation.client() as client:
            views.append(client.study(study))
        return condition(views[-1])

    federation.wait_until(holds, what, seconds)
    return views[-1]


def wait_for_doing(federation: Federation, study: str, site: str, word: str, seconds: float = 60) -> None:
    """Wait until the coordinator says that a site does, or did, `word` in the newest round."""

    def holds() -> bool:
        with federation.client() as client:
            _, _, sites = client.watch(study, "", 0)
        return str(sites[site]["doing"]) == word

    federation.wait_until(holds, f"{site} is seen as {word}", seconds)


class Scene:
    """One study whose rounds are opened one at a time, so that a test can hold a phase open and kill somebody in it.

    The study is paused while its round is under way: the round goes on to its end and no other is opened.
    """

    def __init__(self, federation: Federation, study: str) -> None:
        """Take an approved study that was not started."""
        self.federation = federation
        self.study = study

    def rounds(self) -> list[RoundView]:
        """Return the study's contexts so far."""
        with self.federation.client() as client:
            return client.study(self.study).rounds

    def warm_up(self) -> None:
        """Let at least one round go by: pairings are made, children are loaded."""
        with self.federation.client() as client:
            client.command(self.study, "start")
            self.federation.wait_until(lambda: any(one.state == "PUBLISHED" for one in self.rounds()), "a round", 120)
            client.command(self.study, "pause")
        self.settle()

    def restore(self) -> None:
        """Let everybody run and be online again, whatever an earlier test left behind."""
        if not self.federation.coordinator.is_running:
            self.federation.start_coordinator()
        for agent in self.federation.agents.values():
            agent.start()
            for process in agent.family():
                process.resume()
        everybody = set(self.federation.sites)
        self.federation.wait_until(lambda: everybody <= self.federation.online(), "all sites are online", 120)

    def settle(self) -> None:
        """Wait until no round is under way."""
        ended = {"PUBLISHED", "ABANDONED", "LOST"}
        self.federation.wait_until(lambda: all(one.state in ended for one in self.rounds()), "all rounds ended", 90)

    def open_round(self, *held: str, training_of: str | None = None) -> str:
        """Let the coordinator open one round and return its ctx_hash.

        The `held` agents are suspended before, or only the training child of one site: the round must not end yet.
        """
        self.restore()
        self.settle()
        everybody = set(self.federation.sites)
        self.suspend(*held)
        if training_of is not None:
            self.training_child(training_of).suspend()
        before = len(self.rounds())
        with self.federation.client() as client:
            client.command(self.study, "start")
            self.federation.wait_until(lambda: len(self.rounds()) > before, "a round is opened", 90)
            client.command(self.study, "pause")
        rounds = self.rounds()
        assert len(rounds) == before + 1, "a round ended before it could be held"
        assert set(rounds[-1].invited) == everybody
        return rounds[-1].ctx_hash

    def round(self, ctx_hash: str) -> RoundView:
        """Return one context."""
        return next(one for one in self.rounds() if one.ctx_hash == ctx_hash)

    def wait(self, ctx_hash: str, condition: Callable[[RoundView], bool], what: str, seconds: float = 90) -> RoundView:
        """Wait until a context fulfils a condition, and return it."""
        self.federation.wait_until(lambda: condition(self.round(ctx_hash)), what, seconds)
        return self.round(ctx_hash)

    def wait_uploaded(self, ctx_hash: str, *sites: str) -> RoundView:
        """Wait until these sites have uploaded."""
        return self.wait(ctx_hash, lambda one: set(sites) <= set(one.uploaded), f"uploads of {sites}")

    def wait_doing(self, word: str, *sites: str) -> None:
        """Wait until the coordinator says that each of these sites is at `word`."""
        for site in sites:
            wait_for_doing(self.federation, self.study, site, word)

    def wait_published(self, ctx_hash: str) -> RoundView:
        """Wait until a context is published, and return it."""
        return self.wait(ctx_hash, lambda one: one.state == "PUBLISHED", "the round is published")

    def suspend(self, *sites: str) -> None:
        """Hold agents still."""
        for site in sites:
            self.federation.agents[site].suspend()

    def training_child(self, site: str) -> psutil.Process:
        """Return the warm process in which a site trains."""
        return self.federation.agents[site].family()[1]

    def resume(self, *sites: str) -> None:
        """Let agents go on."""
        for site in sites:
            self.federation.agents[site].resume()

    def bring_back(self, *sites: str) -> None:
        """Start killed agents again and wait until the coordinator has heard of them."""
        for site in sites:
            self.federation.bring_back(site)


def prepared_scene(federation: Federation, study: str, grace_seconds: int) -> Scene:
    """Return a study in which one round has gone by: pairings are made, children are loaded."""
    scene = Scene(federation, study)
    scene.restore()
    approved_study(federation, study, {"deadlines": {"grace_seconds": grace_seconds}})
    scene.warm_up()
    return scene
