"""Requests to the coordinator, over mTLS, with every failure put into one of three classes.

*Retry* (`Retry`): the network, a busy coordinator, or an answer that is none of ours, because a proxy probably gave it.
*Final*: a problem document of the coordinator; it becomes the error it stands for. *Undecodable* answers are retried
whatever their status. Waiting is the loops' business; this file never sleeps. Every request has a class, under which
the meter counts its bytes.
"""

import hashlib
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import httpx

from shared.canonical import JsonObject, parse_strict
from shared.clock import Clock
from shared.errors import MitralError, PeerFault, Unavailable
from shared.protocol.outcome import PublishedOutcome
from shared.protocol.problems import MEDIA_TYPE, error_from_problem
from shared.protocol.roster import RosterBundle
from shared.protocol.unmask import UnmaskRequest
from shared.protocol.work import PollAnswer
from site_agent.coordinator_transport import counted_transport
from site_agent.state_folder import disk_errors
from site_agent.tls import ClientCertificate, tls_code
from site_agent.traffic import Meter, Traffic, destination_of, traffic_of

MAX_ANSWER_BYTES = 64 * 2**20
MAX_BLOB_BYTES = 16 * 2**30
_BUSY = {408, 425, 429, 500, 502, 503, 504}


class Retry(Unavailable):
    """Nothing is lost, try again; the coordinator may have said when."""

    def __init__(self, code: str, detail: str = "", retry_after_seconds: float | None = None) -> None:
        """Build the error."""
        super().__init__(code, detail)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer."""

    status: int
    body: bytes = field(repr=False)

    def json(self) -> JsonObject:
        """Return the object in the body.

        Raises:
            Retry: ``coordinator_answer``.
        """
        try:
            return parse_strict(self.body)
        except PeerFault as error:
            raise Retry(
                "coordinator_answer", f"status {self.status}, but the body is not ours: {error.detail}"
            ) from error


class CoordinatorClient:
    """Speaks the agent plane. Safe to use from several threads; connections are kept alive."""

    def __init__(
        self,
        transport: httpx.BaseTransport,
        url: str,
        clock: Clock,
        certificate: ClientCertificate | None = None,
        *,
        timeout_seconds: float = 60.0,
        meter: Meter | None = None,
    ) -> None:
        """Use a transport (a test's, say); `dialling` makes the one of production, which counts into `meter`."""
        self._http = httpx.Client(
            transport=transport,
            base_url=url,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(timeout_seconds, connect=min(15.0, timeout_seconds)),
            headers={"User-Agent": "mitral-site", "Accept": "application/json", "Accept-Encoding": "identity"},
        )
        self._clock = clock
        self._certificate = certificate
        self._timeout = timeout_seconds
        self.meter = meter or Meter(destination_of(url, None))

    @classmethod
    def dialling(
        cls,
        url: str,
        context: ssl.SSLContext,
        clock: Clock,
        certificate: ClientCertificate | None = None,
        *,
        proxy: str | None,
        timeout_seconds: float,
    ) -> "CoordinatorClient":
        """Return a client that dials out, through `proxy` if there is one, and counts every byte."""
        meter = Meter(destination_of(url, proxy))
        transport = counted_transport(context, proxy, meter)
        return cls(transport, url, clock, certificate, timeout_seconds=timeout_seconds, meter=meter)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def poll(self, wait_seconds: int, cursor: str, instance: str, previous: str) -> tuple[PollAnswer, datetime]:
        """Ask what to do; the coordinator answers after at most `wait_seconds`. Returns the time of arrival too."""
        query = {"wait": str(wait_seconds), "cursor": cursor, "instance": instance, "previous": previous}
        timeout = httpx.Timeout(wait_seconds + self._timeout, connect=15.0)
        answer = self.request("GET", "/v1/agent/poll", query=query, timeout=timeout)
        return PollAnswer.check(answer.json()), self._clock.now()

    def read_roster(self, version: int) -> RosterBundle:
        """Return a roster version with the approvals it has so far."""
        return RosterBundle.check(self.request("GET", f"/v1/rosters/{version}").json())

    def read_outcomes(self, study: str, after: int) -> list[PublishedOutcome]:
        """Return the outcomes of a study after the `after`-th, at most 50."""
        listed = self.request("GET", f"/v1/studies/{quote(study)}/outcomes", query={"after": str(after)}).json()
        if set(listed) != {"outcomes"} or not isinstance(listed["outcomes"], list):
            raise PeerFault("message_malformed", "outcomes: not a list")
        return [PublishedOutcome.check(item) for item in listed["outcomes"]]

    def read_unmask_request(self, ctx_hash: str, site: str) -> UnmaskRequest:
        """Return what there is to verify before anything is released."""
        return UnmaskRequest.check(self.request("GET", f"/v1/rounds/{ctx_hash}/unmask-request/{site}").json())

    def read_uploaded_chunks(self, ctx_hash: str, site: str) -> dict[str, str]:
        """Return chunk index -> SHA-256 of what arrived of an upload."""
        listed = self.request("GET", f"/v1/rounds/{ctx_hash}/uploads/{site}").json().get("chunks")
        return dict(listed) if isinstance(listed, dict) else {}

    def put(
        self, path: str, body: bytes, *, media_type: str = "application/json", traffic: Traffic | None = None
    ) -> Answer:
        """PUT a body; the same bytes again are always welcome."""
        return self.request("PUT", path, body=body, headers={"Content-Type": media_type}, traffic=traffic)

    def read_blob(self, digest: str, limit: int, traffic: Traffic | None = None) -> bytes:
        """Return a small blob, checked against its digest; what it holds is its class of traffic.

        Raises:
            PeerFault: ``blob_damaged``.
        """
        body = self.request("GET", f"/v1/blobs/{digest}", limit=limit, traffic=traffic).body
        if hashlib.sha256(body).hexdigest() != digest:
            raise PeerFault("blob_damaged", f"blob {digest} has other content than its name says")
        return body

    def download_blob(self, digest: str, target: Path, limit: int = MAX_BLOB_BYTES) -> None:
        """Fetch a blob into `target`, resuming a part that an earlier attempt left; the file appears when it is whole.

        Raises:
            PeerFault: ``blob_damaged``; the part is thrown away.
        """
        part = target.with_name(f"{target.name}.part")
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-", "Accept": "application/octet-stream"} if have else {}
        with disk_errors(target):
            self._exchange("GET", f"/v1/blobs/{digest}", headers=headers, receive=lambda r: _save(r, part, limit))
            with part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != digest:
                part.unlink()
                raise PeerFault("blob_damaged", f"blob {digest} has other content than its name says")
            part.replace(target)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
        limit: int = MAX_ANSWER_BYTES,
        traffic: Traffic | None = None,
    ) -> Answer:
        """Make one request and return its answer if it is a success.

        Raises:
            Retry: the network failed, the coordinator is busy, or the answer is not ours.
            MitralError: the error that a problem document stands for.
        """
        return self._exchange(
            method, path, query=query, body=body, headers=headers, timeout=timeout, receive=lambda r: _read(r, limit),
            traffic=traffic,
        )  # fmt: skip

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request, stream=True)
        except httpx.RemoteProtocolError:
            # The other side closed a connection that had been idle, at the moment it was used again. Every request of
            # ours may be repeated, so it goes out once more on a fresh connection, without waiting.
            return self._http.send(request, stream=True)

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        receive: Callable[[httpx.Response], bytes],
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
        traffic: Traffic | None = None,
    ) -> Answer:
        if self._certificate is not None:
            self._certificate.check(self._clock.now())
        request = self._http.build_request(
            method, path, params=query, content=body, headers=headers, timeout=timeout or httpx.USE_CLIENT_DEFAULT
        )
        try:
            with self.meter.exchange(traffic or traffic_of(path)):
                response = self._send(request)
                try:
                    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                        # Nothing was asked to be compressed; unpacking a few kilobytes could fill the memory (row 25).
                        raise Retry("coordinator_answer", "the answer is compressed, which was not asked for")
                    if response.status_code in {200, 201, 202, 204, 206}:
                        return Answer(response.status_code, receive(response))
                    raise _failure(response.status_code, _read(response, 2**20), response.headers)
                finally:
                    response.close()
        except httpx.TransportError as error:
            raise _transport_failure(error) from error
        except httpx.HTTPError as error:
            raise Retry("coordinator_unreachable", str(error)[:300]) from error


def _read(response: httpx.Response, limit: int) -> bytes:
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > limit:
            raise Retry("coordinator_answer", f"the answer is longer than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def _save(response: httpx.Response, part: Path, limit: int) -> bytes:
    # 200 to a Range request means the whole blob from its first byte.
    mode = "ab" if response.status_code == 206 else "wb"
    with part.open(mode) as file:
        for piece in response.iter_bytes():
            file.write(piece)
            if file.tell() > limit:
                raise Retry("coordinator_answer", f"the blob is longer than {limit} bytes")
        file.flush()
        if os.name == "posix":
            os.fdatasync(file.fileno())
    return b""


def _failure(status: int, body: bytes, headers: httpx.Headers) -> MitralError:
    """Return the error of an answer that is no success."""
    wait = _retry_after(headers.get("Retry-After"))
    error: MitralError | None = None
    if headers.get("Content-Type", "").partition(";")[0].strip() == MEDIA_TYPE:
        try:
            error = error_from_problem(parse_strict(body))
        except PeerFault:
            error = None
    if error is None:
        code = "proxy_refused" if status == 407 else "coordinator_busy" if status in _BUSY else "coordinator_answer"
        return Retry(code, f"status {status} without a problem document; a proxy may have answered", wait)
    if isinstance(error, Unavailable) or status in _BUSY:
        return Retry(error.code, error.detail, wait)
    return error


def _retry_after(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else None


def _transport_failure(error: httpx.TransportError) -> MitralError:
    code = tls_code(error)
    if code is not None:
        return Retry(code, f"the TLS connection failed: {str(error)[:300]}")
    if isinstance(error, httpx.ProxyError):
        return Retry("proxy_refused", f"the proxy refused: {str(error)[:300]}")
    return Retry("coordinator_unreachable", f"{type(error).__name__}: {str(error)[:300]}")
