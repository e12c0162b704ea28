"""Killed at every named transaction and every request, before and after: each place once, in one long life (A18.4)."""

import pytest

from tests.fault.faults import FaultKind, Saboteur
from tests.fault.simulation import simulation

_SITE = {
    "store study", "make pairing", "take pairing", "bind", "trained", "sealed", "decide", "release", "take outcome",
    "delivered", "new instance", "instance confirmed", "note contact", "cosign log head", "note finality",
}  # fmt: skip
_REQUESTS = {
    "PUT pairings",
    "PUT uploads",
    "PUT shares",
    "PUT manifest",
    "PUT decision",
    "PUT unmask",
    "PUT cosignatures",
}
_COORDINATOR = {
    "accept a pairing bundle", "take a lease", "plan a round", "open a round", "accept a masked update",
    "accept a decision", "accept an unmask response", "keep an aggregate", "publish a round", "keep a log checkpoint",
    "accept an attestation", "keep a cosignature",
}  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_site_is_killed_at_every_commit_and_request(when: str) -> None:
    with simulation(3, paired=False) as made:
        made.saboteur = saboteur = Saboteur("site killed", when)
        made.finish()
        expected = (_SITE | _REQUESTS | {"PUT attestation"}) - {"store study"}
        assert {f"{when} {name}" for name in expected} <= saboteur.struck
        assert "PUBLISHED" in {state for _, _, state, _ in made.survivors()}


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_coordinator_is_killed_at_every_commit(when: str) -> None:
    with simulation(3, paired=False) as made:
        made.saboteur = saboteur = Saboteur("coordinator killed", when)
        made.finish()
        assert {f"{when} {name}" for name in _COORDINATOR} <= saboteur.struck
        assert made.survivors()[0] == ("update", 1, "PUBLISHED", "abc")


@pytest.mark.parametrize("kind", ["request lost", "response lost", "duplicated"])
def test_every_request_of_every_site_meets_the_fault_once(kind: FaultKind) -> None:
    with simulation(3, paired=False) as made:
        made.saboteur = saboteur = Saboteur(kind)
        made.finish()
        wanted = {f"{site}: {name}" for site in made.sites for name in [*_REQUESTS, "GET agent", "GET unmask-request"]}
        assert wanted <= saboteur.struck
        assert made.survivors()[0] == ("update", 1, "PUBLISHED", "abc")
