"""The site's own log in the hospital's log server: RFC 5424 messages over TLS, every entry once, in order."""

import io
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.crypto.x509 import pem
from shared.errors import InputError, PeerFault, Unavailable
from site_agent import journal
from site_agent.forwarding import ForwardLoop
from site_agent.logs import make_log
from site_agent.storage.notices import read_facts
from site_agent.syslog import SyslogConnection, frame, message, own_hostname, syslog_context
from site_agent.traffic import Flow
from tests.support.hospitals import Hospital, Hospitals
from tests.support.log_server import LogServer
from tests.support.wire import TlsServer

AT = datetime(2026, 11, 21, 9, tzinfo=UTC)
HEADER = re.compile(r"<(\d{1,3})>1 (\S+) (\S+) mitral-site - (\S+) - (\{.*\})")


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[TlsServer]:
    server = TlsServer(tmp_path)
    yield server
    server.close_listener()


@pytest.fixture
def server(tls: TlsServer, tmp_path: Path) -> Iterator[LogServer]:
    tls.server_context.verify_mode = ssl.CERT_NONE
    (tmp_path / "ca.pem").write_bytes(pem(tls.authority.root.cert_der))
    server = LogServer(tls.server_context)
    yield server
    server.close()


@pytest.fixture
def site(hospitals: Hospitals) -> Hospital:
    site = hospitals["site-a"]
    write(site, 3)
    return site


def write(site: Hospital, count: int) -> None:
    with site.database.transaction("write") as tx:
        for _ in range(count):
            flows = [Flow("masked_update", "coordinator.example:9092", 1, 5000, 300)]
            journal.append_traffic(tx, journal.read_keeper(tx), flows, AT, AT)


def loop_to(site: Hospital, server: str, ca_file: Path) -> tuple[ForwardLoop, SyslogConnection]:
    connection = SyslogConnection(server, syslog_context(ca_file, None))
    return ForwardLoop(
        site.database, "site-a", connection, make_log(stream=io.StringIO()), site.session.notice
    ), connection


def entries(site: Hospital) -> list[journal.Entry]:
    with site.database.reading("look") as tx:
        return list(journal.read_checked(tx))


def test_every_entry_arrives_once_in_order_and_over_one_connection(
    site: Hospital, server: LogServer, tmp_path: Path
) -> None:
    loop, connection = loop_to(site, server.address, tmp_path / "ca.pem")
    for _ in range(3):
        loop.forward()
        write(site, 2)
    loop.finish()
    written = entries(site)
    arrived = server.wait(len(written))
    assert len(arrived) == len(written)
    for text, entry in zip(arrived, written, strict=True):
        found = HEADER.fullmatch(text)
        assert found is not None, text
        assert (found[1], found[2], found[3], found[4]) == ("110", entry.at, own_hostname(), entry.event)
        body = json.loads(found[5])
        assert (body["number"], body["digest"], body["site"]) == (*entry.head, "site-a")
        assert body.get("flows") == entry.facts.get("flows")
    assert server.connections == 1
    counted = {flow.traffic: flow for flow in connection.meter.take()}
    assert counted["syslog"].exchanges == len(written)
    assert counted["syslog"].destination == server.address
    assert counted["syslog"].sent > sum(len(text) for text in arrived)


def test_a_server_that_hung_up_is_dialled_again_and_gets_the_rest(
    site: Hospital, server: LogServer, tmp_path: Path
) -> None:
    loop, _ = loop_to(site, server.address, tmp_path / "ca.pem")
    loop.forward()
    server.wait(len(entries(site)))
    server.hang_up()
    write(site, 2)
    loop.forward()
    loop.finish()
    assert len(server.wait(len(entries(site)))) == len(entries(site))
    assert server.connections == 2


def test_a_restart_goes_on_where_it_was(site: Hospital, server: LogServer, tmp_path: Path) -> None:
    for _ in range(2):
        loop, _ = loop_to(site, server.address, tmp_path / "ca.pem")
        loop.forward()
        loop.finish()
    assert len(server.wait(len(entries(site)))) == len(entries(site))
    with site.database.reading("look") as tx:
        assert read_facts(tx)["syslog_forwarded"] == str(len(entries(site)))


def test_an_unreachable_server_is_a_notice_until_it_answers(
    site: Hospital, server: LogServer, tls: TlsServer, tmp_path: Path
) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    silent.close()
    loop, connection = loop_to(site, address, tmp_path / "ca.pem")
    with pytest.raises(Unavailable, match=r"^syslog_unreachable:"):
        loop.forward()
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    thread.start()
    wait_until(lambda: "syslog_unreachable" in site.notices())
    connection._address = ("127.0.0.1", int(server.address.rpartition(":")[2]))
    server.wait(len(entries(site)))
    wait_until(lambda: "syslog_unreachable" not in site.notices())
    write(site, 1)
    loop.wake()
    server.wait(len(entries(site)))
    stop.set()
    loop.wake()
    thread.join(20)
    assert not thread.is_alive()
    loop.finish()


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def test_a_server_under_another_ca_gets_nothing(site: Hospital, server: LogServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = TlsServer(tmp_path / "other")
    (tmp_path / "other.pem").write_bytes(pem(other.authority.root.cert_der))
    other.close_listener()
    loop, _ = loop_to(site, server.address, tmp_path / "other.pem")
    with pytest.raises(Unavailable, match=r"^syslog_unreachable: .*certificate verify failed"):
        loop.forward()
    assert server.messages == []


def test_a_broken_log_is_not_forwarded_past_the_break(site: Hospital, server: LogServer, tmp_path: Path) -> None:
    loop, _ = loop_to(site, server.address, tmp_path / "ca.pem")
    with site.database.transaction("meddle") as tx:
        tx.run("DROP TRIGGER journal_no_update")
        tx.run("UPDATE journal SET at = '2020' WHERE number = 3")
    with pytest.raises(PeerFault, match=r"^journal_broken: entry 3"):
        loop.forward()
    assert server.messages == []


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for ca_file, certificate in ((tmp_path / "none.pem", None), (None, tmp_path / "none.pem")):
        with pytest.raises(InputError, match=r"^syslog_files_unreadable:"):
            syslog_context(ca_file, certificate)


def test_a_start_after_a_hard_stop_is_a_warning() -> None:
    entry = journal.Entry(journal.Head(7, "0" * 64), "2026-11-21T09:00:00.000Z", "started", {"unclosed": True})
    text = message(entry, "site-ä", "host")
    assert text.startswith(b"<108>1 2026-11-21T09:00:00.000Z host mitral-site - started - {")
    assert frame(text).startswith(str(len(text)).encode() + b" <108>")
