"""Partial exports, cosigned heads, disclosures: what an auditor with a part of the log can be sure of (B3, B5)."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from shared.audit import verify
from shared.audit.archive import Disclosure
from shared.audit.entries import Commitment
from shared.audit.log_checkpoint import LogCheckpoint, add_signature_lines, cosign, sign_checkpoint, witness_name
from shared.audit.merkle import leaf_hash, tree_root
from shared.audit.selection import Selection
from shared.canonical import JsonObject, canonical_bytes, sha256_hex
from shared.crypto.identity import SigningKey
from shared.crypto.signed_envelope import sign_envelope
from tests.support.audit_story import COORDINATOR_KEY, LOG_KEY, ORIGIN, STUDY, Story, site_key, tell

SITES = [f"site-{letter}" for letter in "abcd"]
SALT = bytes(range(16))
NOON = 1_795_255_200  # some time after the story's first entry, in Unix seconds


def report_on(data: bytes, folder: Path, **more: Any) -> verify.Report:
    path = folder / "export.zip"
    path.write_bytes(data)
    return verify.verify(path, **more)


def broken(report: verify.Report) -> tuple[str, str]:
    first = next(finding for finding in report.findings if finding.holds is False)
    return first.rule, first.sentence


def time_of(story: Story, index: int) -> str:
    return str(json.loads(story.leaves[index])["ts"])


def with_end(story: Story) -> Story:
    seq, leaf = story.ends[STUDY]
    story.add("study.heads", {"heads": {STUDY: {"seq": seq, "leaf": leaf}}})
    return story


def rewrite(data: bytes, name: str, lines: list[bytes]) -> bytes:
    """The archive with other lines in one member, and a MANIFEST that fits: a coordinator that leaves something out."""
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        members = {one: opened.read(one) for one in opened.namelist()}
    members[name] = b"".join(line + b"\n" for line in lines)
    signed = json.loads(members.pop("MANIFEST"))
    body = json.loads(verify.unbase64(signed["payload"]))
    body["members"] = [{"name": one, "sha256": sha256_hex(content)} for one, content in sorted(members.items())]
    members["MANIFEST"] = sign_envelope("export", body, "coordinator", COORDINATOR_KEY)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for one, content in members.items():
            archive.writestr(one, content)
    return target.getvalue()


def lines_of(data: bytes, member: str) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return opened.read(member).splitlines()


def entries_of(data: bytes) -> list[bytes]:
    return lines_of(data, "entries.ndjson")


# --- a study, a time --------------------------------------------------------------------------------------------------


def test_a_study_alone_is_complete(tmp_path: Path) -> None:
    story = tell()
    for _ in range(5):
        story.add("log.heartbeat", {})
    data = with_end(story).export_bytes(selection=Selection(study=STUDY))
    report = report_on(data, tmp_path)
    assert report.ok, report.lines()
    assert "of study demo no entry is missing" in "\n".join(report.lines())
    assert b"log.heartbeat" not in b"".join(entries_of(data))


@pytest.mark.parametrize("left_out", range(12, 30))
def test_any_entry_of_a_study_that_is_left_out_is_missed(left_out: int, tmp_path: Path) -> None:
    data = with_end(tell()).export_bytes(selection=Selection(study=STUDY))
    lines = entries_of(data)
    rule, sentence = broken(
        report_on(rewrite(data, "entries.ndjson", lines[:left_out] + lines[left_out + 1 :]), tmp_path)
    )
    assert rule in {"evidence", "contexts", "uploads", "certificates", "results", "studies"}, sentence


def test_a_study_without_its_end_is_not_complete(tmp_path: Path) -> None:
    rule, sentence = broken(report_on(tell().export_bytes(selection=Selection(study=STUDY)), tmp_path))
    assert (rule, "nothing shows which are the last" in sentence) == ("studies", True)
    data = with_end(tell()).export_bytes(selection=Selection(study=STUDY))
    lines = entries_of(data)
    assert broken(report_on(rewrite(data, "entries.ndjson", [*lines[:-2], lines[-1]]), tmp_path))[0] == "studies"


def test_a_withdrawal_before_the_chosen_time_cannot_be_left_out(tmp_path: Path) -> None:
    """Of a study with rounds everything before them is in a part too: approvals, withdrawals, what was sealed once."""
    story = tell(3)
    since = time_of(story, len(story.leaves) - 3)
    data = story.export_bytes(selection=Selection(None, since, None))
    report = report_on(data, tmp_path)
    assert report.ok, report.lines()
    lines = entries_of(data)
    places = [at for at, line in enumerate(lines) if json.loads(line)["type"].startswith("plan.")]
    assert places
    for place in places:
        named = {one["sha256"] for one in json.loads(lines[place])["evidence"]}
        messages = [line for line in lines_of(data, "dsse.ndjson") if sha256_hex(line) not in named]
        without = rewrite(data, "entries.ndjson", lines[:place] + lines[place + 1 :])
        rule, sentence = broken(report_on(rewrite(without, "dsse.ndjson", messages), tmp_path))
        assert rule in {"uploads", "studies"}, sentence


def test_a_study_cannot_end_at_an_earlier_statement_of_its_end(tmp_path: Path) -> None:
    story = with_end(tell(1))
    early = len(story.leaves)
    story.approve_plan(SITES[:1], "withdraw")
    data = with_end(story).export_bytes(selection=Selection(study=STUDY))
    kept = story.leaves[:early]
    named = {one["sha256"] for line in kept for one in json.loads(line)["evidence"]}
    messages = [line for line in lines_of(data, "dsse.ndjson") if sha256_hex(line) in named]
    without = rewrite(rewrite(data, "entries.ndjson", kept), "dsse.ndjson", messages)
    rule, sentence = broken(report_on(without, tmp_path))
    assert (rule, "after the study's end was stated" in sentence) == ("studies", True), sentence


def test_a_time_holds_everything_in_it(tmp_path: Path) -> None:
    story = tell(3)
    size = len(story.leaves)
    cases = [(None, size // 2), (size // 2, None), (size // 3, size // 2), (2, 3), (size - 1, None), (None, 0)]
    for first, last in cases:
        start, end = (None if at is None else time_of(story, at) for at in (first, last))
        for study in (None, STUDY):
            data = with_end(tell(3)).export_bytes(selection=Selection(study, start, end))
            report = report_on(data, tmp_path)
            assert report.ok, (first, last, study, report.lines())


def test_a_hole_in_a_time_is_missed(tmp_path: Path) -> None:
    story = tell(1)
    for _ in range(9):
        story.add("log.heartbeat", {})
    first = len(story.leaves) - 6
    selection = Selection(start=time_of(story, first), end=time_of(story, first + 2))
    data = story.export_bytes(selection=selection)
    assert report_on(data, tmp_path).ok
    lines = entries_of(data)
    for at in range(1, 6):
        changed = rewrite(data, "entries.ndjson", lines[:-at] + lines[len(lines) - at + 1 :])
        assert broken(report_on(changed, tmp_path))[0] == "studies"


def test_a_foreign_entry_does_not_stand_in_the_log(tmp_path: Path) -> None:
    data = with_end(tell()).export_bytes(selection=Selection(study=STUDY))
    other = tell(1)
    other.add("audit.viewed", {})
    changed = rewrite(data, "entries.ndjson", [*entries_of(data), other.leaves[-1]])
    assert broken(report_on(changed, tmp_path))[0] == "tree"


def test_a_chain_of_a_study_cannot_be_cut_in_the_whole_log(tmp_path: Path) -> None:
    """The entry is gone from the tree as well: every hash fits, only the chain of the study does not."""
    story = tell()
    del story.leaves[-3]
    rules = {finding.rule: finding.holds for finding in report_on(story.export_bytes(), tmp_path).findings}
    assert (rules["tree"], rules["studies"]) == (True, False)
    false_end = tell(1)
    false_end.add("study.heads", {"heads": {STUDY: {"seq": 3, "leaf": "11" * 32}}})
    assert broken(report_on(false_end.export_bytes(), tmp_path))[0] == "studies"


# --- cosigned heads ---------------------------------------------------------------------------------------------------


def head_of(leaves: list[bytes], sites: list[str], moment: int, key: SigningKey = LOG_KEY) -> str:
    head = LogCheckpoint(ORIGIN, len(leaves), tree_root(map(leaf_hash, leaves)))
    lines = [cosign(head, witness_name(ORIGIN, site), site_key(site, "log"), moment) for site in sites]
    return add_signature_lines(sign_checkpoint(head, key), lines)


def test_heads_of_different_sizes_make_a_beginning_final(tmp_path: Path) -> None:
    story = tell()
    heads = [head_of(story.leaves[:at], [site], 1_700_000_000) for at, site in ((30, "site-a"), (41, "site-b"))]
    data = story.export_bytes(["site-c"], heads=heads)
    report = report_on(data, tmp_path)
    assert report.ok, report.lines()
    assert "The first 30 entries are final; 2 cosigned heads before it agree" in "\n".join(report.lines())
    assert broken(report_on(data, tmp_path, final=True))[0] == "witnesses"
    assert report_on(story.export_bytes(SITES[:3]), tmp_path, final=True).ok


def test_a_rewritten_log_contradicts_what_a_hospital_cosigned(tmp_path: Path) -> None:
    story = tell(1)
    heads = [head_of(story.leaves, ["site-a"], 1_700_000_000)]
    told_again = Story()
    told_again.found(SITES)
    while len(told_again.leaves) < len(story.leaves) + 1:
        told_again.add("log.heartbeat", {})
    rule, sentence = broken(report_on(told_again.export_bytes(heads=heads), tmp_path))
    assert (rule, "it was rewritten" in sentence) == ("witnesses", True)
    forged = head_of(story.leaves, [], 0, site_key("site-a"))
    assert broken(report_on(story.export_bytes(heads=[forged]), tmp_path))[0] == "witnesses"


@pytest.mark.parametrize(("sites", "caught"), [(SITES[:1], False), (SITES[:2], True)])
def test_an_entry_dated_back_is_caught_by_more_than_c_hospitals(sites: list[str], caught: bool, tmp_path: Path) -> None:
    story = tell(1)
    report = report_on(story.export_bytes(heads=[head_of(story.leaves[:20], sites, NOON)]), tmp_path)
    assert report.ok != caught
    assert not caught or broken(report)[0] == "clock"


# --- disclosures ------------------------------------------------------------------------------------------------------


def told_with_disclosures(order: JsonObject | None = None, signer: str = "coordinator") -> Story:
    story = tell(1)
    reason = Commitment("reason_text", "Dr Who asked", SALT)
    facts = {"site": "site-d", "reason": "administrator"}
    story.add("cert.revoked", facts, commitments=[reason, Commitment("by", {"name": "Zoë"}, SALT)])
    if order is not None:
        body = {"leaf": leaf_hash(story.leaves[-1]).hex(), "field": "reason_text", "basis": "gdpr-17"}
        key = COORDINATOR_KEY if signer == "coordinator" else site_key(signer)
        signed = sign_envelope("erasure", {**body, **order}, signer, key)
        story.envelopes[sha256_hex(signed)] = signed
        story.add("disclosure.erased", body, evidence=[sha256_hex(signed)])
    return story


def shown(story: Story, *names: str, value: object = "Dr Who asked") -> list[Disclosure]:
    index = next(at for at, leaf in enumerate(story.leaves) if json.loads(leaf)["sd"])
    values = {"reason_text": value, "by": {"name": "Zoë"}}
    return [Disclosure(index, name, values[name], SALT) for name in names]


def test_disclosures_fit_or_are_said_to_be_left_out(tmp_path: Path) -> None:
    story = told_with_disclosures()
    assert report_on(story.export_bytes(disclosures=shown(story, "by", "reason_text")), tmp_path).ok
    report = report_on(story.export_bytes(disclosures=None), tmp_path)
    assert report.ok
    assert "this export leaves disclosures out" in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("names", "value", "flaw"),
    [
        (("by",), "", "is missing"),
        (("by", "reason_text"), "Dr Who did not ask", "does not commit to what is disclosed"),
    ],
)
def test_disclosures_missing_or_changed(names: tuple[str, ...], value: str, flaw: str, tmp_path: Path) -> None:
    story = told_with_disclosures()
    rule, sentence = broken(report_on(story.export_bytes(disclosures=shown(story, *names, value=value)), tmp_path))
    assert (rule, flaw in sentence) == ("disclosures", True)


@pytest.mark.parametrize("signer", ["coordinator", "site-d"])
def test_an_erasure_keeps_every_proof(signer: str, tmp_path: Path) -> None:
    story = told_with_disclosures({}, signer)
    data = story.export_bytes(disclosures=shown(story, "by"))
    report = report_on(data, tmp_path)
    assert report.ok, report.lines()
    assert "1 were erased by signed orders" in "\n".join(report.lines())
    still_there = story.export_bytes(disclosures=shown(story, "by", "reason_text"))
    assert broken(report_on(still_there, tmp_path))[0] == "disclosures"


def test_an_erasure_needs_an_order_about_it_by_somebody_it_concerns(tmp_path: Path) -> None:
    for order, signer in (({"field": "by"}, "coordinator"), ({}, "site-a"), ({"basis": "whim"}, "coordinator")):
        story = told_with_disclosures(order, signer)
        rule, _ = broken(report_on(story.export_bytes(disclosures=shown(story, "by")), tmp_path))
        assert rule in {"evidence", "disclosures"}
    story = told_with_disclosures()
    story.add("disclosure.erased", {"leaf": "11" * 32, "field": "x", "basis": "y"}, evidence=[order_for_nothing(story)])
    data = story.export_bytes(disclosures=shown(story, "by", "reason_text"))
    assert broken(report_on(data, tmp_path))[0] == "disclosures"


def order_for_nothing(story: Story) -> str:
    signed = sign_envelope("erasure", {"leaf": "11" * 32, "field": "x", "basis": "y"}, "coordinator", COORDINATOR_KEY)
    story.envelopes[sha256_hex(signed)] = signed
    return sha256_hex(signed)


def test_a_disclosure_of_nothing_is_refused(tmp_path: Path) -> None:
    story = told_with_disclosures()
    data = story.export_bytes(disclosures=shown(story, "by", "reason_text"))
    spare = canonical_bytes({"leaf": "11" * 32, "field": "by", "salt": "A" * 22, "value": 1})
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        lines = opened.read("disclosures.ndjson").splitlines()
    rule, sentence = broken(report_on(rewrite(data, "disclosures.ndjson", [*lines, spare]), tmp_path))
    assert (rule, "fits no entry" in sentence) == ("disclosures", True)
