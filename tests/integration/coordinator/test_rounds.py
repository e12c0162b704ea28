"""Whole rounds with scripted sites: the published sum is exactly the survivors', whatever happens."""

import base64
import functools
import json
import os
import struct
from typing import Any

import numpy as np
import pytest

from coordinator.rounds import seed_commits, sweep
from coordinator.storage.rounds import Upload
from shared.canonical import sha256_hex
from shared.crypto.signed_envelope import open_envelope
from shared.errors import MitralError
from shared.model_state import to_bytes
from shared.protocol.study import Plan
from shared.protocol.work import CloseCommand
from shared.secagg import pair_secrets
from shared.secagg.tail import TailItem, decode_tail
from shared.statistics import OFFSET, SCALE
from tests.support.coordinator_scene import SITES, Scene
from tests.support.fake_site import code_of

Running = tuple[Scene, Plan]


def work(scene: Scene, *names: str, skip: tuple[str, ...] = ()) -> None:
    for name in names or SITES:
        scene.sites[name].work(skip=skip)
    scene.drain()


def upload(scene: Scene, plan: Plan, *names: str) -> Any:
    round_ = scene.live(plan)
    for name in names:
        scene.sites[name].upload(round_.ctx)
    scene.drain()
    return scene.live(plan)


def finish(scene: Scene, plan: Plan, *names: str) -> Any:
    """Let these sites decide and release; return the round."""
    ctx_hash = scene.live(plan).ctx_hash
    for _ in range(2):
        for name in names:
            scene.sites[name].work(skip=("open", "pairing"))
            scene.drain()
    return next(one for one in scene.contexts(plan) if one.ctx_hash == ctx_hash)


def counted(scene: Scene, round_: Any) -> list[str]:
    """Return who is in the published sum: site i contributed one-hot i."""
    words = np.frombuffer(scene.blob(round_.aggregate_sha256), "<i4", count=round_.ctx.d)
    assert set(words[4:].tolist()) == {0}
    return [name for name, word in zip(SITES, words[:4].tolist(), strict=True) for _ in range(word)]


def test_a_round_publishes_exactly_the_sum_and_the_model_that_follows_from_it(running: Running) -> None:
    scene, plan = running
    work(scene)
    work(scene)
    work(scene)
    done = scene.contexts(plan)[0]
    assert done.state == "PUBLISHED"
    assert done.survivors == list(SITES)
    assert counted(scene, done) == list(SITES)
    quantum, weight = 2**15 - 1, 4 * 20
    expected = np.float32(1 / quantum * plan.secure_aggregation.w_cap / weight)
    assert scene.weights(done.result_model) == pytest.approx([expected] * 4 + [0] * 4, rel=1e-6)
    view = scene.study(plan)
    assert view.model == done.result_model
    assert view.rounds[0].metrics is not None
    assert view.rounds[0].metrics["cases"] == 80
    assert view.rounds[0].metrics["auc"] == "1.000000"
    assert set(view.rounds[0].upload_bytes) == set(SITES)


def test_the_tail_of_the_aggregate_decodes_to_the_sums(running: Running) -> None:
    scene, plan = running
    for _ in range(3):
        work(scene)
    done = scene.contexts(plan)[0]
    raw = scene.blob(done.aggregate_sha256)
    words = np.array(struct.unpack(f"<{done.ctx.tail_words}I", raw[4 * done.ctx.d :]), dtype=np.uint32)
    items = [TailItem(entry.name, entry.limbs, entry.length) for entry in done.ctx.tail]
    tail = decode_tail(items, words, done.ctx.b, 4)
    assert (tail["weight"], tail["n_sites"], tail["cases"]) == ([80], [4], [80])


def test_a_study_goes_through_its_whole_order(scene: Scene) -> None:
    plan = scene.submit(training={"rounds": 2}, preprocessing={"normalise": "federated"})
    scene.start(plan)
    for _ in range(24):
        work(scene)
    view = scene.study(plan)
    assert (view.state, view.reason) == ("finished", "all rounds done")
    assert [(one.kind, one.round, one.state) for one in view.rounds] == [
        ("statistics", 1, "PUBLISHED"),
        ("update", 1, "PUBLISHED"),
        ("update", 2, "PUBLISHED"),
        ("metrics", 1, "PUBLISHED"),
        ("metrics", 2, "PUBLISHED"),
    ]
    tails = [{entry.name for entry in one.ctx.tail} for one in scene.contexts(plan)]
    assert ["score_histogram" in tail for tail in tails] == [False, True, True, True, False]
    assert ["test_histogram" in tail for tail in tails] == [False, False, False, False, True]
    assert view.best_metrics is not None
    assert view.test_metrics is not None
    assert view.best_round == 0  # every version scored alike, so the first one was never beaten
    assert [one.model for one in view.rounds][-1] == view.best_model == plan.initial_model


def test_statistics_are_the_exact_figures_of_all_sites(scene: Scene) -> None:
    def values(site: Any, ctx: Any) -> Any:
        number = SITES.index(site.name) + 1
        tail = {
            "n_sites": [1],
            "feature_count": [2, 2],
            "feature_sum": [OFFSET + number * SCALE, OFFSET - number * SCALE],
            "feature_square_sum": [OFFSET + number * number * SCALE] * 2,
            "class_count": [number, 1],
        }
        return np.zeros(0, np.int64), tail

    for site in scene.sites.values():
        site.values = values
    plan = scene.submit(preprocessing={"normalise": "federated"})
    scene.start(plan)
    for _ in range(3):
        work(scene, skip=("open",) if scene.live(plan).kind != "statistics" else ())
    with scene.coordinator.database.reading("test") as tx:
        statistics = json.loads(tx.value("SELECT statistics FROM study"))
    assert statistics["mean"] == ["1.25", "-1.25"]
    assert statistics["count"] == [8, 8]
    assert statistics["class_count"] == [10, 4]


# --- dropouts ---------------------------------------------------------------------------------------------------------


def test_dropout_before_the_upload(running: Running) -> None:
    scene, plan = running
    assert upload(scene, plan, "site-a", "site-b", "site-d").state == "OPEN"  # the grace period is for site-c
    scene.pass_time(5)
    assert scene.live(plan).state == "CLOSING"
    done = finish(scene, plan, "site-a", "site-b", "site-d")
    assert (done.state, done.survivors) == ("PUBLISHED", ["site-a", "site-b", "site-d"])
    assert counted(scene, done) == ["site-a", "site-b", "site-d"]


def test_dropout_before_the_decision(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    done = finish(scene, plan, "site-b", "site-c", "site-d")
    assert (done.state, counted(scene, done)) == ("PUBLISHED", list(SITES))


def test_dropout_before_the_release(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    for name in SITES:
        scene.sites[name].work(skip=("unmask",))
    scene.drain()
    assert scene.live(plan).state == "CERTIFIED"
    done = finish(scene, plan, "site-a", "site-b", "site-c")
    assert (done.state, counted(scene, done)) == ("PUBLISHED", list(SITES))


def test_a_site_that_did_not_upload_helps_to_unmask(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, "site-a", "site-b", "site-d")
    scene.pass_time(5)
    done = finish(scene, plan, "site-c", "site-b", "site-d")
    assert (done.state, counted(scene, done)) == ("PUBLISHED", ["site-a", "site-b", "site-d"])


def test_too_few_uploads_double_the_window_once_and_then_abandon(running: Running) -> None:
    scene, plan = running
    until = upload(scene, plan, "site-a", "site-b").upload_until
    scene.pass_time(60)
    round_ = scene.live(plan)
    assert (round_.state, round_.extended) == ("OPEN", True)
    assert round_.upload_until > until
    assert (
        next(one for one in scene.sites["site-c"].poll(cursor="").commands if one.kind == "open").upload_until > until
    )
    scene.pass_time(60)
    first, second = scene.contexts(plan)
    assert (first.state, first.number, first.result_model) == ("ABANDONED", 1, None)
    assert (second.state, second.number, second.model) == ("OPEN", 2, first.model)
    assert scene.coordinator.uploads.contexts() == []
    ended = [one for one in scene.sites["site-a"].poll(cursor="").commands if one.kind == "ended"]
    assert [(one.ctx_hash, one.state) for one in ended] == [(first.ctx_hash, "ABANDONED")]


def test_one_model_serves_three_failed_rounds_and_asks_for_its_histogram_once(running: Running) -> None:
    scene, plan = running
    for _ in range(6):
        scene.pass_time(60)
    view = scene.study(plan)
    assert [(one.round, one.state) for one in view.rounds] == [(1, "ABANDONED"), (2, "ABANDONED"), (3, "ABANDONED")]
    assert (view.state, view.reason) == ("paused", "3 rounds failed on the same model version")
    tails = [{entry.name for entry in one.ctx.tail} for one in scene.contexts(plan)]
    assert ["score_histogram" in tail for tail in tails] == [True, False, False]
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    assert scene.live(plan).number == 4


def test_refusals_end_a_round_at_once_when_too_few_are_left(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    scene.sites["site-a"].refuse(ctx, "budget_spent")
    scene.drain()
    assert scene.live(plan).state == "OPEN"
    scene.sites["site-b"].refuse(ctx)
    scene.drain()
    view = scene.study(plan)
    assert view.rounds[0].state == "ABANDONED"
    assert view.rounds[0].refused == {"site-a": "budget_spent", "site-b": "plan_not_approved"}


def test_a_refusal_does_not_fail_the_others(running: Running) -> None:
    scene, plan = running
    scene.sites["site-c"].refuse(scene.live(plan).ctx)
    assert upload(scene, plan, "site-a", "site-b", "site-d").state == "CLOSING"  # nobody is waited for any more
    done = finish(scene, plan, "site-a", "site-b", "site-d")
    assert counted(scene, done) == ["site-a", "site-b", "site-d"]


def test_no_certificate_before_the_context_expires_is_a_lost_round(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    finish(scene, plan, "site-a")
    assert scene.live(plan).state == "CLOSING"
    scene.pass_time(600)
    first, second = scene.contexts(plan)
    assert (first.state, first.reason) == ("LOST", "the context expired while CLOSING")
    assert second.number == 2
    assert scene.coordinator.uploads.contexts() == []


def test_too_few_shares_before_the_context_expires_is_a_lost_round(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    for name in SITES:
        scene.sites[name].work(skip=("unmask",))
    finish(scene, plan, "site-a", "site-b")
    assert scene.live(plan).state == "UNMASKING"
    scene.pass_time(600)
    assert scene.contexts(plan)[0].state == "LOST"
    assert scene.coordinator.uploads.contexts() == []
    assert code_of(lambda: scene.sites["site-c"].release(scene.contexts(plan)[0].ctx_hash, {})) == "message_malformed"


def test_survivors_are_proposed_only_while_enough_members_are_online(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    for name in ("site-a", "site-b", "site-c"):
        scene.sites[name].upload(ctx)
    for name in ("site-b", "site-c", "site-d"):
        scene.coordinator.lost(name)
    scene.silent = set(SITES)
    scene.pass_time(60)
    assert scene.live(plan).state == "OPEN"
    assert "1 of at least 3" in (scene.live(plan).reason or "")
    scene.silent = set()
    scene.pass_time(1)
    assert scene.live(plan).state == "CLOSING"


def test_a_window_nobody_can_close_ends_when_the_context_expires(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    for name in ("site-a", "site-b", "site-c"):
        scene.sites[name].upload(ctx)
    scene.silent = set(SITES)
    scene.pass_time(300)
    assert scene.live(plan).state == "OPEN"
    assert scene.woken[plan.study].isoformat() == "2026-11-21T09:10:00+00:00"
    scene.pass_time(300)
    assert (scene.contexts(plan)[0].state, len(scene.contexts(plan))) == ("ABANDONED", 1)
    assert scene.coordinator.uploads.contexts() == []


def test_the_longer_window_does_not_outlive_the_context(scene: Scene) -> None:
    plan = scene.submit(deadlines={"upload_seconds": 60, "expire_seconds": 90})
    scene.start(plan)
    scene.pass_time(60)
    round_ = scene.live(plan)
    assert (round_.extended, round_.upload_until) == (True, round_.expires_at)


# --- late, repeated, damaged ------------------------------------------------------------------------------------------


def test_a_late_upload_is_refused_and_leaves_nothing(running: Running) -> None:
    scene, plan = running
    late = scene.sites["site-c"]
    ctx = scene.live(plan).ctx
    late.put_chunk(ctx, 0)
    late.put_shares(ctx)
    upload(scene, plan, "site-a", "site-b", "site-d")
    scene.pass_time(5)
    assert scene.live(plan).state == "CLOSING"
    assert not scene.coordinator.uploads.folder(ctx.ctx_hash, "site-c").exists()
    for send in (lambda: late.put_chunk(ctx, 0), lambda: late.put_shares(ctx), lambda: late.put_manifest(ctx)):
        assert code_of(send) == "round_closed"
    assert not scene.coordinator.uploads.folder(ctx.ctx_hash, "site-c").exists()
    done = finish(scene, plan, *SITES)
    assert counted(scene, done) == ["site-a", "site-b", "site-d"]


def test_a_chunk_that_comes_in_while_the_window_closes_is_deleted(running: Running, monkeypatch: Any) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    late = scene.sites["site-c"]
    late.seal_update(ctx)
    for name in ("site-a", "site-b", "site-d"):
        scene.sites[name].upload(ctx)
    uploads = scene.coordinator.uploads
    actual = uploads.keep_chunk
    states: list[str] = []

    def close_meanwhile(*arguments: Any) -> str:
        scene.pass_time(5)
        states.append(scene.live(plan).state)
        return actual(*arguments)

    monkeypatch.setattr(uploads, "keep_chunk", close_meanwhile)
    # The folder may be gone or not when the file is named; either way nothing of it stays.
    with pytest.raises((MitralError, AssertionError)):
        late.put_chunk(ctx, 0)
    assert states == ["CLOSING"]
    assert not any(uploads.folder(ctx.ctx_hash, "site-c").glob("chunk-*"))


def test_chunks_in_any_order_and_twice_are_fine_and_other_bytes_are_not(scene: Scene) -> None:
    d = 2**21 + 5
    model = np.zeros(d, np.float32)
    raw = to_bytes({"w": model})
    scene.operator("PUT", f"/v1/blobs/{sha256_hex(raw)}", raw)
    plan = scene.submit(initial_model=sha256_hex(raw), dimension=d)
    scene.start(plan)
    ctx = scene.live(plan).ctx
    site = scene.sites["site-a"]
    for index in (2, 0, 2, 1, 0):
        site.put_chunk(ctx, index)
    chunk = site.seal_update(ctx).chunks[1]
    listed = json.loads(site.call("GET", f"/v1/rounds/{ctx.ctx_hash}/uploads/site-a"))["chunks"]
    assert sorted(listed) == ["0", "1", "2"]
    assert code_of(lambda: site.put_chunk(ctx, 1, chunk[:-1] + bytes([chunk[-1] ^ 1]))) == "upload_conflict"
    assert code_of(lambda: site.put_chunk(ctx, 1, chunk[:-1])) == "body_truncated"
    assert code_of(lambda: site.put_chunk(ctx, 1, chunk + b"x")) == "body_too_large"
    assert code_of(lambda: site.put_chunk(ctx, 3, chunk)) == "chunk_unknown"
    assert code_of(lambda: site.put_chunk(ctx, 2, chunk)) == "body_too_large"
    site.put_shares(ctx)
    site.put_manifest(ctx)
    upload(scene, plan, "site-b", "site-c", "site-d")
    done = finish(scene, plan, *SITES)
    assert done.state == "PUBLISHED"
    words = np.frombuffer(scene.blob(done.aggregate_sha256), "<i4", count=d)
    assert words[:4].tolist() == [1, 1, 1, 1]
    assert not words[4:].any()


def test_a_manifest_waits_for_every_byte(running: Running) -> None:
    scene, plan = running
    site, ctx = scene.sites["site-a"], scene.live(plan).ctx
    assert code_of(lambda: site.put_manifest(ctx)) == "upload_incomplete"
    site.put_chunk(ctx, 0)
    assert code_of(lambda: site.put_manifest(ctx)) == "upload_incomplete"
    shares = site.seal_update(ctx).shares
    assert code_of(lambda: site.put_shares(ctx, shares[:-1])) == "body_truncated"
    site.put_shares(ctx)
    first = site.put_manifest(ctx)
    assert site.put_manifest(ctx) == first  # the same bytes, the same receipt
    assert code_of(lambda: site.put_chunk(ctx, 0)) == "upload_conflict"
    assert scene.study(plan).rounds[0].uploaded == ["site-a"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body["vec"]["chunk_sha256"].__setitem__(0, "0" * 64), "manifest_mismatch"),
        (lambda body: body["vec"]["chunk_sha256"].append("0" * 64), "manifest_mismatch"),
        (lambda body: body["vec"].__setitem__("elems", 7), "manifest_mismatch"),
        (lambda body: body["vec"].__setitem__("b", 16), "manifest_mismatch"),
        (lambda body: body["shares"].__setitem__("site-b", "0" * 64), "manifest_mismatch"),
        (lambda body: body["shares"].pop("site-b"), "manifest_mismatch"),
        (lambda body: body["seed_commit"].pop("site-b"), "manifest_mismatch"),
        (lambda body: body.__setitem__("ctx_hash", "0" * 64), "manifest_mismatch"),
        (lambda body: body.__setitem__("loss", 3), "message_malformed"),
        (lambda body: body.__setitem__("x_commit", "0" * 64), "message_malformed"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(running: Running, change: Any, code: str) -> None:
    scene, plan = running
    site, ctx = scene.sites["site-a"], scene.live(plan).ctx
    sealed = site.seal_update(ctx)
    site.put_chunk(ctx, 0)
    site.put_shares(ctx)
    body = open_envelope(sealed.manifest, "manifest", {"site-a": site.idk.verify_key}).body
    change(body)
    assert code_of(lambda: site.put_manifest(ctx, site.sign("manifest", body))) == code
    assert scene.study(plan).rounds[0].uploaded == []


def test_contradicting_seed_commitments_leave_one_out_and_renew_both_pairings(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    upload(scene, plan, "site-b")
    site = scene.sites["site-a"]
    body = open_envelope(site.seal_update(ctx).manifest, "manifest", {"site-a": site.idk.verify_key}).body
    body["seed_commit"]["site-b"] = "0" * 64
    site.put_chunk(ctx, 0)
    site.put_shares(ctx)
    site.put_manifest(ctx, site.sign("manifest", body))
    alert = next(entry for entry in scene.entries() if entry["type"] == "alert.seed_commit")
    assert alert["data"]["pair"] == ["site-a", "site-b"]
    assert len(alert["evidence"]) == 2
    upload(scene, plan, "site-c", "site-d")
    survivors = scene.live(plan).survivors
    assert survivors in (["site-a", "site-c", "site-d"], ["site-b", "site-c", "site-d"])
    wanted = {
        name: [one.serial for one in site.poll(cursor="").commands if one.kind == "pairing"]
        for name, site in scene.sites.items()
    }
    assert wanted == {name: [] for name in SITES}  # nobody outdates the bundles of a round that is under way
    scene.operator("POST", f"/v1/studies/{plan.study}/stop")
    with scene.coordinator.database.reading("look") as tx:
        renewed = {row.site for row in tx.rows("SELECT site FROM pairing WHERE renew = 1")}
    assert renewed == {"site-a", "site-b"}


def test_between_two_who_contradict_each_other_neither_always_wins() -> None:
    out = set()
    for number in range(32):
        uploads = {site: _upload(site, {"site-a": "0", "site-b": "1"}) for site in ("site-a", "site-b")}
        kept = seed_commits.consistent(f"{number:064x}", uploads)
        assert len(kept) == 1
        out |= set(kept)
    assert out == {"site-a", "site-b"}


def _upload(site: str, commits: dict[str, str]) -> Upload:
    others = {other: commits[site] * 64 for other in commits if other != site}
    body = {
        "site": site, "seq": 1, "prev": "0" * 64, "ctx_hash": "0" * 64, "b_commit": "0" * 64, "x_commit": None,
        "vec": {"elems": 16, "b": 24, "chunk_elems": 2**20, "chunk_sha256": []}, "seed_commit": others, "shares": {},
    }  # fmt: skip
    envelope = json.dumps({"payload": base64.b64encode(json.dumps(body).encode()).decode()}).encode()
    return Upload(site, "", envelope, 0, "")


def test_a_site_that_contradicts_everybody_is_the_one_left_out_even_if_it_came_first(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    site = scene.sites["site-a"]
    body = open_envelope(site.seal_update(ctx).manifest, "manifest", {"site-a": site.idk.verify_key}).body
    body["seed_commit"] = dict.fromkeys(body["seed_commit"], "0" * 64)
    site.put_chunk(ctx, 0)
    site.put_shares(ctx)
    site.put_manifest(ctx, site.sign("manifest", body))
    upload(scene, plan, "site-b", "site-c", "site-d")
    assert scene.live(plan).survivors == ["site-b", "site-c", "site-d"]
    done = finish(scene, plan, *SITES)
    assert counted(scene, done) == ["site-b", "site-c", "site-d"]
    pairs = [entry["data"]["pair"] for entry in scene.entries() if entry["type"] == "alert.seed_commit"]
    assert pairs == [["site-a", other] for other in ("site-b", "site-c", "site-d")]


def test_a_round_with_too_few_uploads_that_agree_is_abandoned_and_says_so(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    for name in ("site-a", "site-b"):
        site = scene.sites[name]
        body = open_envelope(site.seal_update(ctx).manifest, "manifest", {name: site.idk.verify_key}).body
        body["seed_commit"] = dict.fromkeys(body["seed_commit"], name[-1] * 64)
        site.put_chunk(ctx, 0)
        site.put_shares(ctx)
        site.put_manifest(ctx, site.sign("manifest", body))
    scene.sites["site-c"].upload(ctx)
    scene.drain()
    ended = next(one for one in scene.contexts(plan) if one.ctx_hash == ctx.ctx_hash)
    assert (ended.state, ended.survivors) == ("ABANDONED", [])
    assert "2 contradicted others" in ended.reason


def test_a_site_decides_once(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    site = scene.sites["site-a"]
    command = next(one for one in site.poll(cursor="").commands if isinstance(one, CloseCommand))
    site.decide(command)
    assert not [one for one in site.poll(cursor="").commands if one.kind == "close"]
    assert code_of(lambda: site.decide(command)) == "statement_conflict"
    smaller = command.model_copy(update={"stmt": command.stmt.model_copy(update={"U": ["site-a", "site-b", "site-c"]})})
    assert code_of(lambda: scene.sites["site-b"].decide(smaller)) == "decision_mismatch"


def test_no_shares_are_asked_for_without_a_certificate(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    site, ctx_hash = scene.sites["site-a"], scene.live(plan).ctx_hash
    finish(scene, plan, "site-b", "site-c")
    assert scene.live(plan).state == "CLOSING"
    assert code_of(lambda: site.unmask_request(ctx_hash)) == "round_closed"
    payload = {"ctx_hash": ctx_hash, "stmt_hash": scene.live(plan).stmt_hash, "b": {}, "s": {}}
    assert code_of(lambda: site.release(ctx_hash, payload)) == "round_closed"


def test_a_late_decision_and_a_late_release_are_receipted_but_not_kept(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    slow = scene.sites["site-d"]
    close = next(one for one in slow.poll(cursor="").commands if isinstance(one, CloseCommand))
    for name in ("site-a", "site-b", "site-c"):
        scene.sites[name].work(skip=("unmask",))
    scene.drain()
    request = slow.unmask_request(scene.live(plan).ctx_hash)
    done = finish(scene, plan, "site-a", "site-b", "site-c")
    assert done.state == "PUBLISHED"
    slow.decide(close)
    slow.release(done.ctx_hash, slow.response(request))
    assert scene.coordinator.uploads.contexts() == []
    assert code_of(lambda: slow.unmask_request(done.ctx_hash)) == "round_closed"


def test_a_release_of_more_than_was_asked_for_is_refused(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, "site-a", "site-b", "site-d")
    scene.pass_time(5)
    for name in ("site-a", "site-b", "site-d"):
        scene.sites[name].work(skip=("unmask",))
    scene.drain()
    site, ctx_hash = scene.sites["site-a"], scene.live(plan).ctx_hash
    good = site.response(site.unmask_request(ctx_hash))
    share = good["b"]["site-a"]
    for bad in (
        {**good, "b": {**good["b"], "site-c": share}},
        {**good, "s": {**good["s"], "site-c": {"site-a": share}}},
        {**good, "s": {"site-a": {"site-b": share}}},
        {**good, "stmt_hash": "0" * 64},
    ):
        assert code_of(functools.partial(site.release, ctx_hash, bad)) == "unmask_mismatch"
    assert code_of(lambda: site.release(ctx_hash, {**good, "b": {"site-a": share[:-4]}})) == "base64_malformed"


def test_a_wrong_share_is_left_out_named_and_made_up_for(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, *SITES)
    for name in SITES:
        scene.sites[name].work(skip=("unmask",))
    scene.drain()
    liar, ctx_hash = scene.sites["site-a"], scene.live(plan).ctx_hash
    payload = liar.response(liar.unmask_request(ctx_hash))
    payload["b"]["site-b"] = payload["b"]["site-c"]
    liar.release(ctx_hash, payload)
    finish(scene, plan, "site-b", "site-c")
    assert scene.live(plan).state == "UNMASKING"
    alerts = [entry for entry in scene.entries() if entry["type"] == "alert.share_false"]
    assert [(one["subject"]["id"], one["data"]["dealers"]) for one in alerts] == [("site-a", ["site-b"])]
    done = finish(scene, plan, "site-d")
    assert (done.state, counted(scene, done)) == ("PUBLISHED", list(SITES))


def test_a_dealer_of_wrong_shares_loses_the_round_and_stays_out_until_readmitted(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    liar = scene.sites["site-c"]
    sealed = liar.seal_update(ctx)
    body = open_envelope(sealed.manifest, "manifest", {"site-c": liar.idk.verify_key}).body
    # The shares are of another secret than the one committed to; every share fits its own commitment.
    committed = bytes.fromhex(body["b_commit"])
    monkeypatch.setattr(pair_secrets, "b_commit", lambda *_: committed)
    pairs = liar.pair_secrets(ctx)
    blobs = pair_secrets.make_share_blobs(
        ctx.digest, "site-c", ctx.sites, ctx.t, self_secret=bytes(31) + b"\x07", seeds=sealed.seeds, pairs=pairs,
        random=os.urandom,
    ).blobs  # fmt: skip
    monkeypatch.undo()
    body["shares"] = {peer: sha256_hex(blobs[peer]) for peer in ctx.sites}
    liar.put_chunk(ctx, 0)
    liar.put_shares(ctx, b"".join(blobs[peer] for peer in ctx.sites))
    liar.put_manifest(ctx, liar.sign("manifest", body))
    upload(scene, plan, "site-a", "site-b", "site-d")
    finish(scene, plan, "site-a", "site-b", "site-d")
    lost = scene.contexts(plan)[0]
    assert lost.state == "LOST"
    assert "site-c" in (lost.reason or "")
    listed = scene.operator("GET", "/v1/sites", role="administrator")["sites"]
    assert [one["site"] for one in listed if one["kept_out"]] == ["site-c"]
    assert scene.live(plan).ctx.sites == ["site-a", "site-b", "site-d"]
    scene.operator("POST", "/v1/sites/site-c/readmit", role="administrator")
    assert [one.kind for one in liar.poll(cursor="").commands if one.kind == "pairing"] == ["pairing"]


def test_a_vector_that_does_not_fit_its_checksum_loses_the_round(running: Running) -> None:
    scene, plan = running
    ctx = scene.live(plan).ctx
    site = scene.sites["site-a"]
    sealed = site.seal_update(ctx)
    from shared.canonical import sha256_hex

    chunk = bytearray(sealed.chunks[0])
    chunk[0] ^= 1
    body = open_envelope(sealed.manifest, "manifest", {"site-a": site.idk.verify_key}).body
    body["vec"]["chunk_sha256"] = [sha256_hex(chunk)]
    site.put_chunk(ctx, 0, bytes(chunk))
    site.put_shares(ctx)
    site.put_manifest(ctx, site.sign("manifest", body))
    upload(scene, plan, "site-b", "site-c", "site-d")
    finish(scene, plan, *SITES)
    lost = scene.contexts(plan)[0]
    assert lost.state == "LOST"
    assert lost.result_model is None
    serials = {
        name: [one.serial for one in one_site.poll(cursor="").commands if one.kind == "pairing"]
        for name, one_site in scene.sites.items()
    }
    assert serials == {name: [2] for name in SITES}


def test_after_every_end_no_secret_of_the_round_is_on_disk(running: Running) -> None:
    """Attack row 26."""
    scene, plan = running
    upload(scene, plan, *SITES)
    for name in SITES:
        scene.sites[name].work(skip=("unmask",))
    scene.drain()
    ctx_hash = scene.live(plan).ctx_hash
    needles = []
    for site in scene.sites.values():
        sealed = site.sealed[ctx_hash]
        needles += [sealed.self_secret, *sealed.seeds.values(), *sealed.share_blobs.own_shares, sealed.chunks[0][:64]]
    finish(scene, plan, *SITES)
    assert scene.contexts(plan)[0].state == "PUBLISHED"
    assert scene.coordinator.uploads.contexts() == []
    with scene.coordinator.database.reading("look") as tx:
        assert tx.rows("SELECT 1 FROM response WHERE sealed IS NOT NULL") == []
    found = [
        path.name
        for path in scene.state.rglob("*")
        if path.is_file()
        for needle in needles
        if needle in path.read_bytes() or needle.hex().encode() in path.read_bytes()
    ]
    assert found == []


@pytest.mark.parametrize("late", ["site-d", None])
def test_row_22_two_sums_that_differ_by_one_site_raise_an_alert(running: Running, late: str | None) -> None:
    scene, plan = running
    first = scene.live(plan).ctx_hash
    upload(scene, plan, *SITES)
    finish(scene, plan, *SITES)
    present = [name for name in SITES if name != late]
    upload(scene, plan, *present)
    scene.pass_time(5)
    finish(scene, plan, *present)
    alerts = [entry["data"] for entry in scene.entries() if entry["type"] == "alert.differencing"]
    assert [(one["site"], one["before"]) for one in alerts] == ([] if late is None else [(late, first)])


def test_a_round_that_too_few_can_finish_ends_when_the_withdrawal_comes(running: Running) -> None:
    scene, plan = running
    closing = upload(scene, plan, *SITES)
    assert closing.state == "CLOSING"
    scene.sites["site-a"].approve_study(plan, "withdraw")
    scene.drain()
    assert scene.live(plan).state == "CLOSING"  # three of four can still sign, t is three
    scene.operator("POST", "/v1/sites/site-b/revoke", {"reason": "test"}, role="administrator")
    scene.drain()
    ended = next(one for one in scene.contexts(plan) if one.ctx_hash == closing.ctx_hash)
    assert (ended.state, "withdrew or were revoked" in ended.reason) == ("LOST", True)


def test_a_revoked_site_is_not_waited_for(running: Running) -> None:
    scene, plan = running
    upload(scene, plan, "site-a", "site-b", "site-c")
    assert scene.live(plan).state == "OPEN"
    scene.operator("POST", "/v1/sites/site-d/revoke", {"reason": "test"}, role="administrator")
    scene.pass_time(1)
    assert scene.live(plan).survivors == ["site-a", "site-b", "site-c"]


def test_a_round_that_takes_the_process_down_again_and_again_is_lost(running: Running) -> None:
    scene, plan = running
    ctx_hash = upload(scene, plan, *SITES).ctx_hash
    for name in SITES:
        scene.sites[name].work(skip=("open", "pairing"))
    scene.drain()
    (scene.state / "uploads" / ctx_hash / "attempts").write_bytes(b"." * sweep.MOST_ATTEMPTS)
    for name in SITES:
        scene.sites[name].work(skip=("open", "pairing"))
    scene.drain()
    ended = next(one for one in scene.contexts(plan) if one.ctx_hash == ctx_hash)
    assert (ended.state, "process ended 3 times" in ended.reason) == ("LOST", True)


def test_statistics_that_fail_again_and_again_rest_and_can_be_taken_up(scene: Scene) -> None:
    plan = scene.submit(preprocessing={"normalise": "federated"})
    scene.start(plan)
    for number in range(3):
        assert (scene.live(plan).kind, scene.live(plan).number) == ("statistics", number + 1)
        for name in ("site-a", "site-b"):
            scene.sites[name].refuse(scene.live(plan).ctx)
        scene.drain()
    view = scene.study(plan)
    assert (view.state, len(view.rounds)) == ("paused", 3)
    assert "statistics" in (view.reason or "")
    scene.operator("POST", f"/v1/studies/{plan.study}/start")
    assert (scene.live(plan).kind, scene.live(plan).state, scene.live(plan).number) == ("statistics", "OPEN", 4)


def test_a_worn_bundle_is_renewed_before_the_next_round_opens(running: Running) -> None:
    scene, plan = running
    with scene.coordinator.database.transaction("use them up") as tx:
        tx.run("UPDATE pairing SET uses = 120")
    upload(scene, plan, *SITES)
    finish(scene, plan, *SITES)
    assert len(scene.contexts(plan)) == 1
    assert "not paired yet" in (scene.study(plan).reason or "")
    scene.pair()
    assert (scene.live(plan).state, len(scene.contexts(plan))) == ("OPEN", 2)


def test_a_site_that_comes_back_after_a_withdrawal_is_paired_anew_with_everybody(running: Running) -> None:
    scene, plan = running
    scene.sites["site-d"].approve_study(plan, "withdraw")
    upload(scene, plan, "site-a", "site-b", "site-c")
    scene.pass_time(1)
    finish(scene, plan, "site-a", "site-b", "site-c")
    scene.sites["site-d"].approve_study(plan)
    with scene.coordinator.database.reading("look") as tx:
        assert len(tx.rows("SELECT 1 FROM pairing WHERE renew = 1 AND current = 1")) == 4


def test_a_newer_bundle_does_not_outdate_the_one_that_a_live_context_names(running: Running) -> None:
    scene, plan = running
    named = {one.site: one.pairing for one in scene.live(plan).ctx.P}
    site = scene.sites["site-a"]
    site.pair(plan.study, 2, list(SITES))
    (bundles,) = [one for one in scene.sites["site-b"].poll(cursor="").commands if one.kind == "bundles"]
    assert {one.site: one.pairing for one in bundles.bundles} == {s: h for s, h in named.items() if s != "site-b"}
