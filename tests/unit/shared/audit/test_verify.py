"""The offline verifier: the honest story, a coordinator that rewrites it, and hostile archives (PROTOCOLS B5)."""

import ast
import base64
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.audit import archive, verify
from shared.audit.entries import Actor
from shared.audit.merkle import MemoryTree, leaf_hash
from shared.canonical import JsonObject, canonical_bytes, sha256_hex
from shared.crypto.signed_envelope import sign_envelope
from shared.errors import Misuse
from shared.secagg import certificate, roster
from tests.support import audit_story
from tests.support.audit_story import COORDINATOR_KEY, STUDY, ZERO, Story, hash_of, site_key, tell

SITES = [f"site-{letter}" for letter in "abcd"]
HONEST = tell().export_bytes(SITES[:3])


def report_on(data: bytes, folder: Path, roster_hash: str | None = None) -> verify.Report:
    path = folder / "export.zip"
    path.write_bytes(data)
    return verify.verify(path, roster_hash)


def broken_rule(data: bytes, folder: Path, roster_hash: str | None = None) -> tuple[str, str]:
    report = report_on(data, folder, roster_hash)
    assert not report.ok
    first = next(finding for finding in report.findings if finding.holds is False)
    return first.rule, first.sentence


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in members:
            opened.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def resigned(members: dict[str, bytes]) -> bytes:
    """The archive as the coordinator would sign it: a MANIFEST that fits whatever is in it."""
    listed = [
        {"name": name, "sha256": sha256_hex(data)} for name, data in sorted(members.items()) if name != "MANIFEST"
    ]
    head = json.loads(base64.b64decode(json.loads(members["MANIFEST"])["payload"]))
    manifest = sign_envelope("export", {**head, "members": listed}, "coordinator", COORDINATOR_KEY)
    return zipped([*((name, data) for name, data in members.items() if name != "MANIFEST"), ("MANIFEST", manifest)])


# --- the honest story -------------------------------------------------------------------------------------------------


def test_the_honest_story_is_verified(tmp_path: Path) -> None:
    report = report_on(HONEST, tmp_path)
    assert report.ok, report.lines()
    assert [finding.rule for finding in report.findings] == [*verify.BEFORE, *verify.FOUNDATION, *verify.RULES]
    assert report.lines()[-1] == "The export is verified."
    text = "\n".join(report.lines())
    assert "NO ROSTER HASH WAS GIVEN" in text
    assert "2 sums were published" in text
    assert "3 of 4 sites cosigned this head: it is final" in text


def test_a_head_without_quorum_is_not_called_final(tmp_path: Path) -> None:
    report = report_on(tell(1).export_bytes(SITES[:2]), tmp_path)
    assert report.ok
    assert "2 of 4 sites cosigned this head: it is not final, which takes 3" in "\n".join(report.lines())


def test_the_trust_root_is_checked(tmp_path: Path) -> None:
    story = tell(1)
    given = roster.roster_hash(story.rosters[0][0])
    report = report_on(HONEST, tmp_path, given)
    assert report.ok
    assert "version 1 has the hash you gave" in report.findings[1].sentence
    assert broken_rule(HONEST, tmp_path, "11" * 32)[0] == "rosters"


def test_an_invented_federation_is_consistent_but_not_the_one_you_know(tmp_path: Path) -> None:
    """A coordinator that makes up every hospital passes every rule but the one that rests on your roster hash."""
    given = roster.roster_hash(tell(1).rosters[0][0])
    invented = Story()
    invented.found(["site-x", "site-y", "site-z"])
    assert report_on(invented.export_bytes(), tmp_path).ok
    assert broken_rule(invented.export_bytes(), tmp_path, given)[0] == "rosters"


def test_rosters_change_and_every_version_is_a_trust_root(tmp_path: Path) -> None:
    story = tell(1)
    second = story.found([*SITES, "site-e"])
    story.approve_plan(["site-e"])
    story.play_round(2, [*SITES, "site-e"])
    third = story.found(["site-b", "site-c", "site-d", "site-e"])
    story.play_round(3, ["site-b", "site-c", "site-d", "site-e"])
    for known in (story.rosters[0][0], second, third):
        assert report_on(story.export_bytes(), tmp_path, roster.roster_hash(known)).ok


def test_ended_rounds_and_an_empty_log_are_verified(tmp_path: Path) -> None:
    story = tell(1)
    lost = story.open_round(2, SITES)
    story.upload(lost, "site-a")
    story.add("round.abort", {"ctx_hash": hash_of(lost), "code": "too_few_uploads"}, study=STUDY)
    story.play_round(3, SITES)
    assert report_on(story.export_bytes(), tmp_path).ok
    empty = Story(rosters=story.rosters)
    assert report_on(empty.export_bytes(), tmp_path).ok


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tell(1).export(tmp_path / "export.zip")
    assert verify.main([str(path)]) == 0
    assert "The export is verified." in capsys.readouterr().out
    assert verify.main([str(path), "--roster-hash", "11" * 32]) == 1
    assert "The export is NOT verified." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        verify.main([str(path), "--roster-hash", "short"])


def test_it_stands_alone(tmp_path: Path) -> None:
    """The copy in the archive runs in an empty folder, without Mitral, on the standard library and one package."""
    source = members_of(HONEST)["verify.py"]
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    roots = {name.split(".")[0] for name in imported}
    assert roots - set(sys.stdlib_module_names) == {"cryptography"}
    (tmp_path / "verify.py").write_bytes(source)
    (tmp_path / "export.zip").write_bytes(HONEST)
    done = subprocess.run(
        [sys.executable, "-I", "verify.py", "export.zip"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("The export is verified.\n")


def test_without_cryptography_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "verify.py").write_bytes(members_of(HONEST)["verify.py"])
    (tmp_path / "cryptography.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "verify.py", "export.zip"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "This verifier needs the Python package `cryptography`: pip install cryptography\n"


def test_many_messages_are_verified_on_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MANY", 1)
    assert report_on(HONEST, tmp_path).ok
    assert broken_rule(rewritten(REWRITINGS["another manifest"][0]), tmp_path)[0] == "evidence"
    story = Story()
    story.found(SITES)
    forged = story.sign("approval", "site-a", {"v": "SA1", "kind": "study", "study": STUDY}, COORDINATOR_KEY)
    facts = {"site": "site-a", "plan": audit_story.PLAN}
    story.add("plan.approved", facts, study=STUDY, evidence=[sha256_hex(forged)])
    assert broken_rule(story.export_bytes(), tmp_path)[0] == "evidence"


# --- a changed archive ------------------------------------------------------------------------------------------------


def test_every_member_is_covered_byte_by_byte(tmp_path: Path) -> None:
    members = members_of(HONEST)
    for name, data in members.items():
        for position in {0, len(data) // 3, len(data) - 1} if data else ():
            changed = bytearray(data)
            changed[position] ^= 1
            rewritten = zipped([(one, bytes(changed) if one == name else other) for one, other in members.items()])
            rule, _ = broken_rule(rewritten, tmp_path)
            assert rule in {"rosters", "manifest"}, name


def test_members_cannot_be_removed_added_or_renamed(tmp_path: Path) -> None:
    members = members_of(HONEST)
    for name in members:
        without = [(one, data) for one, data in members.items() if one != name]
        broken_rule(zipped(without), tmp_path)
        renamed = [(one if one != name else "derived/other", data) for one, data in members.items()]
        broken_rule(zipped(renamed), tmp_path)
    for name in ("note.txt", "derived/extra.json", "tile/0/001", "tile/x", "rosters/2.json"):
        broken_rule(zipped([*members.items(), (name, b"{}")]), tmp_path)


def test_manifest_signed_by_somebody_else_or_as_something_else(tmp_path: Path) -> None:
    members = members_of(HONEST)
    envelope = json.loads(members["MANIFEST"])
    payload = json.loads(base64.b64decode(envelope["payload"]))
    forgeries = [
        sign_envelope("export", payload, "coordinator", site_key("site-a")),
        sign_envelope("export", payload, "site-a", site_key("site-a")),
        sign_envelope("receipt", payload, "coordinator", COORDINATOR_KEY),
        sign_envelope("export", {**payload, "members": payload["members"] * 2}, "coordinator", COORDINATOR_KEY),
    ]
    for forged in forgeries:
        assert broken_rule(zipped(list({**members, "MANIFEST": forged}.items())), tmp_path)[0] == "manifest"


# --- a coordinator that rewrites the story ----------------------------------------------------------------------------


def rewritten(change: Callable[[list[JsonObject]], object], rounds: int = 2) -> bytes:
    """The story with its entries changed and everything signed again with the coordinator's keys."""
    story = tell(rounds)
    entries = [json.loads(leaf) for leaf in story.leaves]
    change(entries)
    story.leaves = [canonical_bytes(entry) for entry in entries]
    return story.export_bytes()


def first(entries: list[JsonObject], type_: str) -> JsonObject:
    return next(entry for entry in entries if entry["type"] == type_)


def remove(entries: list[JsonObject], type_: str) -> None:
    entries.remove(first(entries, type_))


def move_before(entries: list[JsonObject], type_: str, other: str) -> None:
    moved = first(entries, type_)
    entries.remove(moved)
    at = entries.index(first(entries, other))
    moved["ts"] = entries[at]["ts"]
    entries.insert(at, moved)


REWRITINGS: dict[str, tuple[Callable[[list[JsonObject]], object], str]] = {
    "an id used twice": (lambda es: es[5].update(id=es[4]["id"]), "entries"),
    "time goes back": (lambda es: es[5].update(ts=es[3]["ts"]), "entries"),
    "entry of another log": (lambda es: es[5].update(log="beta/log/1"), "entries"),
    "entry without evidence": (lambda es: first(es, "round.upload").update(evidence=[]), "entries"),
    "unknown action": (lambda es: es[5].update(action="Z"), "entries"),
    "extra key": (lambda es: es[5].update(extra=1), "entries"),
    "no actor": (lambda es: es[5].update(actor=None), "entries"),
    "commitments unsorted": (
        lambda es: es[5].update(sd=[{"field": "b", "h": "A" * 43}, {"field": "a", "h": "A" * 43}]),
        "entries",
    ),
    "upload blamed on another site": (lambda es: first(es, "round.upload")["data"].update(site="site-b"), "evidence"),
    "upload in another context": (lambda es: first(es, "round.upload")["data"].update(ctx_hash="11" * 32), "evidence"),
    "another manifest": (lambda es: first(es, "round.upload")["data"].update(manifest_hash="11" * 32), "evidence"),
    "approval of another plan": (lambda es: first(es, "plan.approved")["data"].update(plan="11" * 32), "evidence"),
    "approval in another study": (lambda es: first(es, "plan.approved").update(study="other"), "evidence"),
    "withdrawal shown as approval": (lambda es: first(es, "plan.approved").update(type="plan.withdrawn"), "evidence"),
    "evidence of another kind": (
        lambda es: first(es, "round.upload").update(evidence=first(es, "plan.approved")["evidence"]),
        "evidence",
    ),
    "round opened twice": (lambda es: es.append({**first(es, "round.open"), **later(es)}), "contexts"),
    "context about another model": (lambda es: first(es, "round.open")["data"].update(model="11" * 32), "contexts"),
    "round under no active roster": (lambda es: remove(es, "roster.activated"), "contexts"),
    "roster that is not in the archive": (
        lambda es: first(es, "roster.activated")["data"].update(roster="11" * 32),
        "contexts",
    ),
    "training without approval": (lambda es: remove(es, "plan.approved"), "uploads"),
    "upload before the round": (lambda es: move_before(es, "round.upload", "round.open"), "uploads"),
    "upload after the close": (lambda es: move_before(es, "round.close.proposed", "round.upload"), "uploads"),
    "approval after the upload": (lambda es: move_before(es, "round.upload", "plan.approved"), "uploads"),
    "upload twice": (lambda es: es.append({**first(es, "round.upload"), **later(es)}), "uploads"),
    "closed twice": (lambda es: es.append({**first(es, "round.close.proposed"), **later(es)}), "certificates"),
    "certified twice": (lambda es: es.append({**first(es, "round.cert"), **later(es)}), "certificates"),
    "certificate before its proposal": (
        lambda es: move_before(es, "round.cert", "round.close.proposed"),
        "certificates",
    ),
    "certificate of another statement": (
        lambda es: [
            first(es, "round.close.proposed")["data"].update(stmt_hash="11" * 32),
            first(es, "round.cert")["data"].update(stmt_hash="11" * 32),
        ],
        "certificates",
    ),
    "certificate too short": (lambda es: first(es, "round.cert")["evidence"].pop(), "certificates"),
    "certificate counts one site twice": (
        lambda es: first(es, "round.cert").update(evidence=[first(es, "round.cert")["evidence"][0]] * 3),
        "certificates",
    ),
    "result without certificate": (lambda es: remove(es, "round.cert"), "results"),
    "result before its certificate": (lambda es: move_before(es, "round.result", "round.cert"), "results"),
    "shares before the certificate": (lambda es: move_before(es, "round.unmask", "round.cert"), "results"),
    "shares of a stranger": (lambda es: first(es, "round.unmask")["data"].update(site="site-z"), "results"),
    "two results": (lambda es: es.append({**first(es, "round.result"), **later(es)}), "results"),
    "lost after the result": (
        lambda es: es.append({**first(es, "round.result"), "type": "round.lost", **later(es)}),
        "results",
    ),
    "outcome over other survivors": (
        lambda es: last(es, "round.result")["data"]["outcome"].update(U=["site-a", "site-b", "site-d"]),
        "results",
    ),
}


def last(entries: list[JsonObject], type_: str) -> JsonObject:
    return next(entry for entry in reversed(entries) if entry["type"] == type_)


def later(entries: list[JsonObject]) -> JsonObject:
    return {"id": f"00000000-0000-7000-8000-{len(entries):012x}", "ts": entries[-1]["ts"]}


@pytest.mark.parametrize("name", REWRITINGS)
def test_a_rewritten_story_is_caught(name: str, tmp_path: Path) -> None:
    change, expected = REWRITINGS[name]
    rule, sentence = broken_rule(rewritten(change), tmp_path)
    assert rule == expected, sentence


def test_the_first_failing_entry_is_named(tmp_path: Path) -> None:
    _, sentence = broken_rule(rewritten(REWRITINGS["another manifest"][0]), tmp_path)
    place = next(at for at, leaf in enumerate(tell().leaves) if json.loads(leaf)["type"] == "round.upload")
    assert sentence.startswith(f"entry {place} (round.upload): ")


class _Everything:
    """Passes on whatever there is, named or not."""

    def __init__(self, _: object) -> None:
        self.envelopes = iter
        self.contexts = partial(map, canonical_bytes)
        self.disclosures = iter


def _with_evidence(evidence: object, entries: list[JsonObject]) -> None:
    first(entries, "round.open")["evidence"] = evidence


def test_malformed_evidence_is_named_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_Named", _Everything)  # a writer that looks at nothing
    wrong: list[object] = [None, [None], [{}], [{"type": "dsse", "sha256": 7}], 7]
    for evidence in wrong:
        data = rewritten(partial(_with_evidence, evidence))
        rule, sentence = broken_rule(data, tmp_path)
        assert (rule, sentence.startswith("entry ")) == ("entries", True)


@pytest.mark.parametrize("cut", [{"subject": 7}, {"data": {"ctx_hash": None}}, {"sd": None}])
def test_malformed_entries_are_named_without_a_traceback(cut: dict[str, Any], tmp_path: Path) -> None:
    data = rewritten(lambda entries: first(entries, "round.close.proposed").update(cut))
    report = report_on(data, tmp_path)
    assert next(finding.rule for finding in report.findings if finding.holds is False) in {"entries", "certificates"}


def test_entries_removed_after_the_signature(tmp_path: Path) -> None:
    """Entries cut out of the tiles while the signed root stays: MANIFEST fits, the tree does not."""
    members = members_of(HONEST)
    story = tell()
    for leaves in (
        story.leaves[:-1],
        [*story.leaves[:-1], b"{}"],
        [story.leaves[1], story.leaves[0], *story.leaves[2:]],
    ):
        changed = {**members, "entries.ndjson": b"".join(leaf + b"\n" for leaf in leaves)}
        assert broken_rule(resigned(changed), tmp_path)[0] == "tree"
        changed[f"tile/0/000.p/{len(story.leaves)}"] = b"".join(map(leaf_hash, leaves))
        assert broken_rule(resigned(changed), tmp_path)[0] == "tree"


def test_evidence_swapped_missing_or_unnamed(tmp_path: Path) -> None:
    members = members_of(HONEST)
    one, two, *others = members["dsse.ndjson"].splitlines(keepends=True)
    spare = sign_envelope("approval", {"site": "site-a"}, "site-a", site_key("site-a")) + b"\n"
    for lines in ([two, two, *others], [two, *others], [one, two, *others, spare]):
        assert broken_rule(resigned({**members, "dsse.ndjson": b"".join(lines)}), tmp_path)[0] == "evidence"


def test_the_coordinator_cannot_sign_for_a_site(tmp_path: Path) -> None:
    story = Story()
    story.found(SITES)
    forged = story.sign("approval", "site-a", {"v": "SA1", "kind": "study", "study": STUDY}, COORDINATOR_KEY)
    facts = {"site": "site-a", "plan": audit_story.PLAN}
    story.add("plan.approved", facts, study=STUDY, evidence=[sha256_hex(forged)])
    rule, sentence = broken_rule(story.export_bytes(), tmp_path)
    assert rule == "evidence"
    assert "is not signed by site-a" in sentence


def test_a_removed_site_cannot_be_used_under_a_key_it_never_had(tmp_path: Path) -> None:
    """A message under a later roster's key does not bear out an entry from before that roster was active."""
    story = tell(1)
    act = {"v": "SA1", "kind": "study", "study": STUDY, "plan": audit_story.PLAN, "decision": "approve"}
    story.act("plan.approved", "site-e", "approval", act, {"plan": audit_story.PLAN}, study=STUDY)
    story.found([*SITES, "site-e"])
    assert broken_rule(story.export_bytes(), tmp_path)[0] == "evidence"


def test_released_shares_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = tell(1)
    shares = story.sign("unmask", "site-a", {"ctx_hash": "11" * 32})
    with pytest.raises(Misuse, match="archive_malformed"):
        story.export_bytes()
    actor = Actor("site", "site-a", "mtls:x")
    facts = {"ctx_hash": "11" * 32, "stmt_hash": "11" * 32, "site": "site-a", "response": "11" * 32}
    story.add("round.unmask", facts, actor=actor, evidence=[sha256_hex(shares)])
    monkeypatch.setattr(archive, "payload_type", lambda kind: f"not {kind}")  # a writer that lets them through
    rule, sentence = broken_rule(story.export_bytes(), tmp_path)
    assert (rule, "released shares" in sentence) == ("evidence", True)


@pytest.mark.parametrize(
    "changes",
    [
        {"t": 2},
        {"t": 4},
        {"m": 2},
        {"m": 5},
        {"c": 0, "t": 3},
        {"roster": "11" * 32},
        {"prev": "11" * 32},
        {"round": 1},
        {"study": "other"},
        {"P": [{"site": site, "pairing": "a1" * 32} for site in ["site-a", "site-a", "site-b", "site-c"]]},
        {"P": [{"site": site, "pairing": "a1" * 32} for site in ["site-b", "site-a", "site-c", "site-d"]]},
        {"P": [{"site": site, "pairing": "a1" * 32} for site in ["site-a", "site-b", "site-c", "site-z"]]},
    ],
)
def test_contexts_that_do_not_protect_the_sites(changes: dict[str, Any], tmp_path: Path) -> None:
    story = tell(1)
    story.open_round(2, SITES, **changes)
    assert broken_rule(story.export_bytes(), tmp_path)[0] == "contexts"


@pytest.mark.parametrize("withdrawn", [False, True])
def test_training_without_a_stewards_approval(withdrawn: bool, tmp_path: Path) -> None:
    story = Story()
    story.found(SITES)
    story.approve_plan(SITES if withdrawn else SITES[1:])
    if withdrawn:
        story.approve_plan(["site-a"], "withdraw")
    story.play_round(1, SITES)
    rule, sentence = broken_rule(story.export_bytes(), tmp_path)
    assert rule == "uploads"
    assert "site-a had not approved this study protocol" in sentence


def test_an_upload_by_a_site_that_was_not_invited(tmp_path: Path) -> None:
    story = tell(1)
    story.upload(story.open_round(2, SITES[:3]), "site-d")
    assert broken_rule(story.export_bytes(), tmp_path)[0] == "uploads"


def test_contexts_missing_or_never_opened(tmp_path: Path) -> None:
    members = members_of(HONEST)
    one, *others = members["contexts.ndjson"].splitlines(keepends=True)
    other = canonical_bytes({**json.loads(one), "round": 9}) + b"\n"
    for lines in (others, [other, *others], [one, *others, other]):
        assert broken_rule(resigned({**members, "contexts.ndjson": b"".join(lines)}), tmp_path)[0] == "contexts"


def test_two_survivor_sets_signed_by_one_site_are_named(tmp_path: Path) -> None:
    story = tell(1)
    ctx = story.open_round(2, SITES)
    uploads = {site: story.upload(ctx, site) for site in SITES}
    stmt = story.propose(ctx, uploads)
    story.decide(certificate.statement(stmt["ctx"], SITES[:3], stmt["uploads"]), ["site-a"])
    story.certify(stmt, story.decide(stmt, SITES[:3]))
    rule, sentence = broken_rule(story.export_bytes(), tmp_path)
    assert rule == "certificates"
    assert sentence.endswith("(round.decided): site-a signed two survivor sets of one context")


@pytest.mark.parametrize(
    ("survivors", "manifests"),
    [
        (["site-a", "site-b"], {}),  # fewer than m
        (["site-a", "site-b", "site-z"], {"site-z": "11" * 32}),  # not invited
        (SITES[:3], {"site-a": "11" * 32}),  # another upload than the logged one
    ],
)
def test_certified_statements_that_no_honest_site_signs(
    survivors: list[str], manifests: dict[str, str], tmp_path: Path
) -> None:
    story = tell(1)
    ctx = story.open_round(2, SITES)
    uploads = {site: story.upload(ctx, site) for site in SITES}
    stmt = story.propose(ctx, {site: {**uploads, **manifests}[site] for site in survivors})
    story.certify(stmt, story.decide(stmt, SITES[:3]))
    assert broken_rule(story.export_bytes(), tmp_path)[0] == "certificates"


def test_rosters_that_sites_did_not_agree_to(tmp_path: Path) -> None:
    story = tell(1)
    genesis, approvals = story.rosters[0]
    shrunk = audit_story.build_roster(SITES[:3], 2, genesis)
    own = [roster.sign_approval(shrunk, site, 99, ZERO, site_key(site)) for site in SITES[:3]]
    cases: list[tuple[list[tuple[JsonObject, list[bytes]]], str]] = [
        ([(genesis, approvals[:-1])], "not signed by site-d"),
        ([(genesis, approvals), (shrunk, own[:-1])], "not signed by site-c"),
        ([(genesis, approvals), (shrunk, approvals[:3])], "approved something else"),
        ([(shrunk, own)], "does not follow"),
        ([(genesis, approvals), (audit_story.build_roster(SITES, 2, shrunk), own)], "does not follow"),
    ]
    for rosters, expected in cases:
        rule, sentence = broken_rule(Story(rosters=rosters).export_bytes(), tmp_path)
        assert rule == "rosters"
        assert expected in sentence
    assert report_on(Story(rosters=[(genesis, approvals), (shrunk, own)]).export_bytes(), tmp_path).ok
    two = audit_story.build_roster(["site-a", "site-x", "site-y"], 2, genesis)
    two_own = [roster.sign_approval(two, site, 99, ZERO, site_key(site)) for site in ("site-a", "site-x", "site-y")]
    rule, sentence = broken_rule(Story(rosters=[(genesis, approvals), (two, two_own)]).export_bytes(), tmp_path)
    assert (rule, "1 members of the version before agreed, 3 are needed" in sentence) == ("rosters", True)


def test_checkpoints_of_other_logs_and_keys(tmp_path: Path) -> None:
    members = members_of(HONEST)
    note = members["checkpoint"].decode()
    head, lines = note.split("\n\n")
    origin, size, root = head.split("\n")
    mutants = [
        note.replace(origin, "beta/log/1"),
        f"{origin}\n{int(size) - 1}\n{root}\n\n{lines}",
        f"{origin}\n{size}\n{root}\n\n" + lines.split("\n", 1)[1],
        f"{origin}\n{size}\n{root}\n{lines}",
        note + "- not a line\n",
        "",
    ]
    for mutant in mutants:
        assert broken_rule(resigned({**members, "checkpoint": mutant.encode()}), tmp_path)[0] == "checkpoint"
    assert broken_rule(resigned({**members, "policy": b"log other\n"}), tmp_path)[0] == "checkpoint"
    assert broken_rule(resigned({**members, "checkpoint": b"\xff"}), tmp_path)[0] == "checkpoint"


def test_a_forged_cosignature_is_a_failure(tmp_path: Path) -> None:
    members = members_of(HONEST)
    body, tail = members["checkpoint"].decode().split("\n\n")
    forged = tail.splitlines()
    raw = bytearray(base64.b64decode(forged[1].split(" ")[2]))
    raw[11] ^= 1
    forged[1] = " ".join([*forged[1].split(" ")[:2], base64.b64encode(raw).decode()])
    changed = body + "\n\n" + "\n".join(forged) + "\n"
    assert broken_rule(resigned({**members, "checkpoint": changed.encode()}), tmp_path)[0] == "witnesses"


# --- hostile archives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/evil",
        "a/../../evil",
        "tile\\evil",
        "C:evil",
        "tile//x",
        "tile/",
        "./x",
        "tile/.hidden",
        "a b",
        "\u00e4",
        "",
    ],
)
def test_names_that_could_leave_the_folder(name: str, tmp_path: Path) -> None:
    members = [*members_of(HONEST).items(), (name, b"x")]
    assert broken_rule(zipped(members), tmp_path)[0] == "archive"


def test_a_member_that_is_there_twice(tmp_path: Path) -> None:
    members = list(members_of(HONEST).items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped([*members, ("README", b"another")])
    assert broken_rule(data, tmp_path) == ("archive", "member README is there twice")


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"not a zip file", HONEST[:-1], HONEST[:1000], HONEST[1000:], HONEST[22:]]
)
def test_what_is_no_archive(data: bytes, tmp_path: Path) -> None:
    assert broken_rule(data, tmp_path)[0] == "archive"


def test_a_missing_file(tmp_path: Path) -> None:
    assert verify.verify(tmp_path / "nowhere.zip").findings[0].holds is False


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unknown_compression(method: int, tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as opened:
        opened.writestr("README", b"x")
    assert broken_rule(target.getvalue(), tmp_path)[0] == "archive"


def test_encrypted_members(tmp_path: Path) -> None:
    data = bytearray(zipped([("README", b"x")]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    assert broken_rule(bytes(data), tmp_path)[0] == "archive"


def test_limits_hold_whatever_the_headers_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MOST_MEMBER_BYTES", 200_000)
    bomb = zipped([("README", bytes(10_000_000))])
    assert len(bomb) < 20_000
    assert "larger than an export can be" in broken_rule(bomb, tmp_path)[1]
    lying = bytearray(bomb)
    at = lying.index(b"PK\x01\x02") + 24  # the uncompressed size in the central directory
    lying[at : at + 4] = (100).to_bytes(4, "little")
    assert broken_rule(bytes(lying), tmp_path)[0] == "archive"
    monkeypatch.setattr(verify, "MOST_BYTES", 1000)
    assert "larger than an export can be" in broken_rule(HONEST, tmp_path)[1]
    monkeypatch.setattr(verify, "MOST_MEMBERS", 3)
    assert "more than 3" in broken_rule(HONEST, tmp_path)[1]


@pytest.mark.parametrize("name", ["checkpoint", "policy", "rosters/1.json", "rosters/1.approvals.json", "MANIFEST"])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe", b"1" * 5000, b"[1.5]"]
)
def test_nonsense_in_members_is_a_finding(name: str, content: bytes, tmp_path: Path) -> None:
    members = {**members_of(HONEST), name: content}
    data = zipped(list(members.items())) if name == "MANIFEST" else resigned(members)
    assert broken_rule(data, tmp_path)[0] in {"rosters", "manifest", "checkpoint"}


# --- tiles ------------------------------------------------------------------------------------------------------------


def test_tile_paths_of_the_specification() -> None:
    for path in (archive.tile_path, verify.tile_path):
        assert path(0, 1234067, 256) == "tile/0/x001/x234/067"
        assert path(3, 0, 1) == "tile/3/000.p/1"
        assert path(1, 999, 255) == "tile/1/999.p/255"
        assert path(2, 1000, 256) == "tile/2/x001/000"


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 700])
def test_tiles_at_their_edges(size: int, tmp_path: Path) -> None:
    story = Story()
    story.found(SITES)
    while len(story.leaves) < size:
        story.add("log.heartbeat", {})
    story.leaves = story.leaves[:size]
    members = members_of(story.export_bytes())
    root = MemoryTree(map(leaf_hash, story.leaves)).root()
    assert base64.b64encode(root).decode() in members["checkpoint"].decode()
    report = report_on(resigned(members), tmp_path)
    assert next(finding for finding in report.findings if finding.rule == "tree").holds
    full, part = divmod(size, 256)
    widths = ["" for _ in range(full)] + ([f".p/{part}"] if part else [])
    expected = {f"tile/0/{number:03d}{width}" for number, width in enumerate(widths)}
    expected |= {f"tile/1/000.p/{full}"} if full else set()
    assert {name for name in members if name.startswith("tile/")} == expected


def test_three_levels_of_tiles(tmp_path: Path) -> None:
    leaves = [b'{"evidence":[],"sd":[],"type":"%d"}' % number for number in range(65536 + 300)]
    story = Story(leaves=leaves)
    story.rosters = tell(1).rosters
    members = members_of(story.export_bytes())
    assert {"tile/2/000.p/1", "tile/1/000", "tile/1/001.p/1", "tile/0/257.p/44"} <= set(members)
    report = report_on(resigned(members), tmp_path)
    assert next(finding for finding in report.findings if finding.rule == "tree").holds


def test_what_followed_the_checkpoint_stays_out(tmp_path: Path) -> None:
    """An export may race with the next round: blobs of later entries are there, the entries are not."""
    story = tell(1)
    size, note = len(story.leaves), story.note()
    story.play_round(2, SITES)
    source = archive.ArchiveSource(
        note, story.leaves[:size], story.rosters, story.envelopes.values(), story.contexts.values()
    )
    archive.write_archive(tmp_path / "export.zip", source, COORDINATOR_KEY, "2026-11-21T09:00:00.000Z")
    assert verify.verify(tmp_path / "export.zip").ok


def test_the_same_story_gives_the_same_bytes() -> None:
    assert tell().export_bytes() == tell().export_bytes()


def test_archives_that_cannot_be_written(tmp_path: Path) -> None:
    story = tell(1)

    def source(**changes: Any) -> archive.ArchiveSource:
        parts: dict[str, Any] = {
            "checkpoint": story.note(),
            "leaves": story.leaves,
            "rosters": story.rosters,
            "envelopes": story.envelopes.values(),
            "contexts": story.contexts.values(),
        }
        return archive.ArchiveSource(**{**parts, **changes})

    one = next(iter(story.envelopes.values()))
    wrong: list[dict[str, Any]] = [
        {"leaves": story.leaves[:-1]},
        {"leaves": story.leaves[::-1]},
        {"leaves": [json.dumps({"evidence": [], "type": "x" * 65536}).encode()]},
        {"envelopes": []},
        {"contexts": []},
        {"rosters": []},
        {"envelopes": [one, one]},
    ]
    for changes in wrong:
        with pytest.raises(Misuse, match="archive_malformed"):
            archive.write_archive(tmp_path / "x.zip", source(**changes), COORDINATOR_KEY, "2026-11-21T09:00:00.000Z")
