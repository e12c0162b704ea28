"""The bytes of TCP connections as somebody outside sees them: a capture of the interface, or a proxy in between.

As a program it is what runs in a network namespace of its own: ``unshare -rn python -m tests.support.wire FOLDER``.
"""

import collections
import contextlib
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from shared.clock import SystemClock
from shared.crypto.secret import Secret
from shared.crypto.x509 import (
    Authority,
    TlsKey,
    create_authority,
    issue_server_certificate,
    issue_site_certificate,
    make_csr,
    pem,
)
from site_agent.coordinator_client import CoordinatorClient
from site_agent.tls import load_client_certificate, server_context
from site_agent.traffic import Flow, Traffic

PASSWORD = Secret(b"password")
CHUNK = 3 * 2**20
MODEL = 5 * 2**20
_ETH_P_ALL, _OUTGOING, _TCP = 3, 4, 6


@dataclass
class Seen:
    """Payload bytes to and from a server."""

    sent: int = 0
    received: int = 0


class Capture:
    """Counts the TCP payload to and from a port on the loopback interface, by the range of sequence numbers.

    So what is sent again counts once, and a packet that the capture itself loses is counted by those after it.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._ranges: dict[tuple[int, int], list[int]] = {}  # (source, target) -> first number, bytes since then
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._socket.bind(("lo", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 2**20)
        self._socket.settimeout(0.3)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Count from now on."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Count what is still in the queue, then no more."""
        self._stop.set()
        self._thread.join()
        self._socket.close()

    @property
    def seen(self) -> Seen:
        """Return the payload of all connections so far."""
        sent = sum(total for (_, target), (_, total) in self._ranges.items() if target == self.port)
        return Seen(sent, sum(total for (source, _), (_, total) in self._ranges.items() if source == self.port))

    def _run(self) -> None:
        while True:
            try:
                head, (_, protocol, kind, *_) = self._socket.recvfrom(128)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            if protocol == 0x0800 and kind != _OUTGOING and head[9] == _TCP:  # on `lo` every packet is seen twice
                self._count(head)

    def _count(self, head: bytes) -> None:
        start = 4 * (head[0] & 15)
        source, target, number = struct.unpack(">HHI", head[start : start + 8])
        if self.port not in {source, target}:
            return
        if head[start + 13] & 2:  # SYN takes one number itself
            self._ranges[source, target] = [number + 1, 0]
            return
        length = struct.unpack(">H", head[2:4])[0] - start - 4 * (head[start + 12] >> 4)
        begun = self._ranges.setdefault((source, target), [number, 0])
        end = (number + length - begun[0]) % 2**32
        if length > 0 and end < 2**31:
            begun[1] = max(begun[1], end)


class CountingProxy:
    """A TCP relay in front of a server that counts what passes, below TLS.

    With a list `asked` it is a hospital's proxy: it wants to be asked with CONNECT first, and keeps how it was asked.
    """

    def __init__(self, target: int, asked: list[bytes] | None = None) -> None:
        self.seen = Seen()
        self.connections = 0
        self._target, self._asked = target, asked
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        self._close()

    def cut(self) -> None:
        """End every connection, as an idle one is ended, and return when that has arrived."""
        for one in self._open:
            with contextlib.suppress(OSError):  # the other end was quicker
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._close()

    def _close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._asked is not None:
                self._be_asked(here, self._asked)
            there = socket.create_connection(("127.0.0.1", self._target))
            self._open += [here, there]
            for source, sink, name in ((here, there, "sent"), (there, here, "received")):
                thread = threading.Thread(target=self._relay, args=(source, sink, name), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _be_asked(self, here: socket.socket, asked: list[bytes]) -> None:
        question = b""
        while not question.endswith(b"\r\n\r\n"):
            question += here.recv(4096)
        answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        here.sendall(answer)
        asked.append(question)
        self.seen.sent += len(question)
        self.seen.received += len(answer)

    def _relay(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                setattr(self.seen, name, getattr(self.seen, name) + len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


class _Handler(BaseHTTPRequestHandler):
    """Takes everything; answers a blob with a model and the rest with a few bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"m" * MODEL if "/blobs/" in self.path else b'{"commands":[]}')

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class TlsServer:
    """A coordinator's outside: TLS with client certificates, HTTP/1.1 with keep-alive."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, datetime.now(UTC)
        self.authority: Authority = create_authority("alpha", self.now)
        key = TlsKey.generate()
        file = folder / "server.pem"
        leaf = issue_server_certificate(self.authority.server, key, ["127.0.0.1"], self.now)
        file.write_bytes(pem(leaf, self.authority.server.cert_der) + key.to_encrypted_pem(PASSWORD))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file, password=PASSWORD.reveal)
        context.load_verify_locations(cadata=self.authority.root.cert_der)
        context.verify_mode = ssl.CERT_REQUIRED
        self.server_context = context
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.context = server_context(self.authority.root.cert_der, None)  # what a site trusts

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def close_listener(self) -> None:
        """Close a server that was made for its certificates only."""
        self._server.server_close()

    def client(self, port: int) -> CoordinatorClient:
        """Return the production client of a site, dialling `port`."""
        key = TlsKey.generate()
        leaf = issue_site_certificate(self.authority.clients, make_csr(key), "alpha", "site-a", self.now, 7)
        self.context = context = server_context(self.authority.root.cert_der, None)
        certificate = load_client_certificate(
            context,
            self.folder / "site.pem",
            chain=pem(leaf, self.authority.clients.cert_der),
            key=key.to_encrypted_pem(PASSWORD),
            password=PASSWORD,
        )
        url = f"https://127.0.0.1:{port}"
        return CoordinatorClient.dialling(url, context, SystemClock(), certificate, proxy=None, timeout_seconds=30)


def traffic_of_a_day(client: CoordinatorClient) -> list[Flow]:
    """Poll, fetch a model, send an upload in chunks and small messages; return what the meter counted."""
    for cursor in range(40):
        client.request("GET", "/v1/agent/poll", query={"cursor": str(cursor)})
    client.request("GET", f"/v1/blobs/{'0' * 64}", limit=2 * MODEL)
    for chunk in range(4):
        client.put(f"/v1/rounds/c/uploads/site-a/{chunk}", b"\x5a" * CHUNK)
    client.put("/v1/rounds/c/shares/site-a", b"s" * 5000)
    client.put("/v1/rounds/c/decision/site-a", b"{}", traffic=Traffic.DECISION)
    client.close()
    return client.meter.take()


def namespaces_permitted() -> bool:
    """Return whether this process may make a network namespace of its own and capture in it."""
    probe = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))"
    command = ["unshare", "-rn", sys.executable, "-c", probe]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except OSError:
        return False


def loopback_up() -> None:
    """Bring up the loopback interface of a fresh namespace."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, UP and RUNNING


def main(folder: Path) -> None:
    """Run the day inside a namespace and print what was captured and what was counted."""
    loopback_up()
    with TlsServer(folder) as server, Capture(server.port) as capture:
        flows = traffic_of_a_day(server.client(server.port))
    by_class = collections.Counter({flow.traffic: flow.sent for flow in flows})
    print(  # noqa: T201 (a program's own output)
        json.dumps(
            {
                "captured": [capture.seen.sent, capture.seen.received],
                "counted": [sum(flow.sent for flow in flows), sum(flow.received for flow in flows)],
                "by_class": dict(by_class),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
