"""Rules of the offline verifier that only one thing breaks."""

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.audit import verify
from shared.audit.entries import Actor, build_entry
from shared.audit.log_checkpoint import LogCheckpoint, sign_checkpoint
from shared.audit.merkle import MemoryTree, leaf_hash
from shared.audit.proofs import build_inclusion, verify_inclusion_bundle
from shared.canonical import JsonObject, canonical_bytes
from shared.errors import PeerFault
from shared.secagg import certificate
from tests.support.audit_story import LOG_KEY, ORIGIN, Story, hash_of, tell
from tests.unit.shared.audit.test_verify import SITES, broken_rule, last, rewritten

GENESIS: JsonObject = json.loads(canonical_bytes(tell(1).rosters[0][0]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.update(c=0), "impossible c"),
        (lambda one: one.update(c=3), "impossible c"),
        (lambda one: one["sites"][1].update(idk=one["sites"][0]["idk"]), "twice"),
        (lambda one: one["coordinator"].update(idk=one["sites"][0]["idk"]), "twice"),
        (lambda one: one["sites"][0].update(kem_seq=2), "did not attest"),
    ],
)
def test_rosters_that_cannot_be(change: Callable[[JsonObject], object], said: str) -> None:
    found = copy.deepcopy(GENESIS)
    verify._check_roster(found, 1, None)
    change(found)
    with pytest.raises(verify.Broken, match=said):
        verify._check_roster(found, 1, None)


def test_a_key_that_the_rounds_roster_does_not_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        export = verify.Export(
            archive, keys={"r": {"site-a": b"new"}}, rounds={"cc" * 32: verify.Round({"roster": "r"})}
        )
    entry = verify.Entry(
        0, _leaf("round.upload", {"ctx_hash": "cc" * 32, "site": "site-a", "manifest_hash": "00" * 32})
    )
    entry.signed = [verify.Signed("manifest", "site-a", b"new", {}, "")]
    assert verify._round(export, entry) is export.rounds["cc" * 32]
    entry.signed = [verify.Signed("manifest", "site-a", b"old", {}, "")]
    with pytest.raises(verify.Broken, match="under another key"):
        verify._round(export, entry)


def _leaf(type_: str, data: JsonObject) -> bytes:
    return build_entry(
        log=ORIGIN, entry_id="00000000-0000-7000-8000-000000000000", ts="2026-11-21T09:00:00.000Z",
        type_=type_, actor=Actor("coordinator", "coordinator", "local"), data=data, evidence=["ee" * 32],
    )  # fmt: skip


MORE_REWRITINGS: dict[str, tuple[Callable[[list[JsonObject]], object], str]] = {
    "another version": (lambda es: es[-1].update(v=2), "entries"),
    "a truth value for a version": (lambda es: es[-1].update(v=True), "entries"),
    "an id that is none": (lambda es: es[-1].update(id="x"), "entries"),
    "a time that is none": (lambda es: es[-1].update(ts=es[-1]["ts"].replace("Z", "z")), "entries"),
    "an outcome that is none": (lambda es: es[-1].update(outcome="great"), "entries"),
    "an entry that is too large": (lambda es: es[-1]["data"].update(more="x" * 17_000), "entries"),
    "the outcome of another context": (
        lambda es: last(es, "round.result")["data"]["outcome"].update(ctx_hash="11" * 32), "results",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MORE_REWRITINGS)
def test_a_rewritten_story_is_caught(name: str, tmp_path: Path) -> None:
    change, expected = MORE_REWRITINGS[name]
    rule, sentence = broken_rule(rewritten(change), tmp_path)
    assert rule == expected, sentence


def test_a_sum_needs_c_plus_two_survivors_where_more_sites_may_be_corrupt(tmp_path: Path) -> None:
    story = Story()
    seven = [f"site-{letter}" for letter in "abcdefg"]
    story.found(seven)
    assert story.rosters[0][0]["c"] == 2
    story.open_round(1, seven[:4], m=3)
    rule, sentence = broken_rule(story.export_bytes(), tmp_path)
    assert (rule, "too few honest sites" in sentence) == ("contexts", True)


def _certificate(change: Callable[[JsonObject, list[str]], object]) -> None:
    ctx = tell(1).open_round(2, SITES)
    everybody = [*SITES, "site-z"]
    manifests = {site: f"{number:064x}" for number, site in enumerate(everybody)}
    stmt: JsonObject = {"v": "SA1", "kind": "close", "ctx": hash_of(ctx), "U": SITES[:3], "uploads": ""}
    signers = list(SITES[:3])
    change(stmt, signers)
    named = [{"site": site, "manifest": manifests[site]} for site in stmt["U"]]
    stmt["uploads"] = verify.tagged_hash("SA1 uploads", canonical_bytes(named)).hex()
    data = {"ctx_hash": hash_of(ctx), "stmt_hash": certificate.statement_hash(stmt)}
    entry = verify.Entry(0, _leaf("round.cert", data))
    entry.signed = [verify.Signed("decision", site, b"", {"stmt": stmt}, "") for site in signers]
    verify._check_certificate(verify.Round(ctx, uploads=manifests), entry)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda stmt, _: stmt.update(kind="open"), "about something else"),
        (lambda stmt, _: stmt.update(v="SA2"), "about something else"),
        (lambda stmt, _: stmt.update(ctx="11" * 32), "about something else"),
        (lambda stmt, _: stmt.update(more=1), "about something else"),
        (lambda stmt, _: stmt.update(U=["site-a", "site-a", "site-b"]), "not distinct invited"),
        (lambda stmt, _: stmt.update(U=["site-a", "site-b", "site-z"]), "not distinct invited"),
        (lambda _, signers: signers.append("site-z"), "by distinct invited sites"),
    ],
)
def test_certificates_one_wrong_thing_at_a_time(change: Callable[[JsonObject, list[str]], object], said: str) -> None:
    _certificate(lambda *_: None)
    with pytest.raises(verify.Broken, match=said):
        _certificate(change)


def test_an_entry_of_another_log_in_this_logs_tree_is_refused() -> None:
    leaf = build_entry(
        log="beta/log/1", entry_id="00000000-0000-7000-8000-000000000000", ts="2026-11-21T09:00:00.000Z",
        type_="log.heartbeat", actor=Actor("coordinator", "coordinator", "local"), data={},
    )  # fmt: skip
    tree = MemoryTree([leaf_hash(leaf)])
    note = sign_checkpoint(LogCheckpoint(ORIGIN, 1, tree.root()), LOG_KEY)
    from shared.audit.log_checkpoint import ED25519, LogVkey

    vkey = LogVkey(ORIGIN, ED25519, LOG_KEY.verify_key)
    with pytest.raises(PeerFault, match="inclusion_invalid"):
        verify_inclusion_bundle(build_inclusion(leaf, 0, note, tree.node), vkey, ORIGIN)
