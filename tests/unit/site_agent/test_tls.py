"""TLS failures by name, from real handshakes in memory; and certificates that are named before anybody is dialled."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

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
from shared.errors import InputError, Unavailable
from site_agent.tls import ClientCertificate, load_client_certificate, server_context, tls_code

NOW = datetime.now(UTC)
PASSWORD = Secret(b"password")


@cache
def authority(name: str = "alpha") -> Authority:
    return create_authority(name, NOW)


@cache
def site_key() -> TlsKey:
    return TlsKey.generate()


def client_chain(of: Authority, *, at: datetime = NOW, days: int = 7) -> bytes:
    leaf = issue_site_certificate(of.clients, make_csr(site_key()), "alpha", "site-a", at, days)
    return pem(leaf, of.clients.cert_der)


def client(folder: Path, root: bytes, chain: bytes | None) -> ssl.SSLContext:
    context = server_context(root, None)
    if chain is not None:
        load_client_certificate(
            context, folder / "site.pem", chain=chain, key=site_key().to_encrypted_pem(PASSWORD), password=PASSWORD
        )
    return context


def server(folder: Path, of: Authority, trusted: Authority, names: list[str]) -> ssl.SSLContext:
    key = TlsKey.generate()
    leaf = issue_server_certificate(of.server, key, names, NOW)
    file = folder / "server.pem"
    file.write_bytes(pem(leaf, of.server.cert_der) + key.to_encrypted_pem(PASSWORD))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, password=PASSWORD.reveal)
    context.load_verify_locations(cadata=trusted.root.cert_der)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def handshake(client_side: ssl.SSLContext, server_side: ssl.SSLContext) -> None:
    """Shake hands in memory and read a byte; raises what the client sees."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client_side.wrap_bio(to_client, to_server, server_hostname="localhost")
    there = server_side.wrap_bio(to_server, to_client, server_side=True)
    for step in (here.do_handshake, there.do_handshake) * 4:
        try:
            step()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            if step == here.do_handshake:
                raise
            break  # the server has failed and sent an alert, which the client reads below
    else:
        there.write(b"x")
    here.read(1)


def test_the_right_certificates_shake_hands(tmp_path: Path) -> None:
    good = client(tmp_path, authority().root.cert_der, client_chain(authority()))
    handshake(good, server(tmp_path, authority(), authority(), ["localhost"]))


@pytest.mark.parametrize(
    ("chain", "code"),
    [
        (lambda: client_chain(authority(), at=NOW - timedelta(days=30)), "tls_certificate_expired"),
        (lambda: client_chain(authority("another")), "tls_certificate_unknown"),
        (lambda: None, "tls_certificate_required"),
    ],
)
def test_what_the_coordinator_says_about_our_certificate_has_a_code(
    tmp_path: Path, chain: Callable[[], bytes | None], code: str
) -> None:
    ours = client(tmp_path, authority().root.cert_der, chain())
    with pytest.raises(ssl.SSLError) as caught:
        handshake(ours, server(tmp_path, authority(), authority(), ["localhost"]))
    assert tls_code(caught.value) == code


@pytest.mark.parametrize(("of", "names"), [("proxy", ["localhost"]), ("alpha", ["elsewhere.example"])])
def test_another_server_than_the_coordinator_is_not_trusted(tmp_path: Path, of: str, names: list[str]) -> None:
    ours = client(tmp_path, authority().root.cert_der, client_chain(authority()))
    with pytest.raises(ssl.SSLError) as caught:
        handshake(ours, server(tmp_path, authority(of), authority(), names))
    assert tls_code(caught.value) == "tls_untrusted"


def test_an_extra_root_lets_an_inspecting_proxy_pass(tmp_path: Path) -> None:
    extra = tmp_path / "hospital-ca.pem"
    extra.write_bytes(pem(authority("proxy").root.cert_der))
    ours = server_context(authority().root.cert_der, extra)
    theirs = server(tmp_path, authority("proxy"), authority(), ["localhost"])
    theirs.verify_mode = ssl.CERT_NONE
    handshake(ours, theirs)
    with pytest.raises(InputError, match=r"^extra_ca_unreadable:"):
        server_context(authority().root.cert_der, tmp_path / "missing.pem")


def test_a_failure_that_is_not_tls_has_no_code() -> None:
    assert tls_code(ConnectionRefusedError()) is None
    assert tls_code(ssl.SSLError(1, "something new")) == "tls_failed"
    wrapped = RuntimeError()
    wrapped.__cause__ = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    assert tls_code(wrapped) == "tls_certificate_unknown"


def test_an_own_certificate_that_cannot_work_is_named_before_dialling() -> None:
    certificate = ClientCertificate(NOW - timedelta(days=1), NOW + timedelta(days=6))
    certificate.check(NOW)
    with pytest.raises(Unavailable, match=r"^own_certificate_expired:"):
        certificate.check(NOW + timedelta(days=7))
    with pytest.raises(Unavailable, match=r"^own_certificate_not_yet_valid:"):
        certificate.check(NOW - timedelta(days=2))


def test_a_certificate_for_another_key_is_refused(tmp_path: Path) -> None:
    context = server_context(authority().root.cert_der, None)
    other = TlsKey.generate().to_encrypted_pem(PASSWORD)
    with pytest.raises(InputError, match=r"^certificate_key_mismatch:"):
        load_client_certificate(
            context, tmp_path / "site.pem", chain=client_chain(authority()), key=other, password=PASSWORD
        )
