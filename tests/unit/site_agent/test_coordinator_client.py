"""Every failure falls into one of three classes: retry, final, undecodable; and downloads resume."""

import json
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from shared.canonical import sha256_hex
from shared.clock import FixedClock
from shared.errors import InputError, MitralError, PeerFault, Refusal, Unavailable
from shared.protocol.problems import MEDIA_TYPE, problem_document
from site_agent.answers import Retry
from site_agent.coordinator_client import CoordinatorClient
from site_agent.coordinator_transport import counted_transport
from site_agent.tls import ClientCertificate
from site_agent.traffic import Meter
from tests.support.fake_coordinator import START

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler, certificate: ClientCertificate | None = None) -> CoordinatorClient:
    return CoordinatorClient(httpx.MockTransport(handler), "https://coordinator", FixedClock(START), certificate)


def problem(error: MitralError, **headers: str) -> httpx.Response:
    raw = json.dumps(problem_document(error, "r")).encode()
    return httpx.Response(error.meaning.status, content=raw, headers={"Content-Type": MEDIA_TYPE, **headers})


@pytest.mark.parametrize(
    "error",
    [InputError("seq_reused", "a"), Refusal("round_closed", "b"), PeerFault("upload_incomplete", "c")],
)
def test_a_problem_document_becomes_the_error_it_stands_for(error: MitralError) -> None:
    with pytest.raises(type(error)) as caught:
        client(lambda _request: problem(error)).put("/v1/x", b"{}")
    assert (caught.value.code, caught.value.detail) == (error.code, error.detail)
    assert not isinstance(caught.value, Retry)


def test_an_unavailable_coordinator_is_asked_again_when_it_says() -> None:
    error = Unavailable("storage_full", "no room")
    with pytest.raises(Retry) as caught:
        client(lambda _request: problem(error, **{"Retry-After": "17"})).put("/v1/x", b"{}")
    assert (caught.value.code, caught.value.retry_after_seconds) == ("storage_full", 17.0)


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (httpx.Response(403, text="<html>blocked by policy</html>"), "coordinator_answer"),
        (httpx.Response(404, text="not found"), "coordinator_answer"),
        (httpx.Response(302, headers={"Location": "https://login"}), "coordinator_answer"),
        (httpx.Response(407, text="who are you"), "proxy_refused"),
        (httpx.Response(503, text="maintenance"), "coordinator_busy"),
        (httpx.Response(502, text="bad gateway"), "coordinator_busy"),
        (httpx.Response(403, json={"code": "made_up"}, headers={"Content-Type": MEDIA_TYPE}), "coordinator_answer"),
        (httpx.Response(403, text="{", headers={"Content-Type": MEDIA_TYPE}), "coordinator_answer"),
    ],
)
def test_what_is_not_ours_is_retried_whatever_its_status(response: httpx.Response, code: str) -> None:
    with pytest.raises(Retry) as caught:
        client(lambda _request: response).put("/v1/x", b"{}")
    assert caught.value.code == code


def test_a_success_that_is_not_ours_is_retried() -> None:
    with pytest.raises(Retry, match=r"^coordinator_answer:"):
        client(lambda _request: httpx.Response(200, text="<html>welcome to the guest network</html>")).read_roster(1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("refused"), "coordinator_unreachable"),
        (httpx.ReadTimeout("slow"), "coordinator_unreachable"),
        (httpx.RemoteProtocolError("cut"), "coordinator_unreachable"),
        (httpx.ProxyError("407"), "proxy_refused"),
    ],
)
def test_network_failures_are_retried(error: httpx.TransportError, code: str) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Retry) as caught:
        client(fail).put("/v1/x", b"{}")
    assert caught.value.code == code


def test_a_connection_that_was_closed_while_idle_is_replaced_at_once() -> None:
    attempts: list[int] = []

    def handle(_request: httpx.Request) -> httpx.Response:
        attempts.append(1)
        if len(attempts) == 1:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return httpx.Response(200, content=b"{}")

    assert client(handle).put("/v1/x", b"{}").status == 200
    assert len(attempts) == 2


def test_tls_failures_are_named() -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("tls") from ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED]")

    with pytest.raises(Retry, match=r"^tls_certificate_expired:"):
        client(fail).put("/v1/x", b"{}")


def test_an_expired_certificate_dials_nobody() -> None:
    dialled: list[httpx.Request] = []
    expired = ClientCertificate(START - timedelta(days=9), START - timedelta(days=2))

    def dial(request: httpx.Request) -> httpx.Response:
        dialled.append(request)
        return httpx.Response(200)

    with pytest.raises(Unavailable, match=r"^own_certificate_expired:"):
        client(dial, expired).put("/v1/x", b"")
    assert dialled == []


def test_an_endless_answer_is_cut_off() -> None:
    with pytest.raises(Retry, match=r"^coordinator_answer:"):
        client(lambda _request: httpx.Response(200, content=b"x" * 2000)).read_blob("0" * 64, 1000)


def test_a_small_blob_must_have_its_digest() -> None:
    raw = b"a plan"
    assert client(lambda _request: httpx.Response(200, content=raw)).read_blob(sha256_hex(raw), 100) == raw
    with pytest.raises(PeerFault, match=r"^blob_damaged:"):
        client(lambda _request: httpx.Response(200, content=raw)).read_blob("0" * 64, 100)


BLOB = bytes(range(256)) * 100


def serve_blob(requests: list[str | None], *, cut_at: int | None = None, ranges: bool = True) -> Handler:
    """Serve the blob; the first answer breaks off after `cut_at` bytes."""

    def handle(request: httpx.Request) -> httpx.Response:
        asked = request.headers.get("Range")
        requests.append(asked)
        start = int(asked[6:-1]) if asked and ranges else 0
        if start >= len(BLOB):
            refused = problem_document(InputError("range_invalid"), "r")
            return httpx.Response(416, json=refused, headers={"Content-Type": "application/problem+json"})
        body = BLOB[start:]
        if cut_at is not None and len(requests) == 1:
            return httpx.Response(200, stream=Broken(body[:cut_at]))
        return httpx.Response(206 if start else 200, content=body)

    return handle


class Broken(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, sent: bytes) -> None:
        self.sent = sent

    def __iter__(self) -> Iterator[bytes]:
        yield self.sent
        raise httpx.ReadError("connection lost")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed(tmp_path: Path, ranges: bool) -> None:
    requests: list[str | None] = []
    downloading = client(serve_blob(requests, cut_at=10_000, ranges=ranges))
    target = tmp_path / "model"
    with pytest.raises(Retry):
        downloading.download_blob(sha256_hex(BLOB), target)
    assert not target.exists()
    downloading.download_blob(sha256_hex(BLOB), target)
    assert target.read_bytes() == BLOB
    assert requests == [None, "bytes=10000-"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("part", [BLOB, b"x" * 10_000, b"x" * len(BLOB), BLOB + b"more"])
def test_a_part_that_is_whole_torn_or_too_long_leads_to_the_blob(tmp_path: Path, part: bytes) -> None:
    target = tmp_path / "model"
    (tmp_path / "model.part").write_bytes(part)
    client(serve_blob([])).download_blob(sha256_hex(BLOB), target)
    assert target.read_bytes() == BLOB
    assert list(tmp_path.iterdir()) == [target]


def test_a_damaged_download_is_thrown_away(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(PeerFault, match=r"^blob_damaged:"):
        client(serve_blob([])).download_blob("0" * 64, target)
    assert list(tmp_path.iterdir()) == []


def test_proxies_come_from_settings_and_never_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    transport = counted_transport(ssl.create_default_context(), None, Meter("c:1"))
    assert type(getattr(transport, "_pool")).__name__ == "ConnectionPool"  # noqa: B009 (a private part, looked at on purpose)
    through = counted_transport(ssl.create_default_context(), "http://proxy.example:3128", Meter("c:1"))
    assert type(getattr(through, "_pool")).__name__ == "HTTPProxy"  # noqa: B009
