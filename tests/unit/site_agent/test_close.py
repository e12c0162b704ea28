"""R5: the chain of outcomes, present or missed; statistics; what happens to model files."""

import pytest

from shared.canonical import sha256_hex
from shared.errors import PeerFault
from site_agent.storage import outcomes
from tests.support.hospitals import STUDY, Hospitals, one_hot_sum

OTHERS = ["site-a", "site-b", "site-c"]


def run_without_d(hospitals: Hospitals, rounds: int) -> None:
    """Run rounds to which site-d was not invited, and of which it heard nothing."""
    for _ in range(rounds):
        ctx = hospitals.coordinator.open_round(STUDY, sites=OTHERS)
        hospitals.run_round(ctx, train=OTHERS, finish=OTHERS)
        hospitals.step(sites=OTHERS)
        assert one_hot_sum(hospitals, ctx, OTHERS)


def test_a_site_that_was_away_catches_up_and_trains_on(hospitals: Hospitals) -> None:
    run_without_d(hospitals, 3)
    away = hospitals["site-d"]
    for path in away.folder.models():
        path.unlink()
    hospitals.coordinator.requests.clear()
    away.step("study")
    origins = away.query("SELECT outcome, origin FROM model_version ORDER BY outcome")
    assert [(row.outcome, row.origin) for row in origins] == [(0, "initial"), *((n, "attested") for n in (1, 2, 3))]
    assert not [path for _, _, path in hospitals.coordinator.requests if "blobs" in path], "words are enough"
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(ctx)
    hospitals.step()
    assert one_hot_sum(hospitals, ctx, hospitals.sites)
    assert away.query("SELECT origin FROM model_version WHERE outcome = 4") == [("recomputed",)]


def test_a_site_that_has_the_model_computes_even_what_others_attest(hospitals: Hospitals) -> None:
    warm = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(warm)
    hospitals.step()
    run_without_d(hospitals, 2)
    away = hospitals["site-d"]
    away.step("study")
    origins = away.query("SELECT origin FROM model_version WHERE outcome > 0")
    assert [row.origin for row in origins] == ["recomputed"] * 3
    assert away.folder.model(hospitals.coordinator.studies[STUDY].model).exists()


def test_a_damaged_model_file_is_fetched_again(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    first = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(first)
    hospitals.step()
    model = hospitals.coordinator.studies[STUDY].model
    site.folder.model(model).write_bytes(b"half a model")
    ctx = hospitals.coordinator.open_round(STUDY)
    site.step()
    assert site.state(ctx) == "SENT"
    assert sha256_hex(site.folder.model(model).read_bytes()) == model


def test_no_model_is_downloaded_in_a_round_whose_model_was_computed_here(hospitals: Hospitals) -> None:
    first = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(first)
    hospitals.step()
    hospitals.coordinator.requests.clear()
    second = hospitals.coordinator.open_round(STUDY)
    hospitals.run_round(second)
    fetched = {path.rsplit("/", 1)[1] for _, _, path in hospitals.coordinator.requests if "blobs" in path}
    assert hospitals.coordinator.studies[STUDY].outcomes[0].outcome.model_sha256 not in fetched


def test_statistics_are_recomputed_from_the_sum(hospitals: Hospitals) -> None:
    ctx = hospitals.coordinator.open_round(STUDY, "statistics")
    hospitals.run_round(ctx)
    hospitals.step()
    for site in hospitals.each():
        with site.database.reading("look") as tx:
            found = outcomes.read_statistics(tx, STUDY)
        assert found is not None
        # Columns (1+i, 3, 5) and (2, 4+i, 6) of sites i = 0 to 3.
        assert found["count"] == [12, 12]
        assert found["mean"] == ["3.5", "4.5"]
        assert found["class_count"] == [4, 8]
    assert hospitals.coordinator.studies[STUDY].model == hospitals.plan.initial_model
    assert ctx.ctx_hash not in hospitals.coordinator.attestations, "no new model, nothing to attest"


def test_a_metrics_context_may_name_an_older_version(hospitals: Hospitals) -> None:
    for _ in range(2):
        ctx = hospitals.coordinator.open_round(STUDY)
        hospitals.run_round(ctx)
        hospitals.step()
    older = hospitals.coordinator.studies[STUDY].outcomes[0].outcome.model_sha256
    newest = hospitals.coordinator.studies[STUDY].model
    ctx = hospitals.coordinator.open_round(STUDY, "metrics", "test", model=older)
    published = hospitals.run_round(ctx)
    hospitals.step()
    assert published.outcome.model_sha256 == newest, "the chain stays where it was"
    assert [row.model for row in hospitals["site-a"].query('SELECT model FROM outcome WHERE "index" = 3')] == [newest]
    unknown = hospitals.coordinator.open_round(STUDY, "metrics", "validation", model="6" * 64)
    hospitals["site-a"].step()
    assert hospitals["site-a"].refusal(unknown) == "model_not_accepted"


def test_old_model_versions_are_forgotten(hospitals: Hospitals) -> None:
    for _ in range(5):
        hospitals.run_round(hospitals.coordinator.open_round(STUDY))
        hospitals.step()
    site = hospitals["site-a"]
    kept = {path.stem for path in site.folder.models()}
    assert hospitals.coordinator.studies[STUDY].model in kept
    assert len(kept) <= 5


@pytest.mark.parametrize("change", [{"aggregate_sha256": "5" * 64}, {"U": ["site-a", "site-b", "site-c"]}])
def test_an_outcome_that_does_not_fit_its_sum_is_not_taken(hospitals: Hospitals, change: dict[str, object]) -> None:
    ctx = hospitals.coordinator.open_round(STUDY)
    hospitals.step()
    hospitals.coordinator.close(ctx)
    hospitals.step()
    hospitals.coordinator.certify(ctx)
    hospitals.step()
    hospitals.coordinator.publish(ctx, **change)
    site = hospitals["site-a"]
    site.step("study")
    assert site.query("SELECT * FROM outcome") == []
    assert set(site.notices()) & {"blob_unknown", "aggregate_malformed"}


def test_announced_outcomes_that_cannot_be_had_are_a_fault(hospitals: Hospitals) -> None:
    site = hospitals["site-a"]
    value = {"kind": "study", "study": STUDY, "plan": hospitals.plan.plan_hash, "state": "running", "outcomes": 3}
    with pytest.raises(PeerFault, match=r"^outcome_missing:"):
        site.give(value)
