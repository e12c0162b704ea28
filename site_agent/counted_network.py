"""Connections whose every byte is counted: what the socket takes and gives, below TLS and below HTTP.

TLS runs over memory here instead of over the socket, because only then is the number of bytes on the wire known; the
counts are those of the TCP payload, handshakes included, retransmissions left out.
"""

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import httpcore

from site_agent.traffic import Meter, Traffic

_T = TypeVar("_T")
_RECORDS = 256 * 1024  # plaintext that is encrypted at a time; also what is read from the socket at a time


class Carrier(Protocol):
    """What TLS runs over: a counted connection, or another TLS connection (to a proxy, say) over one."""

    def receive(self, most: int, timeout: float | None) -> bytes:
        """Read at most `most` bytes; nothing at the end. Raises what the operating system does."""
        ...

    def send(self, data: bytes, timeout: float | None) -> None:
        """Write everything. Raises what the operating system does."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (httpcore's signature)
        """Return what httpcore wants to know."""
        ...


class CountedStream(httpcore.NetworkStream):
    """A TCP connection that reports to a meter; `start_tls` makes it a TLS connection that still does."""

    def __init__(self, connection: socket.socket, meter: Meter) -> None:
        """Take over a connected socket."""
        self._socket = connection
        self._meter = meter

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what there is, at most `max_bytes`; nothing at the end of the stream."""
        with _translated(httpcore.ReadTimeout, httpcore.ReadError):
            return self.receive(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write everything."""
        with _translated(httpcore.WriteTimeout, httpcore.WriteError):
            self.send(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return a TLS connection over this one; it is closed when the handshake fails."""
        with self._meter.attributed(Traffic.CONNECTION):
            return _tls_over(self, self._meter, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (httpcore's signature)
        """Return what httpcore wants to know of a connection."""
        if info == "is_readable":
            return is_readable(self._socket)
        return {"socket": self._socket}.get(info)

    def receive(self, most: int, timeout: float | None) -> bytes:
        """Read from the socket and count."""
        self._socket.settimeout(timeout)
        data = self._socket.recv(most)
        self._meter.received(len(data))
        return data

    def send(self, data: bytes, timeout: float | None) -> None:
        """Write to the socket and count what it took."""
        self._socket.settimeout(timeout)
        rest = memoryview(data)
        while rest:
            taken = self._socket.send(rest)
            self._meter.sent(taken)
            rest = rest[taken:]


class TlsStream(httpcore.NetworkStream):
    """TLS over a carrier."""

    def __init__(
        self, below: Carrier, meter: Meter, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None
    ) -> None:
        """Shake hands. Raises what the operating system and TLS do."""
        self._below = below
        self._meter = meter
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        try:
            self._done(self._tls.do_handshake, timeout)
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._flush(timeout)  # the alert that says why
            raise
        self._flush(timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read decrypted bytes, at most `max_bytes`; nothing at the end of the stream."""
        with _translated(httpcore.ReadTimeout, httpcore.ReadError):
            return self.receive(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Encrypt and write everything."""
        with _translated(httpcore.WriteTimeout, httpcore.WriteError):
            self.send(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._below.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return a TLS connection through this one: what a proxy that is spoken to over TLS asks for."""
        with self._meter.attributed(Traffic.CONNECTION):
            return _tls_over(self, self._meter, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (httpcore's signature)
        """Return what httpcore wants to know of a connection."""
        return self._tls if info == "ssl_object" else self._below.get_extra_info(info)

    def receive(self, most: int, timeout: float | None) -> bytes:
        """Read and decrypt."""
        try:
            return self._done(lambda: self._tls.read(most), timeout)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""  # HTTP knows where a message ends; what is missing is noticed there

    def send(self, data: bytes, timeout: float | None) -> None:
        """Encrypt and write."""
        rest = memoryview(data)
        while rest:
            piece = rest[:_RECORDS]
            taken = self._done(lambda one=piece: self._tls.write(one), timeout)  # type: ignore[misc]
            self._flush(timeout)
            rest = rest[taken:]

    def _done(self, step: Callable[[], _T], timeout: float | None) -> _T:
        """Return what a step returns, once TLS has got the records it waits for."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return step()
            # Outside of it: a failure of the network below must not look like one of TLS.
            self._flush(timeout)
            data = self._below.receive(_RECORDS, timeout)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self, timeout: float | None) -> None:
        data = self._outgoing.read()
        if data:
            self._below.send(data, timeout)


def _tls_over(
    below: CountedStream | TlsStream, meter: Meter, context: ssl.SSLContext, name: str | None, timeout: float | None
) -> TlsStream:
    """Return TLS over a connection; that connection is closed when the handshake fails."""
    try:
        with _translated(httpcore.ConnectTimeout, httpcore.ConnectError):
            return TlsStream(below, meter, context, name, timeout)
    except BaseException:
        below.close()
        raise


class CountedNetwork(httpcore.NetworkBackend):
    """Opens counted connections."""

    def __init__(self, meter: Meter) -> None:
        """Report to `meter`."""
        self._meter = meter

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect; the caller's socket options are set, and small messages are not held back."""
        source = None if local_address is None else (local_address, 0)
        with _translated(httpcore.ConnectTimeout, httpcore.ConnectError):
            connection = socket.create_connection((host, port), timeout, source_address=source)
            for option in socket_options or ():
                connection.setsockopt(*option)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return CountedStream(connection, self._meter)


def is_readable(connection: socket.socket) -> bool:
    """Return whether an idle connection has something to say: it was closed, then."""
    if connection.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([connection], [], [], 0)[0])


@contextmanager
def _translated(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    """Raise httpcore's exceptions in place of the operating system's, with the reason as their cause."""
    try:
        yield
    except TimeoutError as error:
        raise timeout(str(error)) from error
    except OSError as error:  # `ssl.SSLError` is one
        raise failure(str(error)) from error
