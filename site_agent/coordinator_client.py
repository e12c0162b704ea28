"""Requests to the coordinator, over mTLS; every request has a class, under which the meter counts its bytes.

Waiting is the loops' business: this file never sleeps.
"""

import hashlib
import os
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import httpx

from shared.audit.witness import split_bundle
from shared.clock import Clock
from shared.errors import MitralError, PeerFault
from shared.protocol.log import CosignedHead, CosignedHeads
from shared.protocol.outcome import PublishedOutcome
from shared.protocol.roster import RosterBundle
from shared.protocol.unmask import UnmaskRequest
from shared.protocol.work import PollAnswer
from site_agent.answers import Answer, Retry, failure
from site_agent.coordinator_transport import counted_transport
from site_agent.state_folder import disk_errors
from site_agent.tls import ClientCertificate, tls_code
from site_agent.traffic import Meter, Traffic, destination_of, traffic_of

MAX_ANSWER_BYTES = 64 * 2**20
MAX_BLOB_BYTES = 16 * 2**30
_JSON = {"Content-Type": "application/json"}


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
        self._url = url
        self._timeout = timeout_seconds
        self._http = self._open(transport)
        self._former: httpx.Client | None = None
        self._clock = clock
        self.certificate = certificate
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
        meter: Meter | None = None,
    ) -> "CoordinatorClient":
        """Return a client that dials out, through `proxy` if there is one, and counts every byte."""
        meter = meter or Meter(destination_of(url, proxy))
        transport = counted_transport(context, proxy, meter)
        return cls(transport, url, clock, certificate, timeout_seconds=timeout_seconds, meter=meter)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def reconnect(self, transport: httpx.BaseTransport, certificate: ClientCertificate) -> None:
        """Go on over a transport that shows another certificate; requests under way end on the one they began on."""
        if self._former is not None:
            self._former.close()
        self._former, self._http = self._http, self._open(transport)
        self.certificate = certificate

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

    def read_log_entries(self, start: int, end: int) -> list[bytes]:
        """Return entries of the log from `start` on, some of those before `end` and at least one (`split_bundle`)."""
        return split_bundle(self.request("GET", f"/v1/log/entries/{start}/{end}").body, end - start)

    def read_cosigned_heads(self) -> list[CosignedHead]:
        """Return the newest head that each witness cosigned."""
        return CosignedHeads.check(self.request("GET", "/v1/log/cosignatures").json()).heads

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

        A part that does not lead to the blob, whole or torn, is thrown away and the blob fetched from its beginning.

        Raises:
            PeerFault: ``blob_damaged``: even fetched in one piece it is not what its name says.
        """
        part = target.with_name(f"{target.name}.part")
        with disk_errors(target):
            if part.exists() and (_is_blob(part, digest) or self._resume(digest, part, limit)):
                part.replace(target)
                return
            part.unlink(missing_ok=True)
            self._exchange("GET", f"/v1/blobs/{digest}", receive=lambda r: _save(r, part, limit))
            if not _is_blob(part, digest):
                part.unlink()
                raise PeerFault("blob_damaged", f"blob {digest} has other content than its name says")
            part.replace(target)

    def _resume(self, digest: str, part: Path, limit: int) -> bool:
        """Fetch what a part lacks; return whether the blob is whole now."""
        headers = {"Range": f"bytes={part.stat().st_size}-", "Accept": "application/octet-stream"}
        try:
            self._exchange("GET", f"/v1/blobs/{digest}", headers=headers, receive=lambda r: _save(r, part, limit))
        except MitralError as error:
            if error.code != "range_invalid":  # the part is as long as the blob, or longer: it is not the blob
                raise
        return _is_blob(part, digest)

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

    def _open(self, transport: httpx.BaseTransport) -> httpx.Client:
        return httpx.Client(
            transport=transport,
            base_url=self._url,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._timeout, connect=min(15.0, self._timeout)),
            headers={"User-Agent": "mitral-site", "Accept": "application/json", "Accept-Encoding": "identity"},
        )

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
        if self.certificate is not None:
            self.certificate.check(self._clock.now())
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
                    raise failure(response.status_code, _read(response, 2**20), response.headers)
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


def _is_blob(path: Path, digest: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


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


def _transport_failure(error: httpx.TransportError) -> MitralError:
    code = tls_code(error)
    if code is not None:
        return Retry(code, f"the TLS connection failed: {str(error)[:300]}")
    if isinstance(error, httpx.ProxyError):
        return Retry("proxy_refused", f"the proxy refused: {str(error)[:300]}")
    return Retry("coordinator_unreachable", f"{type(error).__name__}: {str(error)[:300]}")
