"""Enrolment: keys are made once, the same request goes out every time, the pin decides (PROTOCOLS C2)."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from shared.canonical import JsonObject, b64u, from_b64u
from shared.clock import FixedClock, SystemClock, timestamp
from shared.crypto.fingerprint import site_fingerprint
from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.secret import Secret
from shared.crypto.signed_envelope import open_envelope
from shared.crypto.x509 import Authority, create_authority, issue_site_certificate, spki_pin
from shared.errors import InputError, MitralError, PeerFault, Refusal
from shared.protocol.enrolment import EnrolmentRequest, Invitation
from shared.protocol.problems import MEDIA_TYPE, problem_document
from site_agent import enrolment
from site_agent.answers import Retry
from site_agent.coordinator_client import CoordinatorClient
from site_agent.identity import read_identity
from site_agent.state_folder import StateFolder
from site_agent.storage.database import Database
from site_agent.storage.enrolment import read_enrolment
from site_agent.storage.schema import migrate
from tests.support.fake_coordinator import reply

NOW = SystemClock().now()


class Registrar:
    """The two enrolment routes, with a certificate authority behind them."""

    def __init__(self) -> None:
        self.authority: Authority = create_authority("alpha", NOW)
        self.issuing = self.authority
        self.idk = SigningKey.generate()
        self.requests: list[bytes] = []
        self.approved = False
        self.rejected = False
        self.lose_answers = 0
        self.site = "site-a"
        self.change: Callable[[JsonObject], JsonObject] = lambda granted: granted

    @property
    def invitation(self) -> Invitation:
        root = self.authority.root.cert_der
        return Invitation(
            v="SA1", kind="invitation", federation="alpha", site="site-a", url="https://coordinator",
            pin=spki_pin(root), root=b64u(root), token="FT1-SECRET", expires_at=timestamp(NOW + timedelta(hours=72)),
        )  # fmt: skip

    def handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.requests.append(request.content)
            if len(set(self.requests)) > 1:
                return self._problem(Refusal("enrolment_token_used", "other bytes"))
            if self.lose_answers:
                self.lose_answers -= 1
                raise httpx.ReadError("the answer is lost")
            message = EnrolmentRequest.parse(request.content)
            idk = VerifyKey.from_bytes(from_b64u(message.idk))
            idk.verify(from_b64u(message.attest), message.attested(self.invitation.pin))
            return reply(self._pending(message), 202)
        message = EnrolmentRequest.parse(self.requests[0])
        scheme, _, envelope = request.headers["Authorization"].partition(" ")
        assert scheme == "DSSE"
        open_envelope(from_b64u(envelope), "enrolment", {"site-a": VerifyKey.from_bytes(from_b64u(message.idk))})
        if self.rejected:
            return self._problem(Refusal("enrolment_rejected", "no"))
        if not self.approved:
            return reply(self._pending(message), 202)
        leaf = issue_site_certificate(self.issuing.clients, from_b64u(message.csr), "alpha", self.site, NOW)
        granted = {
            "request_id": "r1",
            "state": "approved",
            "site": self.site,
            "federation": "alpha",
            "chain": [b64u(leaf), b64u(self.issuing.clients.cert_der)],
            "root": b64u(self.issuing.root.cert_der),
            "coordinator_idk": b64u(self.idk.verify_key.bytes),
            "coordinator_log_vkey": "alpha/log/1+00000000+AAAA",
        }
        return reply(self.change(granted))

    def _pending(self, message: EnrolmentRequest) -> JsonObject:
        fingerprint = site_fingerprint(from_b64u(message.idk), from_b64u(message.log_key))
        return {"request_id": "r1", "state": "pending", "fingerprint": fingerprint, "retry_after_seconds": 1}

    def _problem(self, error: MitralError) -> httpx.Response:
        raw = json.dumps(problem_document(error, "r")).encode()
        return httpx.Response(error.meaning.status, content=raw, headers={"Content-Type": MEDIA_TYPE})


@pytest.fixture
def registrar() -> Registrar:
    return Registrar()


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path / "site")
    made.prepare()
    return made


@pytest.fixture
def database(folder: StateFolder) -> Iterator[Database]:
    opened = Database(folder.database, folder.kek(None))
    migrate(opened)
    yield opened
    opened.close()


def client(registrar: Registrar) -> CoordinatorClient:
    return CoordinatorClient(httpx.MockTransport(registrar.handle), "https://coordinator", FixedClock(NOW))


def enrol(database: Database, folder: StateFolder, registrar: Registrar, wait: float = 0) -> enrolment.Enrolled:
    shown: list[str] = []
    enrolment.prepare_request(database, registrar.invitation, "Hospital A", os.urandom)
    done = enrolment.enrol(
        database, folder, client(registrar), FixedClock(NOW), wait_seconds=wait, stop=Event(), show=shown.append
    )
    assert shown == [done.fingerprint]
    return done


def test_a_site_waits_for_approval_and_then_has_an_identity(
    database: Database, folder: StateFolder, registrar: Registrar
) -> None:
    first = enrol(database, folder, registrar)
    assert not first.approved
    with database.reading("look") as tx, pytest.raises(InputError, match=r"^not_enrolled:"):
        read_identity(tx)
    registrar.approved = True
    done = enrol(database, folder, registrar)
    assert done.approved
    assert done.fingerprint == first.fingerprint
    assert len(registrar.requests) == 1, "an acknowledged request is not sent again"
    with database.reading("look") as tx:
        identity = read_identity(tx)
    assert (identity.site, identity.federation, identity.fingerprint) == ("site-a", "alpha", first.fingerprint)
    assert identity.coordinator_idk == registrar.idk.verify_key


def test_a_lost_answer_strands_nobody(database: Database, folder: StateFolder, registrar: Registrar) -> None:
    registrar.lose_answers = 2
    registrar.approved = True
    for _ in range(2):
        with pytest.raises(Retry):
            enrol(database, folder, registrar)
    assert enrol(database, folder, registrar).approved
    assert len(registrar.requests) == 3
    assert len(set(registrar.requests)) == 1, "the very same bytes"


def test_secrets_lie_sealed_and_the_token_is_forgotten(
    database: Database, folder: StateFolder, registrar: Registrar
) -> None:
    enrol(database, folder, registrar)
    with database.reading("look") as tx:
        stored = read_enrolment(tx)
    assert stored is not None
    raw = folder.database.read_bytes() + folder.database.with_name("state.db-wal").read_bytes()
    for secret in (stored.idk_seed, stored.log_seed, stored.kem_seeds, stored.tls_password, Secret(b"FT1-SECRET")):
        assert secret.reveal() not in raw
    registrar.approved = True
    enrol(database, folder, registrar)
    with database.reading("look") as tx:
        assert tx.open(tx.value("SELECT request FROM enrolment"), "enrolment/request") == b""


def test_a_rejected_site_may_use_another_invitation(
    database: Database, folder: StateFolder, registrar: Registrar
) -> None:
    enrol(database, folder, registrar)
    registrar.rejected = True
    with pytest.raises(Refusal, match=r"^enrolment_rejected:"):
        enrol(database, folder, registrar)
    with database.reading("look") as tx:
        assert read_enrolment(tx) is None


def test_a_state_directory_belongs_to_one_site(database: Database, folder: StateFolder, registrar: Registrar) -> None:
    enrol(database, folder, registrar)
    other = registrar.invitation.model_copy(update={"site": "site-b"})
    with pytest.raises(InputError, match=r"^enrolled_elsewhere:"):
        enrolment.prepare_request(database, other, "", os.urandom)


def _another_authority(registrar: Registrar) -> None:
    registrar.issuing = create_authority("alpha", NOW)


def _another_site(registrar: Registrar) -> None:
    registrar.site = "site-b"


def _mixed_chain(registrar: Registrar) -> None:
    foreign = create_authority("alpha", NOW)
    registrar.change = lambda granted: {**granted, "chain": [granted["chain"][0], b64u(foreign.clients.cert_der)]}


def _short_chain(registrar: Registrar) -> None:
    registrar.change = lambda granted: {**granted, "chain": granted["chain"][:1]}


@pytest.mark.parametrize("attack", [_another_authority, _another_site, _mixed_chain, _short_chain])
def test_a_certificate_that_is_not_ours_is_not_stored(
    database: Database, folder: StateFolder, registrar: Registrar, attack: Callable[[Registrar], None]
) -> None:
    attack(registrar)
    registrar.approved = True
    with pytest.raises(PeerFault, match=r"^(enrolment_answer|certificate_untrusted):"):
        enrol(database, folder, registrar)
    with database.reading("look") as tx:
        stored = read_enrolment(tx)
    assert stored is not None
    assert (stored.state, stored.chain) == ("pending", None)


def test_another_fingerprint_in_the_answer_is_a_fault(
    database: Database, folder: StateFolder, registrar: Registrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending: Any = {
        "request_id": "r",
        "state": "pending",
        "fingerprint": "00000-00000-00000-00000",
        "retry_after_seconds": 1,
    }
    monkeypatch.setattr(registrar, "_pending", lambda _message: pending)
    with pytest.raises(PeerFault, match=r"^enrolment_answer:"):
        enrol(database, folder, registrar)


@pytest.mark.parametrize(
    "change",
    [
        {"pin": "0" * 64},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"root": "AAAA"},
        {"kind": "other"},
        {"url": "http://c"},
    ],
)
def test_a_bad_invitation_is_refused(registrar: Registrar, change: JsonObject) -> None:
    good = registrar.invitation
    assert enrolment.read_invitation(good.canonical(), NOW) == good
    with pytest.raises(InputError, match=r"^invitation_invalid:"):
        enrolment.read_invitation(json.dumps({**good.as_json(), **change}).encode(), NOW)


def test_waiting_ends_at_the_deadline_and_when_asked_to_stop(
    database: Database, folder: StateFolder, registrar: Registrar
) -> None:
    enrolment.prepare_request(database, registrar.invitation, "", os.urandom)
    clock = FixedClock(NOW)
    stop = Event()

    class Ticking(Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.elapsed_seconds += timeout or 0
            return False

    ticking = Ticking()
    waited = enrolment.enrol(
        database, folder, client(registrar), clock, wait_seconds=5, stop=ticking, show=lambda _text: None
    )
    assert not waited.approved
    assert 5 <= clock.elapsed_seconds < 7
    stop.set()
    stopped = enrolment.enrol(
        database, folder, client(registrar), clock, wait_seconds=500, stop=stop, show=lambda _text: None
    )
    assert not stopped.approved
