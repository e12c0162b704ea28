"""A coordinator that rewrites, forks, forgets or forges its log is caught by the hospitals, with evidence."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator import witnesses as coordinator_witnesses
from coordinator.api import log as log_routes
from coordinator.audit import COORDINATOR_ACTOR, Fact
from shared.audit.log_checkpoint import parse_note, verify_checkpoint
from shared.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from shared.canonical import JsonObject, from_b64u, hash_bytes
from shared.crypto import x509
from shared.crypto.signed_envelope import open_envelope
from shared.errors import MitralError, Refusal, Unavailable
from site_agent.log_checks import check_log
from site_agent.rounds import dispatch
from site_agent.signing import sign_and_queue
from tests.fault.simulated_site import SimulatedSite
from tests.fault.simulation import Simulation, simulation
from tests.support.adversary import Adversary, Change, deleted, edited, evidence, head, inserted, notices, swapped
from tests.support.coordinator_scene import Scene


@pytest.fixture
def made() -> Iterator[Simulation]:
    with simulation(4, updates=3) as found:
        yield found


@pytest.fixture
def adversary(made: Simulation) -> Adversary:
    """A federation whose log is final, under a coordinator that turns against it now."""
    found = Adversary(made)
    found.settle()
    assert {head(site) for site in made.sites.values()} != {0}
    return found


def refusal(site: SimulatedSite) -> str:
    """Return why a site would bind no context now."""
    with site.database.transaction("test") as tx, pytest.raises(Refusal) as caught:
        check_log(tx, site.simulation.now())
    return caught.value.code


def hold_of(made: Simulation) -> str | None:
    """Return why the coordinator's log does not go on."""
    hold = made.scene.coordinator.log.hold
    return None if hold is None else hold.code


def check_stands(made: Simulation, found: JsonObject) -> None:
    """Check as a third party that the log signed two heads that cannot both be: nothing but its key is needed."""
    vkey, kept = made.scene.coordinator.log.vkey, found["evidence"]
    ours, theirs = (verify_checkpoint(kept[name], vkey, vkey.name) for name in ("cosigned", "shown"))
    assert kept["size"] == theirs.size <= ours.size
    root, proof = hash_bytes(kept["root_here"]), [hash_bytes(part) for part in kept["proof"]]
    verify_consistency(theirs.size, root, ours.size, ours.root, proof)
    assert root != theirs.root


CHANGES = {"deleted": deleted(5), "edited": edited(5), "inserted": inserted(5), "re-ordered": swapped(5)}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_rewritten_log_is_cosigned_by_nobody(adversary: Adversary, change: Change) -> None:
    made = adversary.simulation
    before = {site.name: head(site) for site in made.sites.values()}
    adversary.rewrite(change)
    adversary.append(count=2)
    for site in made.sites.values():
        site.work()
        assert "log_conflict" in notices(site)
        assert head(site) == before[site.name]
        assert refusal(site) == "log_conflict"
        assert len(evidence(site)) == 1


def test_a_rewritten_log_of_the_old_size_gives_evidence_that_stands_by_itself(adversary: Adversary) -> None:
    made = adversary.simulation
    smallest = min(head(site) for site in made.sites.values())
    adversary.rewrite(lambda leaves: edited(3)(leaves)[:smallest])
    made.scene.coordinator.tend_log()
    for site in made.sites.values():
        site.work()
        (found,) = evidence(site)
        check_stands(made, found)


def test_a_false_consistency_proof_is_kept_as_evidence(adversary: Adversary) -> None:
    made = adversary.simulation
    adversary.rewrite(edited(3), keep_cosignatures=True)
    adversary.append(count=3)
    site = made.sites["site-a"]
    site.work()
    (found,) = evidence(site)
    assert "proof_sent" in found["evidence"]
    assert refusal(site) == "log_conflict"


def test_nothing_is_cosigned_after_a_conflict_not_even_the_old_log(adversary: Adversary, tmp_path: Path) -> None:
    made, site = adversary.simulation, adversary.simulation.sites["site-a"]
    backup = adversary.backup(tmp_path / "backup")
    made.kill_coordinator()
    adversary.rewrite(edited(3))
    adversary.append()
    site.work()
    adversary.restore(backup)
    adversary.unbridle(made.scene)
    before = head(site)
    adversary.append(count=2)
    site.restart()
    site.work()
    assert head(site) == before
    assert refusal(site) == "log_conflict"


def test_a_signed_entry_that_was_edited_before_it_was_handed_out(adversary: Adversary) -> None:
    """The tree is untouched, so the proof is right; what is handed out does not give the signed root."""
    made, site = adversary.simulation, adversary.simulation.sites["site-a"]
    adversary.append()
    with adversary.database() as raw:
        raw.execute(
            "UPDATE log_leaf SET leaf = CAST(replace(leaf, 'success', 'serious') AS BLOB) WHERE idx >= ?", (head(site),)
        )
    made.kill_coordinator()
    adversary.unbridle(made.scene)
    site.work()
    assert "entries" in evidence(site)[0]["evidence"]
    assert refusal(site) == "log_conflict"


# --- yesterday's database ---------------------------------------------------------------------------------------------


def test_a_restored_database_is_noticed_at_the_start_by_the_signer(adversary: Adversary, tmp_path: Path) -> None:
    made = adversary.simulation
    backup = adversary.backup(tmp_path / "backup")
    made.kill_coordinator()
    adversary.settle()
    adversary.restore(backup, database_only=True)
    assert hold_of(made) == "log_rolled_back"
    with made.scene.coordinator.database.transaction("test") as tx, pytest.raises(Unavailable, match="log_held"):
        made.scene.coordinator.log.append(tx, Fact("log.heartbeat", COORDINATOR_ACTOR), made.now())


def test_a_restored_machine_is_told_by_its_witnesses_and_goes_no_further(adversary: Adversary, tmp_path: Path) -> None:
    made = adversary.simulation
    backup = adversary.backup(tmp_path / "backup")
    made.kill_coordinator()
    adversary.settle()
    newer = adversary.backup(tmp_path / "newer")
    adversary.restore(backup)
    assert hold_of(made) == "log_unconfirmed"
    adversary.settle(2)
    assert hold_of(made) == "log_rolled_back"
    with made.reading() as tx:
        size = tx.value("SELECT size FROM log_head")
    for site in made.sites.values():
        assert size < head(site)
        assert "log_rolled_back" in notices(site)
        assert refusal(site) == "log_rolled_back"
    assert list((made.scene.state / "evidence").glob("log-head-*.txt"))

    made.kill_coordinator()  # a restart does not make it forget
    assert hold_of(made) == "log_rolled_back"

    adversary.restore(newer)  # the right database: witnesses confirm it, everything goes on
    adversary.settle()
    assert hold_of(made) is None
    for site in made.sites.values():
        with site.database.transaction("test") as tx:
            check_log(tx, made.now())


def test_a_coordinator_that_goes_on_from_yesterday_is_caught_with_its_first_entry(
    adversary: Adversary, tmp_path: Path
) -> None:
    made = adversary.simulation
    backup = adversary.backup(tmp_path / "backup")
    made.kill_coordinator()
    adversary.settle()
    adversary.restore(backup)
    adversary.unbridle(made.scene)
    adversary.append()
    for site in made.sites.values():
        site.work()
        check_stands(made, evidence(site)[0])
        assert refusal(site) == "log_conflict"


# --- two views --------------------------------------------------------------------------------------------------------


@pytest.fixture
def views(adversary: Adversary, tmp_path: Path) -> Iterator[tuple[Adversary, Scene]]:
    """Two coordinators with the same keys: site-c and site-d see another log than site-a and site-b."""
    other = adversary.second(tmp_path / "other")
    adversary.restart()
    made = adversary.simulation
    with adversary.split(other, "site-c", "site-d"):
        adversary.append(view="one")
        adversary.append(other, view="two")
        for _ in range(2):
            for site in made.sites.values():
                site.work()
        yield adversary, other
    other.close()


def test_two_sites_with_different_logs_meet_in_a_cosignature(
    views: tuple[Adversary, Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To let a head look final the coordinator has to show what the others cosigned; that is another log."""
    adversary, other = views
    made = adversary.simulation
    with other.coordinator.database.reading("test") as tx:
        theirs = coordinator_witnesses.cosigned_heads(tx)
    real = coordinator_witnesses.finality
    monkeypatch.setattr(log_routes, "cosigned_heads", lambda _tx: theirs)
    monkeypatch.setattr(
        coordinator_witnesses, "finality",
        lambda tx, active: type(real(tx, active))(0, 10**6, 3, {}),
    )  # fmt: skip
    made.sites["site-a"].work()
    (found,) = evidence(made.sites["site-a"])
    assert found["evidence"]["peer"] in {"site-c", "site-d"}
    check_stands(made, found)
    assert refusal(made.sites["site-a"]) == "log_conflict"


def test_neither_of_two_logs_becomes_final_and_after_a_day_nothing_is_bound(views: tuple[Adversary, Scene]) -> None:
    adversary, _ = views
    made = adversary.simulation
    split_at = {site.name: head(site) for site in made.sites.values()}
    site = made.sites["site-a"]
    final = int(site.query("SELECT value FROM fact WHERE name = 'log_final_size'")[0].value)
    assert final < split_at["site-a"]
    with site.database.transaction("test") as tx:
        check_log(tx, made.now())
    made.advance(timedelta(hours=25).total_seconds())
    assert refusal(site) == "log_not_final"


def test_a_made_up_cosignature_makes_nothing_final(
    views: tuple[Adversary, Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that a peer made for another head, put under this one."""
    adversary, other = views
    made, site = adversary.simulation, adversary.simulation.sites["site-a"]
    with other.coordinator.database.reading("test") as tx:
        theirs = coordinator_witnesses.cosigned_heads(tx)
    with made.reading() as tx:
        ours = coordinator_witnesses.newest_head(tx)
    assert ours is not None
    body = ours.split("\n\n")[0] + "\n\n"
    forged = [
        one.model_copy(update={"note": body + "".join(note_lines(ours)[:1] + note_lines(one.note)[1:])})
        for one in theirs
    ]
    real = coordinator_witnesses.finality
    monkeypatch.setattr(log_routes, "cosigned_heads", lambda _tx: forged)
    monkeypatch.setattr(coordinator_witnesses, "finality", lambda tx, active: type(real(tx, active))(0, 10**6, 3, {}))
    before = site.query("SELECT value FROM fact WHERE name = 'log_final_size'")[0].value
    site.work()
    assert site.query("SELECT value FROM fact WHERE name = 'log_final_size'")[0].value == before
    assert not evidence(site)


def note_lines(note: str) -> list[str]:
    return note.rpartition("\n\n")[2].splitlines(keepends=True)


# --- omitted entries, forged certificates, a wrong clock --------------------------------------------------------------


def acknowledged(adversary: Adversary) -> SimulatedSite:
    """Let site-a deliver a message, and take its entry back before a head is signed over it."""
    made, site = adversary.simulation, adversary.simulation.sites["site-a"]
    with site.database.transaction("test") as tx:
        body = {
            "ctx_hash": None,
            "pairing_hash": "0" * 64,
            "about": "site-b",
            "code": "share_unreadable",
            "blob_hash": "0" * 64,
        }
        path = "/v1/complaints/site-a/{digest}"
        sign_and_queue(tx, site.session.identity, "complaint", body, path=path, now=made.now())
    with made.reading() as tx:
        before = tx.value("SELECT size FROM log_head")
    while site.deliver():
        continue
    with adversary.database() as raw:
        raw.execute("DELETE FROM log_leaf WHERE idx >= ?", (before,))
        raw.execute("DELETE FROM log_node WHERE (idx + 1) << level > ?", (before,))
        raw.execute("UPDATE log_head SET size = ?", (before,))
    adversary.restart()
    assert site.query("SELECT * FROM log_receipt")
    return site


def test_another_entry_in_the_place_of_an_acknowledged_one(adversary: Adversary) -> None:
    site = acknowledged(adversary)
    adversary.append(count=3)
    site.work()
    (found,) = evidence(site)
    kept, made = found["evidence"], adversary.simulation
    ours = parse_note(kept["cosigned"]).checkpoint
    leaf, proof = from_b64u(kept["entry"]), [hash_bytes(part) for part in kept["proof"]]
    verify_inclusion(leaf_hash(leaf), kept["index"], ours.size, proof, ours.root)
    key = made.scene.coordinator.keys.idk.verify_key
    receipt = open_envelope(from_b64u(kept["receipt"]), "receipt", {"coordinator": key}).body
    assert (receipt["log_index"], receipt["leaf_hash"]) != (kept["index"], leaf_hash(leaf).hex())
    assert refusal(site) == "log_conflict"


def test_an_acknowledged_entry_that_never_turns_up(adversary: Adversary) -> None:
    made, site = adversary.simulation, acknowledged(adversary)
    for _ in range(4):
        made.advance(25)
        made.scene.clock.elapsed_seconds += 25
        site.work()
        dispatch.answer(site.session, [], made.now())
    assert "receipt_not_logged" in notices(site)
    missing = site.query("SELECT seq FROM log_receipt WHERE alarmed = 1")
    assert len(evidence(site, "receipt_not_logged")) == len(missing) > 0
    assert made.network.failures == []


def test_a_rogue_certificate_is_seen_by_the_site_it_names(adversary: Adversary) -> None:
    made, site = adversary.simulation, adversary.simulation.sites["site-a"]
    coordinator = made.scene.coordinator
    csr = x509.make_csr(x509.TlsKey.generate())
    der = coordinator.keys.issue_site_certificate(csr, coordinator.federation, "site-a", made.now(), 7)
    facts = x509.read_site_certificate(der)
    data = {"site": "site-a", "serial": facts.serial, "sha256": facts.sha256, "not_after": "2026-12-01T00:00:00.000Z"}
    with coordinator.database.transaction("test") as tx:
        coordinator.log.append(tx, Fact("cert.issued", COORDINATOR_ACTOR, data, subject=("site", "site-a")), made.now())
    for _ in range(4):
        made.everybody()
        made.advance(25)
    for one in made.sites.values():
        dispatch.answer(one.session, [], made.now())  # as the acting loop does when nothing comes
    assert "certificate_rogue" in notices(site)
    assert evidence(site, "certificate_rogue")[0]["evidence"]["index"] >= 0
    for name in ("site-b", "site-c", "site-d"):
        assert "certificate_rogue" not in notices(made.sites[name])
    assert {row.state for row in site.query("SELECT state FROM log_certificate")} == {"own", "rogue"}


def test_entries_from_the_future_are_pointed_out(adversary: Adversary) -> None:
    made, site = adversary.simulation, adversary.simulation.sites["site-a"]
    coordinator = made.scene.coordinator
    with coordinator.database.transaction("test") as tx:
        fact = Fact("log.heartbeat", COORDINATOR_ACTOR)
        coordinator.log.append(tx, fact, made.now() + timedelta(minutes=11))
    coordinator.tend_log()
    site.work()
    assert "log_clock_ahead" in notices(site)


def test_an_honest_day_raises_no_alarm(adversary: Adversary) -> None:
    made = adversary.simulation
    made.finish()
    for site in made.sites.values():
        assert not notices(site) & {"log_conflict", "log_rolled_back", "receipt_not_logged", "certificate_rogue"}
        assert not evidence(site)
        assert site.query("SELECT * FROM log_receipt WHERE waited > 60") == []


def put(site: SimulatedSite, size: int, name: str, note: str) -> None:
    """Send a cosigned head."""
    site.session.client.put(f"/v1/log/cosignatures/{size}/{name}", note.encode())


def test_a_wrong_cosignature_is_refused(adversary: Adversary) -> None:
    made = adversary.simulation
    site, other = made.sites["site-a"], made.sites["site-b"]
    note = other.query("SELECT note FROM log_head")[0].note
    with pytest.raises(MitralError, match="checkpoint_unsigned"):
        put(site, head(other), "site-a", note)
    with pytest.raises(MitralError, match="site_mismatch"):
        put(site, head(other), "site-b", note)
    with pytest.raises(MitralError, match="checkpoint_malformed"):
        put(site, head(site) + 1, "site-a", site.query("SELECT note FROM log_head")[0].note)
