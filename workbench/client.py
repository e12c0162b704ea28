"""The operator's side of the coordinator's REST interface. Trusts the access file's root certificate and no other."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

import httpx

from shared.canonical import JsonObject, parse_strict, sha256_hex
from shared.errors import InputError, MitralError, PeerFault, Unavailable
from shared.protocol.problems import error_from_problem
from shared.protocol.study import Plan, StudyView
from workbench.access import Access

POLL_SECONDS = 25
_TIMEOUT = httpx.Timeout(30, connect=10)


class CoordinatorClient:
    """One operator's connection to a coordinator; use it in a `with` statement.

    Every method raises what the coordinator answered (`error_from_problem`), or:
        Unavailable: ``coordinator_unreachable``, ``coordinator_answer``.
        PeerFault: ``certificate_untrusted``, ``blob_damaged``, ``message_malformed``.
    """

    def __init__(self, access: Access, transport: httpx.BaseTransport | None = None) -> None:
        """Prepare a connection, or use `transport` for it; nothing is sent yet."""
        self.access = access
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cadata=access.root)
        except ssl.SSLError as error:
            raise InputError(
                "access_file_malformed", "the root certificate of the access file cannot be read"
            ) from error
        self._http = httpx.Client(
            base_url=access.url,
            verify=context,
            transport=transport,
            timeout=_TIMEOUT,
            # A proxy from the environment is right for a distant coordinator and wrong for this machine.
            trust_env=not _is_loopback(httpx.URL(access.url).host),
            headers={"Authorization": f"Bearer {access.token.reveal().decode()}"},
        )

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._http.close()

    # --- who and what ------------------------------------------------------------------------------------------------

    def whoami(self) -> JsonObject:
        """Return {"operator", "roles", "federation"}."""
        return self._json("GET", "/v1/whoami")

    def sites(self) -> list[JsonObject]:
        """Return the sites as operators see them."""
        return list(self._json("GET", "/v1/sites")["sites"])

    def rosters(self) -> list[JsonObject]:
        """Return every roster version, oldest first, and who approved it."""
        return sorted(self._json("GET", "/v1/rosters")["rosters"], key=lambda one: int(one["version"]))

    def witnesses(self) -> JsonObject:
        """Return how far the log is final and what each site cosigned: ``size final quorum cosigned``."""
        found = self._json("GET", "/v1/audit/witnesses")["log"]
        return {} if found is None else dict(found)

    def is_ready(self) -> bool:
        """Answer whether the coordinator serves; no token is needed for that."""
        try:
            self._json("GET", "/v1/health/ready")
        except MitralError:
            return False
        return True

    # --- studies -----------------------------------------------------------------------------------------------------

    def submit(self, plan: Plan) -> StudyView:
        """Submit a study protocol; its first model version has to be uploaded before."""
        return StudyView.check(self._json("POST", "/v1/studies", plan.canonical()))

    def study(self, study: str) -> StudyView:
        """Return one study."""
        return StudyView.check(self._json("GET", f"/v1/studies/{study}"))

    def command(self, study: str, verb: str) -> JsonObject:
        """Start, pause or stop a study."""
        return self._json("POST", f"/v1/studies/{study}/{verb}")

    def watch(
        self, study: str, cursor: str = "", wait_seconds: int = POLL_SECONDS
    ) -> tuple[str, StudyView, JsonObject]:
        """Return (cursor, study, what each site does) as soon as it differs from `cursor`, or after `wait_seconds`."""
        answer = self._json(
            "GET",
            f"/v1/studies/{study}/watch",
            params={"wait": str(wait_seconds), "cursor": cursor},
            timeout=httpx.Timeout(wait_seconds + 30, connect=10),
        )
        try:
            return str(answer["cursor"]), StudyView.check(answer["study"]), dict(answer["sites"])
        except (KeyError, TypeError, ValueError) as error:
            raise PeerFault("message_malformed", f"the answer to watch lacks {error}") from error

    # --- blobs and the log -------------------------------------------------------------------------------------------

    def upload_blob(self, raw: bytes) -> str:
        """Store bytes under their SHA-256 and return it."""
        digest = sha256_hex(raw)
        self._request("PUT", f"/v1/blobs/{digest}", content=raw, headers={"Content-Type": "application/octet-stream"})
        return digest

    def blob(self, digest: str) -> bytes:
        """Return the bytes with this SHA-256; other bytes are refused."""
        raw = self._request("GET", f"/v1/blobs/{digest}").content
        if sha256_hex(raw) != digest:
            raise PeerFault("blob_damaged", f"asked for {digest[:16]}..., the bytes have {sha256_hex(raw)[:16]}...")
        return raw

    def log_checkpoint(self) -> str:
        """Return the newest signed checkpoint of the audit log, as text."""
        return self._request("GET", "/v1/audit/checkpoint").text

    def log_export(self) -> bytes:
        """Return the audit log as a zip file that `mitral audit verify` reads."""
        return self._request("GET", "/v1/audit/export").content

    # --- the wire ----------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, content: bytes | None = None, **more: Any) -> JsonObject:  # noqa: ANN401 (httpx)
        headers = {"Content-Type": "application/json"} if content is not None else {}
        response = self._request(method, path, content=content, headers=headers, **more)
        return parse_strict(response.content)

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 (httpx)
        with _translated(self.access.url):
            response = self._http.request(method, path, **more)
        if response.is_success:
            return response
        raise _error_of(response)


def _error_of(response: httpx.Response) -> MitralError:
    try:
        known = error_from_problem(parse_strict(response.content))
    except MitralError:
        known = None
    if known is not None:
        return known
    return Unavailable(
        "coordinator_answer", f"status {response.status_code} from {response.request.url.host}, not in our form"
    )


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise PeerFault("certificate_untrusted", f"{url}: {text[:200]}") from error
        raise Unavailable("coordinator_unreachable", f"{url}: {text[:200] or type(error).__name__}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
