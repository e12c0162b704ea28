"""A whole federation in a network namespace of its own: the hospitals' own logs agree with a capture of the interface.

Where no namespace may be made, the same agreement is shown below by a relay in `tests/unit/site_agent`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.federation_fixture import Scene, approved_study, started_federation
from tests.support.tree import ROOT
from tests.support.wire import Capture, Seen, loopback_up, namespaces_permitted

STUDY = "counted"


def run_and_report(folder: Path) -> dict[str, Any]:
    """Enrol, train one round and stop, all under capture; return what was seen, and what each hospital reports."""
    loopback_up()
    captures: list[Capture] = []

    def capture(port: int) -> None:
        captures.append(Capture(port))
        captures[0].start()

    with started_federation(folder, on_port=capture) as federation:
        approved_study(federation, STUDY)
        Scene(federation, STUDY).warm_up()
        for agent in federation.agents.values():
            agent.stop()
        reports = {
            site: json.loads(federation.run_site(site, "egress", "--json", "--since", "all"))
            for site in federation.sites
        }
        verified = {
            site: json.loads(federation.run_site(site, "egress", "--verify", "--json")) for site in federation.sites
        }
    captures[0].stop()
    seen: Seen = captures[0].seen
    return {"sent": seen.sent, "received": seen.received, "reports": reports, "verified": verified}


if namespaces_permitted():

    @pytest.mark.timeout(600)
    def test_the_hospitals_own_logs_agree_with_the_interface_within_one_per_cent(tmp_path: Path) -> None:
        command = ["unshare", "-rn", sys.executable, "-m", "tests.e2e.test_egress", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=580)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        for direction in ("sent", "received"):
            counted = sum(report[direction] for report in found["reports"].values())
            assert abs(counted - found[direction]) <= 0.01 * found[direction], (direction, counted, found[direction])
        for site, report in found["reports"].items():
            classes = {flow["traffic"] for flow in report["flows"]}
            assert {"identity", "poll", "roster", "study", "pairing", "model", "masked_update", "shares"} <= classes
            assert {"decision", "unmask", "outcome", "attestation", "connection"} <= classes
            assert "other" not in classes
            assert report["unclosed"] == []
            assert found["verified"][site]["head"] == report["head"]


if __name__ == "__main__":
    print(json.dumps(run_and_report(Path(sys.argv[1]))))  # noqa: T201 (a program's own output)
