"""The invariants can fail: each one notices the kind of mistake it stands for."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.blobs.uploads import Uploads
from shared.crypto.signed_envelope import open_envelope, sign_envelope
from shared.secagg.parameters import largest_quantum
from site_agent.state_folder import StateFolder
from tests.fault import invariants
from tests.fault.faults import Fault
from tests.fault.simulation import STUDY, Op, Simulation, simulation


@pytest.fixture
def made() -> Iterator[Simulation]:
    with simulation(3) as fresh:
        yield fresh


def test_a_site_counted_in_the_place_of_another(made: Simulation) -> None:
    made.sites["site-b"].session.trainer._index = 0  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="is not that of"):
        made.end_round()


def test_a_sum_that_is_off_by_one_site(made: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariants, "largest_quantum", lambda q: 2 * largest_quantum(q))
    with pytest.raises(AssertionError, match="is not that of"):
        made.end_round()


def test_files_that_stay_at_a_site(made: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateFolder, "erase_round", lambda *_: None)
    with pytest.raises(AssertionError, match="keeps files of"):
        made.run(*[Op("everybody")] * 4)


def test_uploads_that_stay_at_the_coordinator(made: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uploads, "wipe", lambda *_: None)
    with pytest.raises(AssertionError, match="the coordinator keeps files"):
        made.run(*[Op("everybody")] * 4)


def test_a_site_that_was_restored_from_an_old_copy(made: Simulation, tmp_path: Path) -> None:
    """The lease moved on since the copy was made: the agent learns that its state is stale, and stops (A10)."""
    site = made.sites["site-a"]
    made.apply(Op("poll", 0))
    site.close()
    shutil.copytree(site.folder.root, tmp_path / "copy")
    site.start()
    made.run(Op("work", 0, fault=Fault("response lost", point="PUT manifest")))
    site.close()
    shutil.rmtree(site.folder.root)
    shutil.copytree(tmp_path / "copy", site.folder.root)
    site.start()
    made.memory.chain.clear()
    with pytest.raises(AssertionError, match="stopped for good"):
        made.run(*[Op("work", 0)] * 2)
    assert "instance_conflict" in str(site.failure)


def test_a_site_that_signs_two_survivor_sets(made: Simulation) -> None:
    made.run(*[Op("everybody")] * 2)
    sent = next(one for one in made.network.sent if "/decision/" in one.path)
    identity = made.sites[sent.site].session.identity
    body = open_envelope(sent.body, "decision", {sent.site: identity.idk.verify_key}).body
    other = {**body, "stmt": {**body["stmt"], "U": body["stmt"]["U"][:2]}}
    forged = sign_envelope("decision", other, sent.site, identity.idk)
    made.network.sent.append(replace(sent, body=forged))
    with pytest.raises(AssertionError, match="signed two survivor sets"):
        made.apply(Op("sweep"))


def test_a_log_that_changes(made: Simulation) -> None:
    made.apply(Op("everybody"))
    made.memory.leaves[-1] = bytes(32)
    with pytest.raises(AssertionError, match="was changed"):
        made.apply(Op("sweep"))


def test_a_signature_for_an_older_round(made: Simulation) -> None:
    made.apply(Op("everybody"))
    made.sites["site-a"].binds.append((0, STUDY, "update", 2))
    with pytest.raises(AssertionError, match="after binding 2"):
        made.apply(Op("sweep"))


def test_an_answer_that_hides_a_bug(made: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("coordinator.rounds.masked_update.check_manifest", fail)
    with pytest.raises(AssertionError, match="500"):
        made.apply(Op("everybody"))


def test_a_study_that_cannot_finish(made: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.cohort.mutually_covering", lambda *_: [])
    with pytest.raises(AssertionError, match="nothing is due and nothing moves"):
        made.finish()
