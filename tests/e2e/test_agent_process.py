"""The agent as a process: no listening socket, a stop within 5 seconds, one holder of an identity, a durable outbox."""

import io
import shutil
import sqlite3
import zipfile

import psutil
import pytest

from tests.support.federation_fixture import Scene, prepared_scene
from workbench.rehearsal.federation import Federation
from workbench.rehearsal.processes import Process, program

STUDY = "agents"
ALL = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def scene(federation: Federation) -> Scene:
    return prepared_scene(federation, STUDY, grace_seconds=60)


def listening(federation: Federation, site: str) -> list[object]:
    """Return every socket below an agent, children included, on which somebody could connect to it."""
    found: list[object] = []
    for process in federation.agents[site].family():
        found += [one for one in process.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN]
        found += [one for one in process.net_connections(kind="udp") if not getattr(one, "raddr", None)]
    return found


def test_no_agent_and_no_training_child_listens(scene: Scene) -> None:
    for site in scene.federation.sites:
        # The agent and its warm training child: looking at one process only would prove less than it says.
        assert len(scene.federation.agents[site].family()) >= 2
        assert listening(scene.federation, site) == []


def test_the_coordinator_would_be_seen_listening(scene: Scene) -> None:
    ports = {
        one.laddr.port
        for process in scene.federation.coordinator.family()
        for one in process.net_connections(kind="inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert ports == {scene.federation.agent_port, scene.federation.operator_port}


def test_an_agent_killed_after_sealing_delivers_later_and_once(scene: Scene) -> None:
    federation = scene.federation
    ctx = scene.open_round(training_of="d")  # d is told to train, and cannot finish
    scene.wait_uploaded(ctx, "a", "b", "c")
    federation.wait_until(lambda: contexts_in("BOUND", federation, "d") == [ctx], "d has bound the context", 60)
    federation.coordinator.kill()
    scene.training_child("d").resume()  # now it can, and there is nobody to send the update to
    federation.wait_until(lambda: contexts_in("SEALED", federation, "d") == [ctx], "d has sealed its update", 60)
    federation.agents["d"].kill()
    federation.start_coordinator()
    assert scene.round(ctx).uploaded == ["a", "b", "c"]
    scene.bring_back("d")
    one = scene.wait_published(ctx)
    assert one.survivors == list(ALL)
    assert contexts_in("SEALED", federation, "d") == []


def contexts_in(state: str, federation: Federation, site: str) -> list[str]:
    """Return the contexts in a state, as a site's own database says; SEALED: not delivered yet."""
    database = sqlite3.connect(f"file:{federation.site_state(site) / 'state.db'}?mode=ro", uri=True)
    try:
        return [str(row[0]) for row in database.execute("SELECT ctx_hash FROM round WHERE state = ?", (state,))]
    finally:
        database.close()


def test_a_copy_of_a_state_directory_is_noticed(scene: Scene) -> None:
    federation = scene.federation
    scene.restore()
    copied = federation.site_state("c-copy")
    shutil.copytree(federation.site_state("c"), copied)
    command = [*program("mitral-site"), "--state", str(copied), "run"]
    twin = Process("c-copy", command, federation.logs / "c-copy.log", federation.environment)
    twin.start()
    try:
        # Whoever holds the lease afterwards, the other one is told so and an alert stands in the log.
        federation.wait_until(lambda: "instance_conflict" in both_logs(federation), "the conflict is noticed", 60)
    finally:
        twin.stop()
        federation.agents["c"].stop()
    # The copy took the lease over, so the original stays out until a person decides. Here the person keeps the copy.
    shutil.rmtree(federation.site_state("c"))
    copied.rename(federation.site_state("c"))
    scene.bring_back("c")
    with federation.client(admin=True) as client:
        export = federation.folder / "audit.zip"
        export.write_bytes(client.log_export())
    assert b"alert.instance_conflict" in entries_of(export.read_bytes())


def both_logs(federation: Federation) -> str:
    return "".join((federation.logs / f"{name}.log").read_text() for name in ("c", "c-copy"))


def entries_of(raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def test_a_port_in_use_is_named_and_nothing_keeps_running(scene: Scene) -> None:
    federation = scene.federation
    scene.restore()
    # A second state directory, whose settings ask for the agent port that the running coordinator holds.
    state = federation.folder / "second"
    ports = ["--agent-port", str(federation.agent_port), "--operator-port", "0", "--host", "127.0.0.1"]
    federation.run_coordinator_command(
        "init", "--state", str(state), "--federation", "second", "--name", "127.0.0.1", *ports
    )
    second = Process(
        "second",
        [*program("mitral-coordinator"), "serve", "--state", str(state)],
        federation.logs / "second.log",
        federation.environment,
    )
    second.start()
    try:
        federation.wait_until(lambda: not second.is_running, "the second coordinator gives up", 30)
    finally:
        second.stop()
    assert second.exit_code not in {0, 70}
    assert "port_in_use" in second.log_tail()
    assert str(federation.agent_port) in second.log_tail()


def test_both_sides_stop_within_five_seconds_and_go_on_afterwards(scene: Scene) -> None:
    federation = scene.federation
    ctx = scene.open_round("d")
    scene.wait_uploaded(ctx, "a", "b", "c")
    for process in (federation.agents["a"], federation.coordinator, federation.agents["b"]):
        assert process.stop() < 5
        assert process.exit_code == 0
    federation.start_coordinator()
    scene.bring_back("a", "b")
    scene.resume("d")
    one = scene.wait_published(ctx)
    assert one.survivors == list(ALL)
