"""Attack table A13 row 15: who is to blame for a secret that does not open."""

import dataclasses

import pytest

from shared.errors import Misuse
from shared.secagg import pair_secrets
from shared.secagg.opening import DealerCommitments, ReleasedShares, open_secrets
from shared.secagg.shamir import PRIME, decode_element, encode_element
from tests.support.masked_round import MaskedRound

COHORT = [f"s{number:02d}" for number in range(6)]
SURVIVORS, LOST = COHORT[:5], COHORT[5:]
ZERO = bytes(32)


@pytest.fixture
def masked() -> MaskedRound:
    masked = MaskedRound(6, 4, seed=3)
    for site in SURVIVORS:
        masked.add_upload(site)
    return masked


def released(masked: MaskedRound, responders: list[str]) -> dict[str, ReleasedShares]:
    return {site: masked.release(site, SURVIVORS) for site in responders}


def test_t_of_any_sites_open_everything(masked: MaskedRound) -> None:
    opening = masked.open_all(SURVIVORS, COHORT[6 - masked.t :])
    assert opening.is_complete
    assert opening.self_secrets == {site: masked.uploads[site].self_secret for site in SURVIVORS}
    assert opening.pair_seeds == {(site, LOST[0]): masked.seeds(site)[LOST[0]] for site in SURVIVORS}


def test_silence_is_no_fault(masked: MaskedRound) -> None:
    responses = released(masked, COHORT[: masked.t])
    responses["s00"] = ReleasedShares({}, {})
    del responses["s01"].s["s02"]["s05"]  # type: ignore[attr-defined]
    opening = masked.open(SURVIVORS, responses)
    assert not opening.is_complete
    assert set(opening.missing) == {(site, peer) for site in SURVIVORS for peer in (None, LOST[0])}
    assert not opening.false_responders
    assert not opening.false_dealers


@pytest.mark.parametrize("wrong", [ZERO, b"", encode_element(PRIME - 1), b"\xff" * 32, bytes(33)])
def test_row_15_a_wrong_share_names_the_responder_and_is_left_out(masked: MaskedRound, wrong: bytes) -> None:
    responses = released(masked, COHORT)
    responses["s02"] = ReleasedShares(
        {**responses["s02"].b, "s00": wrong}, {**responses["s02"].s, "s04": {"s05": wrong}}
    )
    opening = masked.open(SURVIVORS, responses)
    assert opening.false_responders == {"s02": {"s00", "s04"}}
    assert opening.is_complete
    assert not opening.false_dealers | opening.inconsistent_dealers
    assert opening.self_secrets["s00"] == masked.uploads["s00"].self_secret


def test_row_15_a_share_of_another_secret_or_site_is_a_wrong_share(masked: MaskedRound) -> None:
    responses = released(masked, COHORT)
    mine = responses["s02"]
    for share in (mine.s["s00"]["s05"], mine.b["s01"], responses["s03"].b["s00"]):
        responses["s02"] = ReleasedShares({**mine.b, "s00": share}, mine.s)
        assert masked.open(SURVIVORS, responses).false_responders == {"s02": {"s00"}}


def test_row_15_with_too_few_good_shares_nothing_opens(masked: MaskedRound) -> None:
    responses = released(masked, COHORT[: masked.t])
    responses["s01"] = ReleasedShares({**responses["s01"].b, "s00": ZERO}, responses["s01"].s)
    opening = masked.open(SURVIVORS, responses)
    assert opening.missing == [("s00", None)]
    assert not opening.false_dealers


def test_row_15_a_dealer_that_shares_another_secret_is_named(masked: MaskedRound) -> None:
    # Shares and their commitments are in order, but of another b than the one committed to in the manifest.
    masked.uploads["s03"].b_commit = pair_secrets.b_commit(masked.ctx_hash, "s03", ZERO)
    responses = {site: masked.release(site, [s for s in SURVIVORS if s != "s03"]) for site in COHORT}
    for site in COHORT:
        own = masked.uploads["s03"].shares.own_shares
        other = ReleasedShares(dict(responses[site].b), dict(responses[site].s))
        shares = own if site == "s03" else reopened(masked, "s03", site)
        responses[site] = ReleasedShares({**other.b, "s03": shares[0]}, {**other.s, "s03": {"s05": shares[5]}})
    opening = masked.open(SURVIVORS, responses)
    assert opening.false_dealers == {"s03"}
    assert not opening.is_complete
    assert not opening.false_responders
    assert "s03" not in opening.self_secrets


def reopened(masked: MaskedRound, dealer: str, site: str) -> list[bytes]:
    """Open a blob under the commitment it was made with."""
    upload = masked.uploads[dealer]
    commitment = pair_secrets.b_commit(masked.ctx_hash, dealer, upload.self_secret)
    blob, pair = upload.shares.blobs[site], masked.pair(dealer, site)
    return pair_secrets.open_share_blob(masked.ctx_hash, dealer, site, blob, n=6, commitment=commitment, pair=pair)


def test_row_15_a_seed_shared_wrongly_names_the_dealer(masked: MaskedRound) -> None:
    commitments = {site: masked.commitments(site) for site in SURVIVORS}
    wrong = pair_secrets.seed_commit(masked.ctx_hash, "s01", "s05", ZERO)
    commitments["s01"] = dataclasses.replace(commitments["s01"], seed_commit={"s05": wrong})
    opening = open_secrets(
        masked.ctx_hash, COHORT, SURVIVORS, masked.t, responses=released(masked, COHORT), dealers=commitments
    )
    assert opening.false_dealers == {"s01"}
    assert ("s01", "s05") not in opening.pair_seeds


@pytest.mark.parametrize("bad", [["s00"], ["s03"], ["s05"]])
def test_row_15_another_subset_is_tried_before_giving_up(masked: MaskedRound, bad: list[str]) -> None:
    # The dealer committed to wrong shares for these sites. The secret is open all the same, from the others.
    commitments = {site: masked.commitments(site) for site in SURVIVORS}
    responses = released(masked, COHORT)
    shares = {site: list(values) for site, values in commitments["s02"].shares.items()}
    for site in bad:
        wrong = encode_element((decode_element(responses[site].b["s02"]) + 1) % PRIME)
        responses[site] = ReleasedShares({**responses[site].b, "s02": wrong}, responses[site].s)
        shares[site][0] = pair_secrets.share_commit(masked.ctx_hash, "s02", site, 0, wrong)
    commitments["s02"] = DealerCommitments(commitments["s02"].b_commit, commitments["s02"].seed_commit, shares)
    opening = open_secrets(masked.ctx_hash, COHORT, SURVIVORS, masked.t, responses=responses, dealers=commitments)
    assert opening.is_complete
    assert opening.self_secrets["s02"] == masked.uploads["s02"].self_secret
    assert opening.inconsistent_dealers == ({"s02"} if bad[0] in COHORT[: masked.t] else set())
    assert not opening.false_responders
    enough = open_secrets(
        masked.ctx_hash,
        COHORT,
        SURVIVORS,
        masked.t,
        responses={site: response for site, response in responses.items() if site in bad or site in COHORT[1:5]},
        dealers=commitments,
    )
    assert enough.is_complete or enough.false_dealers == {"s02"}


def test_shares_that_nobody_asked_for_are_ignored(masked: MaskedRound) -> None:
    responses = released(masked, COHORT)
    responses["s00"] = ReleasedShares(
        {**responses["s00"].b, "s05": ZERO},
        {**responses["s00"].s, "s05": {"s01": ZERO}, "s01": {"s02": ZERO, "s05": ZERO}},
    )
    opening = masked.open(SURVIVORS, responses)
    assert opening.is_complete
    assert opening.false_responders == {"s00": {"s01"}}


def test_strangers_are_refused(masked: MaskedRound) -> None:
    responses = released(masked, COHORT)
    with pytest.raises(Misuse):
        masked.open(SURVIVORS, {**responses, "stranger": responses["s00"]})
    with pytest.raises(Misuse):
        open_secrets(masked.ctx_hash, COHORT, SURVIVORS, masked.t, responses=responses, dealers={})


def test_two_hundred_sites_open_in_reasonable_time() -> None:
    # One dealer among 200, all 134 responders: big integers and coefficients computed once make this milliseconds.
    masked = MaskedRound(200, 1, b=24, q=8, seed=5)
    masked.add_upload("s00")
    responses = {
        site: ReleasedShares({"s00": masked.shares_for("s00", site)[0]}, {}) for site in masked.cohort[: masked.t]
    }
    opening = masked.open(["s00"], responses)
    assert opening.self_secrets == {"s00": masked.uploads["s00"].self_secret}


def test_row_15_a_committed_share_that_is_no_field_element_is_left_out() -> None:
    masked = MaskedRound(6, 4, seed=3)
    for site in SURVIVORS:
        masked.add_upload(site)
    commitments = {site: masked.commitments(site) for site in SURVIVORS}
    responses, wrong = released(masked, COHORT), b"\xff" * 32
    responses["s00"] = ReleasedShares({**responses["s00"].b, "s02": wrong}, responses["s00"].s)
    shares = {site: list(values) for site, values in commitments["s02"].shares.items()}
    shares["s00"][0] = pair_secrets.share_commit(masked.ctx_hash, "s02", "s00", 0, wrong)
    commitments["s02"] = dataclasses.replace(commitments["s02"], shares=shares)
    opening = open_secrets(masked.ctx_hash, COHORT, SURVIVORS, masked.t, responses=responses, dealers=commitments)
    assert opening.is_complete
    assert opening.false_responders == {"s00": {"s02"}}
