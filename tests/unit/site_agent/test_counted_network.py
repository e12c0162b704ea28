"""The counts are those of the wire: an interface or a proxy in between sees the same number of bytes."""

import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from shared.clock import SystemClock
from shared.errors import Unavailable
from site_agent.answers import Retry
from site_agent.coordinator_client import CoordinatorClient
from site_agent.traffic import Traffic
from tests.support.tree import ROOT
from tests.support.wire import CHUNK, MODEL, CountingProxy, TlsServer, namespaces_permitted, traffic_of_a_day


def agrees(counted: int, seen: int) -> bool:
    return abs(counted - seen) <= 0.01 * seen


def test_a_proxy_in_between_counts_the_same(tmp_path: Path) -> None:
    with TlsServer(tmp_path) as server, CountingProxy(server.port) as proxy:
        flows = traffic_of_a_day(server.client(proxy.port))
    sent, received = sum(flow.sent for flow in flows), sum(flow.received for flow in flows)
    assert sent == proxy.seen.sent
    assert agrees(received, proxy.seen.received)
    by_class = {flow.traffic: flow for flow in flows}
    assert set(by_class) == {"connection", "poll", "model", "masked_update", "shares", "decision"}
    assert by_class["poll"].exchanges == 40
    assert by_class["masked_update"].exchanges == 4
    assert 4 * CHUNK < by_class["masked_update"].sent < 1.01 * 4 * CHUNK
    assert MODEL < by_class["model"].received < 1.01 * MODEL
    assert {flow.destination for flow in flows} == {f"127.0.0.1:{proxy.port}"}


if namespaces_permitted():

    def test_a_capture_of_the_interface_counts_the_same(tmp_path: Path) -> None:
        command = ["unshare", "-rn", sys.executable, "-m", "tests.support.wire", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["captured"][0] > 4 * CHUNK
        assert found["captured"][1] > MODEL
        for counted, captured in zip(found["counted"], found["captured"], strict=True):
            assert agrees(counted, captured)


def test_a_connection_through_a_hospitals_proxy_is_counted_with_its_envelope(tmp_path: Path) -> None:
    asked: list[bytes] = []
    with TlsServer(tmp_path) as server, CountingProxy(server.port, asked) as proxy:
        url = f"https://127.0.0.1:{server.port}"
        server.client(server.port).close()  # leaves the certificate in the server's context
        through = f"http://me:word@127.0.0.1:{proxy.port}"
        client = CoordinatorClient.dialling(url, server.context, SystemClock(), proxy=through, timeout_seconds=30)
        flows = traffic_of_a_day(client)
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic bWU6d29yZA==" in asked[0]
    assert sum(flow.sent for flow in flows) == proxy.seen.sent
    assert {flow.destination for flow in flows} == {f"127.0.0.1:{server.port} through the proxy 127.0.0.1:{proxy.port}"}


def test_who_closes_an_idle_connection_is_dialled_again(tmp_path: Path) -> None:
    with TlsServer(tmp_path) as server, CountingProxy(server.port) as proxy:
        client = server.client(proxy.port)
        client.request("GET", "/v1/agent/poll")
        proxy.cut()
        assert client.request("GET", "/v1/agent/poll").status == 200
        client.close()
    assert proxy.connections == 2


def test_an_untrusted_server_and_a_missing_one_have_their_codes(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with TlsServer(tmp_path) as server, TlsServer(tmp_path / "other") as other, pytest.raises(Retry) as caught:
        server.client(other.port).request("GET", "/v1/agent/poll")
    assert caught.value.code == "tls_untrusted"
    with pytest.raises(Retry) as caught:
        server.client(server.port).request("GET", "/v1/agent/poll")
    assert caught.value.code == "coordinator_unreachable"


def test_a_server_that_misses_our_certificate_says_so(tmp_path: Path) -> None:
    with TlsServer(tmp_path) as server:
        url = f"https://127.0.0.1:{server.port}"
        client = CoordinatorClient.dialling(url, server.context, SystemClock(), proxy=None, timeout_seconds=30)
        with pytest.raises(Retry) as caught:
            client.request("GET", "/v1/agent/poll")
    assert caught.value.code == "tls_certificate_required"
    assert client.meter.take()[0].traffic == Traffic.CONNECTION


def test_silence_ends_with_the_time_out() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        context = ssl.create_default_context()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        client = CoordinatorClient.dialling(url, context, SystemClock(), proxy=None, timeout_seconds=0.3)
        with pytest.raises(Unavailable, match=r"^coordinator_unreachable: ConnectTimeout"):
            client.request("GET", "/v1/agent/poll", timeout=httpx.Timeout(0.3))
    finally:
        listener.close()


def test_threads_count_to_their_own_classes(tmp_path: Path) -> None:
    with TlsServer(tmp_path) as server:
        client = server.client(server.port)
        paths = {"/v1/agent/poll": Traffic.POLL, "/v1/rosters/1": Traffic.ROSTER, "/v1/log/checkpoint": Traffic.LOG}
        threads = [
            threading.Thread(target=lambda p=path: [client.request("GET", p) for _ in range(20)]) for path in paths
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
    found = {flow.traffic: flow for flow in client.meter.take()}
    assert {name: flow.exchanges for name, flow in found.items() if name != "connection"} == dict.fromkeys(
        map(str, paths.values()), 20
    )
    assert all(flow.sent > 20 * 100 for name, flow in found.items() if name != "connection")
