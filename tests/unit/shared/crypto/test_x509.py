"""The private authority, checked by the TLS implementation that will rely on it (PROTOCOLS C4)."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.crypto import x509
from shared.crypto.secret import Secret
from shared.crypto.x509 import Authority, TlsKey
from shared.errors import InputError, Misuse, PeerFault

NOW = datetime.now(UTC)
PASSWORD = Secret(bytes(range(256)))  # any bytes, also 0x00
ALPHA = x509.create_authority("alpha", NOW)
BETA = x509.create_authority("beta", NOW)


class Party:
    """One end of a TLS connection in memory."""

    def __init__(
        self, folder: Path, root: Authority, chain: tuple[bytes, bytes] | None, key: TlsKey, *, server: bool
    ) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(cadata=root.root.cert_der)
        self.context.verify_mode = ssl.CERT_REQUIRED
        if chain is not None:
            cert_file, key_file = folder / "cert.pem", folder / "key.pem"
            cert_file.write_bytes(x509.pem(*chain))
            key_file.write_bytes(key.to_encrypted_pem(PASSWORD))
            self.context.load_cert_chain(cert_file, key_file, password=PASSWORD.reveal)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server else "coordinator.example"
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=name)


def _until_blocked(act: Callable[[], object]) -> bool:
    try:
        act()
    except ssl.SSLWantReadError:
        return False
    return True


def handshake(client: Party, server: Party) -> ssl.SSLObject:
    """Run the handshake to its end on both sides and exchange a byte; return the server's side or raise SSLError."""
    done = {client: False, server: False}
    for _ in range(10):
        for party, peer in ((client, server), (server, client)):
            try:
                done[party] = done[party] or _until_blocked(party.tls.do_handshake)
            finally:
                peer.incoming.write(party.outgoing.read())
    assert all(done.values())
    client.tls.write(b"x")  # in TLS 1.3 the client learns only afterwards that its certificate was refused
    server.incoming.write(client.outgoing.read())
    assert server.tls.read(1) == b"x"
    return server.tls


@pytest.fixture
def server(tmp_path: Path) -> Party:
    key = TlsKey.generate()
    cert = x509.issue_server_certificate(ALPHA.server, key, ["coordinator.example", "127.0.0.1"], NOW)
    folder = tmp_path / "server"
    folder.mkdir()
    return Party(folder, ALPHA, (cert, ALPHA.server.cert_der), key, server=True)


def site(
    folder: Path, authority: Authority = ALPHA, *, trusts: Authority = ALPHA, at: datetime = NOW, days: int = 7
) -> Party:
    key = TlsKey.generate()
    cert = x509.issue_site_certificate(authority.clients, x509.make_csr(key), "alpha", "site-a", at, days)
    return Party(folder, trusts, (cert, authority.clients.cert_der), key, server=False)


def test_right_certificates_meet_and_name_the_site(tmp_path: Path, server: Party) -> None:
    tls = handshake(site(tmp_path), server)
    der = tls.getpeercert(binary_form=True)
    assert der is not None
    read = x509.read_site_certificate(der)
    assert (read.federation, read.site_id) == ("alpha", "site-a")
    assert read.not_before <= NOW - timedelta(minutes=4)
    assert timedelta(days=6, hours=23) < read.not_after - NOW <= timedelta(days=7)
    assert len(read.sha256) == 64
    assert int(read.serial, 16) > 0


def test_client_of_another_authority_is_refused(tmp_path: Path, server: Party) -> None:
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(site(tmp_path, BETA), server)


def test_server_of_another_authority_is_refused(tmp_path: Path, server: Party) -> None:
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(site(tmp_path, trusts=BETA), server)


def test_expired_client_is_refused(tmp_path: Path, server: Party) -> None:
    with pytest.raises(ssl.SSLError, match="expired"):
        handshake(site(tmp_path, at=NOW - timedelta(days=8)), server)


def test_client_from_the_future_is_refused_but_a_slow_clock_is_not(tmp_path: Path, server: Party) -> None:
    with pytest.raises(ssl.SSLError, match="not yet valid"):
        handshake(site(tmp_path, at=NOW + timedelta(hours=1)), server)


def test_issued_by_a_clock_four_minutes_ahead_is_accepted(tmp_path: Path, server: Party) -> None:
    assert handshake(site(tmp_path, at=NOW + timedelta(minutes=4)), server).getpeercert()


def test_missing_client_certificate_is_refused(tmp_path: Path, server: Party) -> None:
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(Party(tmp_path, ALPHA, None, TlsKey.generate(), server=False), server)


def test_server_authority_cannot_make_a_client(tmp_path: Path, server: Party) -> None:
    key = TlsKey.generate()
    cert = x509.issue_site_certificate(ALPHA.server, x509.make_csr(key), "alpha", "site-a", NOW)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(Party(tmp_path, ALPHA, (cert, ALPHA.server.cert_der), key, server=False), server)


def test_clients_authority_cannot_make_a_server(tmp_path: Path) -> None:
    key = TlsKey.generate()
    cert = x509.issue_server_certificate(ALPHA.clients, key, ["coordinator.example"], NOW)
    rogue = Party(tmp_path, ALPHA, (cert, ALPHA.clients.cert_der), key, server=True)
    (tmp_path / "site").mkdir()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(site(tmp_path / "site"), rogue)


def test_a_site_cannot_issue_certificates(tmp_path: Path, server: Party) -> None:
    own = TlsKey.generate()
    cert = x509.issue_site_certificate(ALPHA.clients, x509.make_csr(own), "alpha", "site-a", NOW)
    key = TlsKey.generate()
    forged = x509.issue_site_certificate(x509.Issuer(cert, own), x509.make_csr(key), "alpha", "site-b", NOW)
    with pytest.raises(PeerFault, match="certificate_untrusted"):
        x509.check_issued_by(forged, cert)
    party = Party(tmp_path, ALPHA, (forged, cert), key, server=False)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(party, server)


def test_server_name_is_checked(tmp_path: Path) -> None:
    key = TlsKey.generate()
    cert = x509.issue_server_certificate(ALPHA.server, key, ["other.example", "10.0.0.1", "::1"], NOW)
    other = Party(tmp_path, ALPHA, (cert, ALPHA.server.cert_der), key, server=True)
    (tmp_path / "site").mkdir()
    with pytest.raises(ssl.SSLError, match="mismatch"):
        handshake(site(tmp_path / "site"), other)


@pytest.mark.parametrize(
    "names", [[], [""], ["a b"], ["-a.example"], ["a..b"], ["x" * 64 + ".example"], ["*"], ["caf\u00e9.example"]]
)
def test_malformed_server_names(names: list[str]) -> None:
    with pytest.raises(InputError, match="server_name_malformed"):
        x509.issue_server_certificate(ALPHA.server, TlsKey.generate(), names, NOW)


def test_request_must_be_signed_by_its_own_key() -> None:
    csr = bytearray(x509.make_csr(TlsKey.generate()))
    other = x509.make_csr(TlsKey.generate())
    csr[-1] ^= 1
    for bad in (bytes(csr), other[:-1], b"", b"\x30\x00", other + b"\x00"):
        with pytest.raises(PeerFault, match="csr_invalid"):
            x509.issue_site_certificate(ALPHA.clients, bad, "alpha", "site-a", NOW)


@pytest.mark.parametrize(
    ("federation", "site_id"), [("alpha", "Site A"), ("alpha", "coordinator"), ("alpha", "a/b"), ("a/../b", "site-a")]
)
def test_ids_are_checked_before_they_enter_a_name(federation: str, site_id: str) -> None:
    with pytest.raises(InputError, match="id_malformed"):
        x509.issue_site_certificate(ALPHA.clients, x509.make_csr(TlsKey.generate()), federation, site_id, NOW)


def test_only_site_certificates_are_read_as_such() -> None:
    server = x509.issue_server_certificate(ALPHA.server, TlsKey.generate(), ["coordinator.example"], NOW)
    for der in (server, ALPHA.root.cert_der, ALPHA.clients.cert_der, b"", b"\x30\x03\x02\x01\x00", server[:-1]):
        with pytest.raises(PeerFault, match="certificate_malformed"):
            x509.read_site_certificate(der)


def test_a_certificate_does_not_outlive_its_issuer() -> None:
    late = NOW + timedelta(days=3649)
    cert = x509.issue_site_certificate(ALPHA.clients, x509.make_csr(TlsKey.generate()), "alpha", "site-a", late)
    assert x509.read_site_certificate(cert).not_after < late + timedelta(days=2)


def test_issuers_and_pins() -> None:
    cert = x509.issue_site_certificate(ALPHA.clients, x509.make_csr(TlsKey.generate()), "alpha", "site-a", NOW)
    x509.check_issued_by(cert, ALPHA.clients.cert_der)
    x509.check_issued_by(ALPHA.clients.cert_der, ALPHA.root.cert_der)
    x509.check_issued_by(ALPHA.root.cert_der, ALPHA.root.cert_der)
    for issuer in (ALPHA.server, ALPHA.root, BETA.clients):
        with pytest.raises(PeerFault, match="certificate_untrusted"):
            x509.check_issued_by(cert, issuer.cert_der)
    with pytest.raises(PeerFault, match="certificate_malformed"):
        x509.check_issued_by(cert, b"")
    assert x509.spki_pin(ALPHA.root.cert_der) != x509.spki_pin(BETA.root.cert_der)
    assert len(x509.spki_pin(ALPHA.root.cert_der)) == 64
    with pytest.raises(PeerFault, match="certificate_malformed"):
        x509.spki_pin(b"x")


def test_pem_chains_keep_their_order() -> None:
    ders = [ALPHA.clients.cert_der, ALPHA.root.cert_der]
    assert x509.der_list(x509.pem(*ders)) == ders
    with pytest.raises(PeerFault, match="certificate_malformed"):
        x509.der_list(b"nothing here")
    with pytest.raises(PeerFault, match="certificate_malformed"):
        x509.pem(b"nothing here")


def test_keys_are_written_encrypted_only() -> None:
    key = TlsKey.generate()
    text = key.to_encrypted_pem(PASSWORD)
    assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert x509.make_csr(TlsKey.from_encrypted_pem(text, PASSWORD)) != b""
    assert "secret" in repr(key)
    for password in (Secret(b"wrong"), Secret(b"")):
        with pytest.raises(PeerFault, match="at_rest_damaged"):
            TlsKey.from_encrypted_pem(text, password)
    for size in (0, 1001):
        with pytest.raises(Misuse, match="key_length"):
            key.to_encrypted_pem(Secret(bytes(size)))
    with pytest.raises(PeerFault, match="at_rest_damaged"):
        TlsKey.from_encrypted_pem(b"no key", PASSWORD)
