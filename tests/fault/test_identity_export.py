"""An auditor follows a site through renewal, reset, its own revocation and its return, without a coordinator."""

from pathlib import Path

from shared.audit.verify import verify
from tests.fault.simulation import Simulation, simulation
from tests.fault.test_leaving import invite_again, leave
from tests.fault.test_rollback import back_up, entries, go_on, put_back
from tests.support.coordinator_scene import InProcess
from tests.support.fake_site import FakeSite, code_of


def export(made: Simulation, path: Path) -> Path:
    path.write_bytes(made.scene.operator("GET", "/v1/audit/export", role="auditor"))
    return path


def test_the_export_of_a_site_that_was_renewed_reset_revoked_and_came_back_verifies(tmp_path: Path) -> None:
    with simulation(4, updates=5) as made:
        site = made.sites["site-d"]
        copy = back_up(site, tmp_path / "copy")
        go_on(made, 1)
        made.advance(100)
        put_back(site, copy)
        go_on(made, 2)
        made.advance(5 * 86_400)
        made.everybody()
        leave(site)
        invite_again(made, site)
        for _ in range(3):
            made.everybody()
        for type_ in ("state.reset", "cert.renewed", "cert.revoked"):
            assert entries(made, type_), type_
            assert all(entry["evidence"] for entry in entries(made, type_)), type_
        report = verify(export(made, tmp_path / "export.zip"))
        assert report.ok, report.lines()


def test_a_site_that_no_roster_lists_can_put_nothing_into_the_log_that_an_auditor_could_not_check(
    tmp_path: Path,
) -> None:
    with simulation(4) as made:
        stranger = FakeSite("site-x", InProcess(made.scene))
        made.scene.enrol(stranger)
        complaint = {"ctx_hash": None, "pairing_hash": "1" * 64, "about": "site-a", "code": "x", "blob_hash": "2" * 64}
        reset = {"v": "SA1", "kind": "state.reset", "reason": "rollback", "instance": "i", "knew": 0}
        for kind, payload, path in (
            ("complaint", complaint, f"/v1/complaints/site-x/{'0' * 64}"),
            ("state.reset", reset, "/v1/state-resets/site-x"),
        ):
            body = stranger.sign(kind, payload, keep=False)
            found = code_of(lambda path=path, body=body: stranger.call("PUT", path, body))  # type: ignore[misc]
            assert found == "site_not_in_roster"
        report = verify(export(made, tmp_path / "export.zip"))
        assert report.ok, report.lines()
