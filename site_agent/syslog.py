"""Entries of the site's own log as syslog messages (RFC 5424), over TLS (RFC 5425), to the hospital's log server."""

import json
import socket
import ssl
from pathlib import Path

import httpcore

from shared.errors import InputError, Unavailable
from site_agent import journal
from site_agent.counted_network import CountedNetwork
from site_agent.journal import Entry
from site_agent.traffic import Meter, Traffic

_AUDIT, _WARNING, _INFORMATIONAL = 13, 4, 6  # facility "log audit", severities
_TIMEOUT_SECONDS = 5.0
_GLANCE_SECONDS = 0.05


def message(entry: Entry, site: str, hostname: str) -> bytes:
    """Return an entry as one RFC 5424 message: what was signed, in JSON, with number and digest."""
    noticeable = entry.event == journal.STARTED and entry.facts.get("unclosed")
    priority = 8 * _AUDIT + (_WARNING if noticeable else _INFORMATIONAL)
    number, digest = entry.head
    said = {"site": site, "number": number, "digest": digest, "event": entry.event, **entry.facts}
    text = json.dumps(said, separators=(",", ":"))  # escaped to ASCII, so no byte order mark is needed
    return f"<{priority}>1 {entry.at} {hostname} mitral-site - {entry.event} - {text}".encode("ascii")


def frame(text: bytes) -> bytes:
    """Return a message as RFC 5425 puts it on the wire: its length, a space, the message."""
    return b"%d %s" % (len(text), text)


def own_hostname() -> str:
    """Return this machine's name as the header may hold it."""
    name = socket.gethostname()
    return name[:255] if name and name.isascii() and name.isprintable() and " " not in name else "-"


def syslog_context(ca_file: Path | None, certificate_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the hospital's CA (or what this machine trusts) and shows a certificate if given.

    Raises:
        InputError: ``syslog_files_unreadable``.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_file is not None:
            context.load_cert_chain(certificate_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError("syslog_files_unreadable", f"{ca_file or certificate_file}: {error}") from error
    return context


class SyslogConnection:
    """One connection to the log server, made when there is something to send, and made anew when it broke."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        """Name the server, ``host:port``."""
        host, _, port = server.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._context = context
        self._stream: httpcore.NetworkStream | None = None
        self.meter = Meter(server)

    def send(self, messages: list[bytes]) -> None:
        """Send messages. TLS carries no receipt: what was under way when a connection broke may be missing there.

        Raises:
            Unavailable: ``syslog_unreachable``.
        """
        try:
            with self.meter.attributed(Traffic.SYSLOG):
                stream = self._open()
                for text in messages:
                    with self.meter.exchange(Traffic.SYSLOG):
                        stream.write(frame(text), _TIMEOUT_SECONDS)
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            self.close()
            host, port = self._address
            detail = f"{host}:{port}: {type(error).__name__}: {str(error)[:300]}"
            raise Unavailable("syslog_unreachable", detail) from error

    def close(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self) -> httpcore.NetworkStream:
        if self._stream is not None and not self._has_ended(self._stream):
            return self._stream
        self.close()
        host, port = self._address
        below = CountedNetwork(self.meter).connect_tcp(host, port, _TIMEOUT_SECONDS)
        self._stream = below.start_tls(self._context, host, _TIMEOUT_SECONDS)
        return self._stream

    def _has_ended(self, stream: httpcore.NetworkStream) -> bool:
        """Look whether the server has said goodbye; session tickets are read on the way."""
        try:
            while stream.get_extra_info("is_readable"):
                if stream.read(4096, _GLANCE_SECONDS) == b"":
                    return True
        except httpcore.ReadTimeout:
            return False
        except httpcore.ReadError:
            return True
        return False
