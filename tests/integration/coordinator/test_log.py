"""The coordinator's side of the log: witnesses, finality, the signer, a new key, the command line."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.audit import SYSTEM_ACTOR, Fact, Hold
from coordinator.cli import log as command
from coordinator.log_rotation import BOTH_LINES, rotate_key, rotation_message
from coordinator.log_signer import LogSigner
from coordinator.storage import log as stored
from shared.audit.log_checkpoint import (
    COSIGNATURE,
    LogCheckpoint,
    LogVkey,
    add_signature_lines,
    cosign,
    decode_vkey,
    parse_note,
    verify_checkpoint,
    verify_cosignature,
    witness_name,
)
from shared.audit.merkle import leaf_hash, tree_root
from shared.audit.witness import parse_add_checkpoint
from shared.canonical import from_b64u
from shared.crypto.identity import SigningKey
from shared.errors import InputError, Misuse, MitralError, PeerFault, Unavailable
from tests.support.coordinator_scene import FEDERATION, Scene
from tests.support.fake_site import FakeSite

ORIGIN = f"{FEDERATION}/log/1"


def cosigned(site: FakeSite, note: str) -> str:
    shown = parse_note(note).checkpoint
    return add_signature_lines(note, [cosign(shown, witness_name(ORIGIN, site.name), site.log_key, 1_796_000_000)])


def put(site: FakeSite, note: str) -> int:
    size = parse_note(note).checkpoint.size
    answer = site.call("PUT", f"/v1/log/cosignatures/{size}/{site.name}", note.encode())
    return int(json.loads(answer)["final"])


def asked(site: FakeSite) -> dict[str, object]:
    """Return what a site is asked as a witness: kind -> body or size."""
    found = {one.kind: one for one in site.poll(cursor="").commands}
    bodies: dict[str, object] = {}
    if "witness" in found:
        bodies["witness"] = parse_add_checkpoint(found["witness"].add_checkpoint)  # type: ignore[union-attr]
    if "final" in found:
        bodies["final"] = found["final"].size  # type: ignore[union-attr]
    return bodies


def append(scene: Scene, count: int = 1) -> None:
    coordinator = scene.coordinator
    for _ in range(count):
        with coordinator.database.transaction("test") as tx:
            coordinator.log.append(tx, Fact("log.heartbeat", SYSTEM_ACTOR), scene.clock.now())
    coordinator.tend_log()


def test_a_head_becomes_final_with_the_quorum_and_everybody_is_told(scene: Scene) -> None:
    append(scene)
    finals = []
    for site in scene.sites.values():
        request = asked(site)["witness"]
        assert request.old_size == 0  # type: ignore[attr-defined]
        finals.append(put(site, cosigned(site, request.note)))  # type: ignore[attr-defined]
    size = parse_note(request.note).checkpoint.size  # type: ignore[attr-defined]
    assert finals == [0, 0, size, size]  # N = 4 and c = 1: three sites
    for site in scene.sites.values():
        assert asked(site) == {"final": size}
    status = scene.operator("GET", "/v1/audit/witnesses", role="viewer")
    assert status == {
        "held": None,
        "log": {"size": size, "final": size, "quorum": 3, "cosigned": dict.fromkeys(scene.sites, size)},
    }
    note = scene.operator("GET", "/v1/audit/checkpoint").decode()
    for site in scene.sites.values():
        verify_cosignature(note, LogVkey(witness_name(ORIGIN, site.name), COSIGNATURE, site.log_key.verify_key))


def test_entries_are_handed_out_in_ranges_under_a_signed_head_only(scene: Scene) -> None:
    append(scene, 3)
    site = scene.sites["site-a"]
    head = parse_note(site.call("GET", "/v1/log/checkpoint").decode()).checkpoint
    with scene.coordinator.database.transaction("test") as tx:
        scene.coordinator.log.append(tx, Fact("log.heartbeat", SYSTEM_ACTOR), scene.clock.now())
    raw, leaves = site.call("GET", f"/v1/log/entries/0/{head.size}"), []
    while raw:
        size = int.from_bytes(raw[:2], "big")
        leaves.append(raw[2 : 2 + size])
        raw = raw[2 + size :]
    assert tree_root(map(leaf_hash, leaves)) == head.root
    for start, end in ((0, head.size + 1), (head.size, head.size + 1), (3, 3), (4, 3)):
        with pytest.raises(MitralError, match="log_range"):
            site.call("GET", f"/v1/log/entries/{start}/{end}")


def test_cosignatures_that_do_not_verify_are_refused(scene: Scene) -> None:
    append(scene)
    site, other = scene.sites["site-a"], scene.sites["site-b"]
    note = asked(site)["witness"].note  # type: ignore[attr-defined]
    foreign = add_signature_lines(
        note, [cosign(parse_note(note).checkpoint, witness_name(ORIGIN, "site-a"), other.log_key, 1)]
    )
    body, blank, lines = cosigned(site, note).rpartition("\n\n")
    forged = body.replace(body.split("\n")[1], str(parse_note(note).checkpoint.size + 1)) + blank + lines
    for bad in (note, foreign, cosigned(other, note), forged):
        with pytest.raises(PeerFault):
            put(site, bad)
    with scene.coordinator.database.reading("test") as tx:
        assert stored.read_cosigned_size(tx, "site-a") == 0


def test_only_sites_of_the_roster_are_witnesses(scene: Scene) -> None:
    guest = FakeSite("site-e", scene.sites["site-a"].transport)
    scene.enrol(guest)
    append(scene)
    assert "witness" not in asked(guest)
    note = asked(scene.sites["site-a"])["witness"].note  # type: ignore[attr-defined]
    with pytest.raises(MitralError, match="witness_unknown"):
        put(guest, cosigned(guest, note))


def test_after_a_start_the_log_waits_for_its_witnesses(scene: Scene) -> None:
    append(scene)
    notes = {}
    for site in scene.sites.values():
        notes[site.name] = cosigned(site, asked(site)["witness"].note)  # type: ignore[attr-defined]
        put(site, notes[site.name])
    scene.restart()
    log = scene.coordinator.log
    for name in ("site-a", "site-b", "site-c"):
        with pytest.raises(Unavailable, match="log_held"):
            scene.operator("POST", "/v1/sites/invitations", {"site": "site-z"}, role="administrator")
        site = scene.sites[name]
        request = asked(site)["witness"]
        assert request.old_size == parse_note(request.note).checkpoint.size  # type: ignore[attr-defined]
        put(site, notes[name])
    assert log.hold is None
    scene.operator("POST", "/v1/sites/invitations", {"site": "site-z"}, role="administrator")


def test_a_heartbeat_is_written_after_an_hour_of_silence(scene: Scene) -> None:
    scene.coordinator.tend_log()
    before = len(scene.entries())
    scene.clock.at += timedelta(minutes=59)
    scene.coordinator.tend_log()
    assert len(scene.entries()) == before
    scene.clock.at += timedelta(minutes=1)
    scene.coordinator.tend_log()
    assert [entry["type"] for entry in scene.entries()[before:]] == ["log.heartbeat"]


@pytest.mark.parametrize("table", ["log_leaf", "log_node", "log_checkpoint", "log_cosig", "dsse_blob"])
def test_the_database_itself_refuses_to_change_the_log(scene: Scene, table: str) -> None:
    append(scene, 2)
    site = scene.sites["site-a"]
    put(site, cosigned(site, asked(site)["witness"].note))  # type: ignore[attr-defined]
    column = {"log_cosig": "line", "dsse_blob": "body", "log_checkpoint": "note", "log_node": "hash"}.get(table, "leaf")
    for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = ''"):
        with pytest.raises(Exception, match="append-only"), scene.coordinator.database.transaction("test") as tx:
            tx.run(sql)


# --- the signer -------------------------------------------------------------------------------------------------------


def test_the_signer_refuses_to_go_back_also_after_a_restart(tmp_path: Path) -> None:
    key, path = SigningKey.generate(), tmp_path / "log-head.json"
    LogSigner(ORIGIN, key, None, path).sign(LogCheckpoint(ORIGIN, 5, bytes(32)))
    again = LogSigner(ORIGIN, key, None, path)
    for size, root in ((4, bytes(32)), (5, b"1" * 32)):
        with pytest.raises(Misuse, match="log_regression"):
            again.sign(LogCheckpoint(ORIGIN, size, root))
    again.sign(LogCheckpoint(ORIGIN, 6, b"1" * 32))


def test_a_database_that_went_back_under_a_running_service_is_not_signed(scene: Scene) -> None:
    append(scene, 2)
    log = scene.coordinator.log
    log.signer.last = LogCheckpoint(ORIGIN, 10**6, bytes(32))
    with scene.coordinator.database.transaction("test") as tx:
        log.append(tx, Fact("log.heartbeat", SYSTEM_ACTOR), scene.clock.now())
    with pytest.raises(Unavailable, match="log_rolled_back"):
        log.sign_checkpoint(scene.coordinator.database)
    assert log.hold is not None


# --- another key ------------------------------------------------------------------------------------------------------


def start_again(scene: Scene) -> None:
    """Start the service again, and leave the witnesses out of it."""
    scene.coordinator.database.close()
    scene.boot()
    scene.coordinator.log.hold = None


def test_a_new_log_key_is_logged_by_both_and_signs_beside_the_old_one(scene: Scene) -> None:
    append(scene)
    scene.coordinator.database.close()
    before, now = rotate_key(scene.state, FEDERATION, "scheduled", scene.clock)
    start_again(scene)
    entry = next(one for one in scene.entries() if one["type"] == "log.key.rotated")
    signed = rotation_message(ORIGIN, before, now)
    decode_vkey(before).key.verify(from_b64u(entry["data"]["old_signature"]), signed)
    decode_vkey(now).key.verify(from_b64u(entry["data"]["new_signature"]), signed)
    append(scene)
    note = scene.operator("GET", "/v1/audit/checkpoint").decode()
    for vkey in (before, now):
        verify_checkpoint(note, decode_vkey(vkey), ORIGIN)
    site = scene.sites["site-a"]
    put(site, cosigned(site, asked(site)["witness"].note))  # type: ignore[attr-defined]

    scene.clock.at += BOTH_LINES  # the roster still names the former key: its line stays
    start_again(scene)
    append(scene)
    verify_checkpoint(scene.operator("GET", "/v1/audit/checkpoint").decode(), decode_vkey(before), ORIGIN)

    scene.clock.at -= BOTH_LINES  # the sites' certificates are valid then; a new roster brings them the key
    scene.activate_roster()
    scene.clock.at += BOTH_LINES
    start_again(scene)
    append(scene)
    note = scene.operator("GET", "/v1/audit/checkpoint").decode()
    verify_checkpoint(note, decode_vkey(now), ORIGIN)
    with pytest.raises(PeerFault, match="checkpoint_unsigned"):
        verify_checkpoint(note, decode_vkey(before), ORIGIN)


def test_a_rotation_that_was_cut_short_is_finished_by_the_next_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.coordinator.database.close()

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("coordinator.log_rotation.promote_log_key", cut)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(scene.state, FEDERATION, "scheduled", scene.clock)
    _, now = rotate_key(scene.state, FEDERATION, "scheduled", scene.clock)
    scene.boot()
    rotated = [entry["data"]["new_vkey"] for entry in scene.entries() if entry["type"] == "log.key.rotated"]
    assert rotated == [now] == [scene.coordinator.log.vkey.encode()]


def test_the_command_line_shows_what_is_final(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    append(scene)
    site = scene.sites["site-a"]
    put(site, cosigned(site, asked(site)["witness"].note))  # type: ignore[attr-defined]

    class FakeRest:
        def __init__(self, _access: object) -> None:
            return

        def get(self, path: str) -> object:
            return scene.operator("GET", path)

    monkeypatch.setattr(command, "Rest", FakeRest)
    shown = CliRunner().invoke(command.app, ["status"]).output
    assert "final up to 0 (takes 3 sites)" in shown
    assert "site-b" in shown
    assert json.loads(CliRunner().invoke(command.app, ["status", "--json"]).output)["log"]["quorum"] == 3
    scene.coordinator.log.hold = Hold("log_unconfirmed", "test")
    assert "! the log is held" in CliRunner().invoke(command.app, ["status"]).output


def test_the_verb_rotates_a_stopped_service(scene: Scene) -> None:
    scene.coordinator.database.close()
    shown = CliRunner().invoke(command.app, ["rotate-key", "--state", str(scene.state), "--reason", "custody"])
    assert shown.exit_code == 0, shown.output
    assert shown.output.count(f"{ORIGIN}+") == 2
    scene.boot()


def test_a_size_that_is_none(scene: Scene) -> None:
    with pytest.raises(InputError, match="number_malformed"):
        scene.sites["site-a"].call("PUT", "/v1/log/cosignatures/x/site-a", b"")
