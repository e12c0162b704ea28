"""A coordinator turned against its sites: it has the real storage and the real keys, and nothing that holds it back.

The triggers of its database are gone, and whatever in its own house would notice a rewritten log is rewritten as well:
the stored tree, the signed heads, the cosignatures, the signer's own file.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.audit import SYSTEM_ACTOR, Fact
from coordinator.state import DATABASE, EVIDENCE, KEYS, LOG_HEAD
from shared.audit.merkle import Frontier, leaf_hash
from shared.canonical import JsonObject, canonical_bytes
from shared.clock import FixedClock
from tests.fault.simulated_site import SimulatedSite
from tests.fault.simulation import Simulation
from tests.support.coordinator_scene import Scene

Change = Callable[[list[bytes]], list[bytes]]


def edited(index: int) -> Change:
    """Say something else in one entry."""

    def change(leaves: list[bytes]) -> list[bytes]:
        entry = json.loads(leaves[index])
        return [*leaves[:index], canonical_bytes({**entry, "outcome": "minor"}), *leaves[index + 1 :]]

    return change


def deleted(index: int) -> Change:
    """Leave one entry out."""
    return lambda leaves: leaves[:index] + leaves[index + 1 :]


def inserted(index: int) -> Change:
    """Put an entry where there was none."""

    def change(leaves: list[bytes]) -> list[bytes]:
        entry = json.loads(leaves[index])
        return [*leaves[:index], canonical_bytes({**entry, "outcome": "serious"}), *leaves[index:]]

    return change


def swapped(index: int) -> Change:
    """Let two neighbours change places."""
    return lambda leaves: [*leaves[:index], leaves[index + 1], leaves[index], *leaves[index + 2 :]]


class Adversary:
    """The coordinator of a simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation

    @property
    def state(self) -> Path:
        return self.simulation.scene.state

    def settle(self, times: int = 4) -> None:
        """Let everybody work until the log is final at all sites."""
        for _ in range(times):
            self.simulation.everybody()

    def rewrite(self, change: Change, *, keep_cosignatures: bool = False) -> None:
        """Put another history into the database, and start the service on it as if nothing had happened."""
        with self.database() as raw:
            leaves = [row[0] for row in raw.execute("SELECT leaf FROM log_leaf ORDER BY idx")]
            tables = ["log_leaf", "log_node", "log_checkpoint"] + ([] if keep_cosignatures else ["log_cosig"])
            for table in tables:
                raw.execute(f"DELETE FROM {table}")
            frontier = Frontier()
            for index, leaf in enumerate(change(leaves)):
                entry = json.loads(leaf)
                values = (index, leaf, leaf_hash(leaf), entry["type"], entry["study"], entry["ts"])
                raw.execute("INSERT INTO log_leaf VALUES (?, ?, ?, ?, ?, ?)", values)
                for node in frontier.append(leaf_hash(leaf)):
                    if node.level:
                        raw.execute("INSERT INTO log_node VALUES (?, ?, ?)", tuple(node))
            raw.execute("UPDATE log_head SET size = ?", (frontier.size,))
        self.restart()

    def restart(self) -> None:
        """Start the service without anything that could stop it."""
        (self.state / KEYS / LOG_HEAD).unlink(missing_ok=True)
        shutil.rmtree(self.state / EVIDENCE, ignore_errors=True)
        self.simulation.kill_coordinator()
        self.unbridle(self.simulation.scene)

    def unbridle(self, scene: Scene) -> None:
        """Never hold the log, whatever a witness shows."""
        coordinator = scene.coordinator
        coordinator.log.hold = None
        coordinator.witnesses._hold = lambda *_: None  # type: ignore[method-assign]

    def append(self, scene: Scene | None = None, count: int = 1, **data: Any) -> None:
        """Write further entries and sign a head over them."""
        coordinator = (scene or self.simulation.scene).coordinator
        for _ in range(count):
            with coordinator.database.transaction("append") as tx:
                coordinator.log.append(tx, Fact("log.heartbeat", SYSTEM_ACTOR, dict(data)), coordinator.clock.now())
        coordinator.tend_log()

    def backup(self, folder: Path) -> Path:
        """Copy the whole state directory, as a nightly backup would."""
        self.simulation.scene.coordinator.database.close()
        shutil.copytree(self.state, folder)
        return folder

    def restore(self, backup: Path, *, database_only: bool = False) -> None:
        """Put a backup back and start the honest service on it."""
        self.simulation.scene.coordinator.database.close()
        if database_only:
            for file in self.state.glob(f"{DATABASE}*"):
                file.unlink()
            shutil.copy(backup / DATABASE, self.state / DATABASE)
        else:
            shutil.rmtree(self.state)
            shutil.copytree(backup, self.state)
        self.simulation.kill_coordinator()

    def second(self, folder: Path) -> Scene:
        """Return another coordinator with the same keys, and the same log so far."""
        scene = self.simulation.scene
        scene.coordinator.database.close()
        shutil.copytree(scene.state, folder)
        made = Scene(folder, scene.settings, FixedClock(scene.clock.at), scene.names)
        made.boot()
        self.unbridle(made)
        return made

    @contextmanager
    def split(self, other: Scene, *sites: str) -> Iterator[None]:
        """Let some sites talk to another coordinator than the rest."""
        simulation, network = self.simulation, self.simulation.network
        original = network._deliver

        def deliver(site: str, *request: Any) -> tuple[int, bytes]:
            first = simulation.scene
            simulation.scene = other if site in sites else first
            try:
                return original(site, *request)
            finally:
                simulation.scene = first

        network._deliver = deliver  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            network._deliver = original  # type: ignore[method-assign]

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Open the database without its triggers."""
        self.simulation.scene.coordinator.database.close()
        raw = sqlite3.connect(self.state / DATABASE)
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        yield raw
        raw.commit()
        raw.close()


def notices(site: SimulatedSite) -> set[str]:
    """Return the codes of what a site shows to people."""
    return {row.code for row in site.query("SELECT code FROM notice")}


def evidence(site: SimulatedSite, code: str = "log_conflict") -> list[JsonObject]:
    """Return the evidence a site has kept."""
    return [json.loads(file.read_bytes()) for file in sorted(site.folder.evidence.glob(f"{code}-*.json"))]


def head(site: SimulatedSite) -> int:
    """Return the size of the head a site cosigned last."""
    rows = site.query("SELECT size FROM log_head")
    return int(rows[0].size) if rows else 0
