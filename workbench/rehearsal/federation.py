"""A whole federation on this machine: a coordinator and sites as real processes, set up by their own command lines."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from shared.errors import MitralError, Unavailable
from workbench.access import load_access
from workbench.client import CoordinatorClient
from workbench.rehearsal.processes import Process, child_environment, free_ports, program, run_once

DATA_NAME = "cases"  # the name every site registers its data set under
_PATIENCE_SECONDS = 180.0  # for an agent to hear of something; on a loaded machine it takes a while to start
FINGERPRINT = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{5}(?:-[0-9A-HJKMNP-TV-Z]{5}){3}\b")
_POLL_SECONDS = 0.1
_T = TypeVar("_T")


@dataclass(frozen=True)
class SiteData:
    """What a site registers: a path, and the options of `mitral-site data add` beside its name."""

    path: Path
    options: Sequence[str] = ()


@dataclass(frozen=True)
class FederationSettings:
    """How processes are started. `coordinator` and `site` become MITRAL_COORDINATOR_* and MITRAL_SITE_* settings."""

    name: str = "rehearsal"
    coordinator: Mapping[str, str] = field(default_factory=dict)
    site: Mapping[str, str] = field(default_factory=dict)


def silent(_what: str) -> None:
    """Say nothing about progress."""


class Federation:
    """A coordinator and sites below one folder. Use it in a `with` statement: it stops every process at the end.

    ``coordinator/`` and ``sites/<site>/`` are the state directories, ``logs/`` has one file per process.
    """

    def __init__(
        self,
        folder: Path,
        sites: Sequence[str],
        settings: FederationSettings | None = None,
        say: Callable[[str], None] = silent,
    ) -> None:
        """Describe a federation below an empty `folder`; nothing is started."""
        self.folder = folder
        self.sites = list(sites)
        self.settings = settings or FederationSettings()
        self._say = say
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.coordinator_state = folder / "coordinator"
        self.admin_access = self.coordinator_state / "administrator.access.json"
        self.researcher_access = folder / "researcher.access.json"
        self.agent_port, self.operator_port = free_ports(2)
        self.environment = child_environment(
            {
                **{f"MITRAL_COORDINATOR_{name.upper()}": value for name, value in self.settings.coordinator.items()},
                **{f"MITRAL_SITE_{name.upper()}": value for name, value in self.settings.site.items()},
            }
        )
        self.coordinator = self._process(
            "coordinator", "mitral-coordinator", "serve", "--state", str(self.coordinator_state)
        )
        self.agents = {
            site: self._process(site, "mitral-site", "--state", str(self.site_state(site)), "run")
            for site in self.sites
        }

    def __enter__(self) -> Self:
        """Return the federation."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every process."""
        self.stop()

    # --- set-up ------------------------------------------------------------------------------------------------------

    def set_up(self, data: Mapping[str, SiteData]) -> None:
        """Do the whole ceremony up to a roster that every site approved, with the agents running.

        Raises:
            Unavailable: ``rehearsal_failed`` or ``rehearsal_timeout``.
        """
        self.found()
        with ThreadPoolExecutor(len(self.sites) + 1) as pool:
            self._say("enrolling the sites: invitation, request, fingerprint, certificate")
            list(pool.map(lambda site: self.enrol(site, data.get(site)), self.sites))
            self._say("roster: proposed by the coordinator, approved by every site")
            fingerprint = self.propose_roster()
            self._say(f"roster: {fingerprint}, compared and signed at every site")
            list(pool.map(lambda site: self.approve_roster(site, fingerprint), self.sites))

    def found(self) -> None:
        """Make the coordinator's authority and keys, start it, and issue the researcher's token."""
        self._say("coordinator: certificate authority, identity and log key")
        names = [argument for name in ("127.0.0.1", "localhost") for argument in ("--name", name)]
        ports = [
            "--agent-port",
            str(self.agent_port),
            "--operator-port",
            str(self.operator_port),
            "--host",
            "127.0.0.1",
        ]
        state = ["--state", str(self.coordinator_state), "--federation", self.settings.name]
        self.run_coordinator_command("init", *state, *names, *ports)
        self._say("coordinator: two listeners over TLS")
        self.start_coordinator()
        self.run_admin("operators", "add", "researcher", "--role", "researcher", "--out", str(self.researcher_access))

    def start_coordinator(self) -> None:
        """Start the coordinator and wait until it serves."""
        self.coordinator.start()
        with self.client(admin=True) as client:
            self.wait_until(client.is_ready, "the coordinator serves", 60)

    def enrol(self, site: str, data: SiteData | None) -> None:
        """Enrol one site, register its data and start its agent."""
        invitation = self.folder / f"invitation-{site}.json"
        self.run_admin("sites", "invite", site, "--out", str(invitation))
        self._enrol_and_wait(site, invitation)
        if data is not None:
            self.run_site(site, "data", "add", str(data.path), "--name", DATA_NAME, *data.options)
        self.agents[site].start()

    def _enrol_and_wait(self, site: str, invitation: Path) -> None:
        """Run `enrol --wait`, read the fingerprint it shows, and approve exactly that one as the administrator."""
        command = [
            *program("mitral-site"),
            "--state",
            str(self.site_state(site)),
            "enrol",
            str(invitation),
            "--wait",
            "120",
        ]
        with (
            (self.logs / f"{site}-cli.log").open("ab") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environment,
            ) as process,
        ):
            shown = b""
            try:
                for line in process.stdout or ():
                    log.write(line)
                    shown += line
                    found = FINGERPRINT.search(line.decode(errors="replace"))
                    if found:
                        self._approve(site, found.group())
                status = process.wait(120)
            finally:
                process.kill()
        if status != 0:
            text = shown.decode(errors="replace")[-1500:]
            raise Unavailable("rehearsal_failed", f"enrolment of {site}: exit status {status}\n{text}")

    def _approve(self, site: str, fingerprint: str) -> None:
        """Wait for the site's request, compare the fingerprint with the one in the administrator's list, approve it."""
        listed: list[str] = []

        def is_pending() -> bool:
            with self.client(admin=True) as client:
                found = [one for one in client.sites() if one["site"] == site and one["state"] == "pending"]
            listed.extend(one["fingerprint"] for one in found)
            return bool(found)

        self.wait_until(is_pending, f"the request of {site} arrives")
        if listed[-1] != fingerprint:
            raise Unavailable("rehearsal_failed", f"{site} shows {fingerprint}, the administrator sees {listed[-1]}")
        self._say(f"{site}: {fingerprint} at the hospital and in the administrator's list; approved")
        self.run_admin("sites", "approve", site, "--fingerprint", fingerprint)

    def propose_roster(self) -> str:
        """Propose the roster of all approved sites and return its fingerprint."""
        shown = self.run_admin("rosters", "propose")
        found = FINGERPRINT.search(shown)
        if found is None:
            raise Unavailable("rehearsal_failed", f"`rosters propose` showed no fingerprint: {shown[:500]}")
        return found.group()

    def approve_roster(self, site: str, fingerprint: str) -> None:
        """Approve the proposed roster at one site; the agent may need a moment to hear of it."""
        self._retried(lambda: self.run_site(site, "roster", "approve", "--fingerprint", fingerprint), _PATIENCE_SECONDS)

    # --- a study -----------------------------------------------------------------------------------------------------

    def submit(self, study_file: Path) -> str:
        """Submit a study file as the researcher and return the study's id."""
        return str(json.loads(self.run_researcher("study", "submit", str(study_file), "--json"))["study"])

    def approve_study(self, study: str) -> None:
        """Approve a study at every site, for the registered data set."""
        with ThreadPoolExecutor(len(self.sites)) as pool:
            list(pool.map(lambda site: self.approve_study_at(site, study), self.sites))

    def approve_study_at(self, site: str, study: str) -> None:
        """Approve a study at one site; the agent may need a moment to hear of it."""
        self._retried(lambda: self.run_site(site, "studies", "approve", study, "--data", DATA_NAME), _PATIENCE_SECONDS)

    def start_study(self, study: str) -> None:
        """Start a study as the researcher."""
        self.run_researcher("study", "start", study)

    # --- access and commands -----------------------------------------------------------------------------------------

    def client(self, *, admin: bool = False) -> CoordinatorClient:
        """Return a REST client of the researcher, or of the administrator."""
        return CoordinatorClient(load_access(self.admin_access if admin else self.researcher_access))

    def site_state(self, site: str) -> Path:
        """Return a site's state directory."""
        return self.folder / "sites" / site

    def run_coordinator_command(self, *arguments: str) -> str:
        """Run a local verb of `mitral-coordinator`."""
        return self._run("mitral-coordinator", "coordinator-cli", *arguments)

    def run_admin(self, *arguments: str) -> str:
        """Run a verb of `mitral-coordinator` that is a client of REST, as the administrator."""
        return self._run("mitral-coordinator", "coordinator-cli", "--access", str(self.admin_access), *arguments)

    def run_site(self, site: str, *arguments: str) -> str:
        """Run `mitral-site` at one site."""
        return self._run("mitral-site", f"{site}-cli", "--state", str(self.site_state(site)), *arguments)

    def run_researcher(self, *arguments: str) -> str:
        """Run `mitral` as the researcher."""
        environment = {**self.environment, "MITRAL_ACCESS": str(self.researcher_access)}
        return run_once("mitral", *arguments, environment=environment, log=self.logs / "researcher-cli.log")

    def online(self) -> set[str]:
        """Return the sites that the coordinator takes for online."""
        with self.client(admin=True) as client:
            return {str(one["site"]) for one in client.sites() if one["online"]}

    def bring_back(self, site: str, seconds: float = 120) -> None:
        """Start a site's agent again, if it does not run, and wait until the coordinator has heard of it."""
        before = self._last_seen(site)
        self.agents[site].start()
        self.wait_until(lambda: self._last_seen(site) != before and site in self.online(), f"{site} is back", seconds)

    def _last_seen(self, site: str) -> object:
        with self.client(admin=True) as client:
            return next(one["last_seen_at"] for one in client.sites() if one["site"] == site)

    def roster_hash(self) -> str:
        """Return the newest roster's hash, as an auditor would have to know it from elsewhere."""
        with self.client(admin=True) as client:
            return str(client.rosters()[-1]["roster_hash"])

    def status(self, site: str) -> dict[str, Any]:
        """Return what `mitral-site status --json` says."""
        answer: dict[str, Any] = json.loads(self.run_site(site, "status", "--json"))
        return answer

    def bytes_sent(self, site: str) -> int | None:
        """Return how many bytes a site has sent (TCP payload), as its own log counted them."""
        sent = self.status(site).get("bytes_sent")
        return sent if isinstance(sent, int) else None

    # --- waiting and stopping ----------------------------------------------------------------------------------------

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until `condition` holds; a process that ended meanwhile is named with the end of its log.

        Raises:
            Unavailable: ``rehearsal_timeout``.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Unavailable("rehearsal_timeout", f"{what}: not within {seconds:.0f} s. Logs: {self.logs}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop every process; sites first, so that none of them sees its coordinator go."""
        everyone = [*self.agents.values(), self.coordinator]
        for agent in self.agents.values():
            agent.ask_to_stop()
        for process in everyone:
            process.stop()

    def remove(self) -> None:
        """Delete the folder and all keys and data in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _process(self, name: str, script: str, *arguments: str) -> Process:
        return Process(name, [*program(script), *arguments], self.logs / f"{name}.log", self.environment)

    def _run(self, script: str, log: str, *arguments: str) -> str:
        return run_once(script, *arguments, environment=self.environment, log=self.logs / f"{log}.log")

    def _retried(self, command: Callable[[], _T], seconds: float) -> _T:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return command()
            except MitralError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
