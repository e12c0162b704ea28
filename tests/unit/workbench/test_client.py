"""The REST client: one trust root, errors as the coordinator meant them, digests checked, tokens never shown."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from shared.canonical import b64u, sha256_hex
from shared.crypto.x509 import create_authority
from shared.errors import InputError, MitralError, PeerFault, Refusal, Unavailable
from shared.protocol.problems import problem_document
from workbench.access import ENVIRONMENT, load_access
from workbench.client import CoordinatorClient

TOKEN = "MT1-do-not-print-me"
ROOT = create_authority("valve", datetime(2026, 11, 21, tzinfo=UTC)).root.cert_der
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def access_file(tmp_path: Path) -> Path:
    path = tmp_path / "researcher.access.json"
    content = {"v": 1, "kind": "access", "url": "https://127.0.0.1:8443", "root": b64u(ROOT)}
    path.write_text(json.dumps({**content, "operator": "ann", "role": "researcher", "token": TOKEN}))
    path.chmod(0o600)
    return path


def client_of(access_file: Path, handler: Handler) -> CoordinatorClient:
    return CoordinatorClient(load_access(access_file), httpx.MockTransport(handler))


def test_every_request_carries_the_token_and_no_repr_shows_it(access_file: Path) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"operator": "ann", "roles": ["researcher"], "federation": "valve"})

    with client_of(access_file, handler) as client:
        assert client.whoami()["federation"] == "valve"
        assert TOKEN not in repr(client.access)
    assert seen[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert str(seen[0].url) == "https://127.0.0.1:8443/v1/whoami"


def test_the_environment_names_the_access_file(access_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(access_file))
    assert load_access(None).operator == "ann"


def test_no_access_file_is_an_error_that_says_how_to_name_one() -> None:
    with pytest.raises(InputError, match=ENVIRONMENT) as caught:
        load_access(None)
    assert caught.value.code == "access_file_missing"


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX thing")
def test_an_access_file_that_others_can_read_is_refused(access_file: Path) -> None:
    access_file.chmod(0o644)
    with pytest.raises(InputError) as caught:
        load_access(access_file)
    assert caught.value.code == "access_file_permissions"


@pytest.mark.parametrize("change", [{"url": "http://127.0.0.1"}, {"token": None}, {"extra": 1}, {"root": "%%%"}])
def test_a_malformed_access_file_is_refused_without_showing_the_token(
    access_file: Path, change: dict[str, object]
) -> None:
    content = json.loads(access_file.read_text())
    access_file.write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError) as caught:
        load_access(access_file)
    assert caught.value.code == "access_file_malformed"
    assert TOKEN not in caught.value.diagnostics()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Refusal("data_changed", "not in this hospital"), Refusal),
        (InputError("id_malformed", "X"), InputError),
        (Unavailable("suite_unavailable"), Unavailable),
    ],
)
def test_a_problem_document_becomes_the_error_it_stands_for(
    access_file: Path, error: MitralError, kind: type[MitralError]
) -> None:
    document = problem_document(error, "r1")
    with (
        client_of(access_file, lambda _: httpx.Response(error.meaning.status, json=document)) as client,
        pytest.raises(kind) as caught,
    ):
        client.study("heart-1")
    assert (caught.value.code, caught.value.detail) == (error.code, error.detail)


@pytest.mark.parametrize("answer", [httpx.Response(502, text="<html>proxy</html>"), httpx.Response(500, json={"a": 1})])
def test_an_answer_that_is_not_ours_is_not_taken_for_one(access_file: Path, answer: httpx.Response) -> None:
    with client_of(access_file, lambda _: answer) as client, pytest.raises(Unavailable) as caught:
        client.whoami()
    assert caught.value.code == "coordinator_answer"


def failing(message: str) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(message, request=request)

    return handler


def test_an_unreachable_coordinator_is_unavailable(access_file: Path) -> None:
    with client_of(access_file, failing("refused")) as client:
        with pytest.raises(Unavailable) as caught:
            client.whoami()
        assert caught.value.code == "coordinator_unreachable"
        assert not client.is_ready()


def test_a_certificate_of_another_authority_is_not_a_network_problem(access_file: Path) -> None:
    handler = failing("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
    with client_of(access_file, handler) as client, pytest.raises(PeerFault) as caught:
        client.whoami()
    assert caught.value.code == "certificate_untrusted"


def test_blobs_go_and_come_by_digest(access_file: Path) -> None:
    store: dict[str, bytes] = {}

    def handler(request: httpx.Request) -> httpx.Response:
        digest = request.url.path.rpartition("/")[2]
        if request.method == "PUT":
            store[digest] = request.content
            return httpx.Response(200, json={"sha256": digest})
        return httpx.Response(200, content=store[digest])

    with client_of(access_file, handler) as client:
        digest = client.upload_blob(b"weights")
        assert digest == sha256_hex(b"weights")
        assert client.blob(digest) == b"weights"
        store[digest] = b"other"
        with pytest.raises(PeerFault) as caught:
            client.blob(digest)
    assert caught.value.code == "blob_damaged"


def test_an_answer_to_watch_without_its_keys_is_malformed(access_file: Path) -> None:
    with (
        client_of(access_file, lambda _: httpx.Response(200, json={"cursor": "x"})) as client,
        pytest.raises(PeerFault) as caught,
    ):
        client.watch("heart-1")
    assert caught.value.code == "message_malformed"
