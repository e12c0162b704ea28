"""The private TLS authority and its certificates (PROTOCOLS C4): DER and PEM bytes in, DER and PEM bytes out.

One root signs two intermediates of path length 0: `clients` issues only site certificates, `server` only the
coordinator's. Their extended key usage is limited too, so neither can stand in for the other even if its key is stolen.
TLS identity is transport only: no protocol signature and no roster entry rests on anything in this file.
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.canonical import sha256_hex
from shared.crypto import tls_key
from shared.errors import InputError, PeerFault
from shared.ids import check_id

TlsKey = tls_key.TlsKey  # read with the certificates it is for
BACKDATED = timedelta(minutes=5)  # a site's clock may be behind the coordinator's
_ROOT_DAYS = 20 * 365
_INTERMEDIATE_DAYS = 10 * 365
_NAME_LIMIT = 64  # X.520 upper bound of a common name
_SPIFFE = re.compile(r"spiffe://([a-z0-9._-]{1,64})/site/([a-z0-9._-]{1,64})")
_DNS_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_UNREADABLE = (
    ValueError,
    TypeError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
_Extensions = list[tuple[x509.ExtensionType, bool]]  # with whether a reader must understand it


@dataclass(frozen=True, slots=True)
class _Wanted:
    common_name: str
    public: ec.EllipticCurvePublicKey
    extensions: _Extensions


class Issuer(NamedTuple):
    """A certificate that may sign others, with its key."""

    cert_der: bytes
    key: TlsKey


@dataclass(frozen=True, slots=True)
class Authority:
    """The whole private authority as `create_authority` makes it. The root's key belongs offline afterwards."""

    root: Issuer
    clients: Issuer
    server: Issuer


@dataclass(frozen=True, slots=True)
class SiteCertificate:
    """What a site's TLS certificate says. `serial` and `sha256` (of the DER) are lowercase hex."""

    federation: str
    site_id: str
    serial: str
    not_before: datetime
    not_after: datetime
    sha256: str


def create_authority(federation: str, now: datetime) -> Authority:
    """Make root, clients and server authority for a federation (PROTOCOLS C4).

    Raises:
        InputError: ``id_malformed``.
    """
    check_id(federation, "federation")
    root_key = TlsKey.generate()
    wanted = _Wanted(_authority_name(federation, "root"), root_key.public, _authority_extensions(1, None))
    root = Issuer(_sign(wanted, None, root_key, now, _ROOT_DAYS), root_key)

    def intermediate(role: str, usage: x509.ObjectIdentifier) -> Issuer:
        key = TlsKey.generate()
        wanted = _Wanted(_authority_name(federation, role), key.public, _authority_extensions(0, usage))
        return Issuer(_sign(wanted, root.cert_der, root_key, now, _INTERMEDIATE_DAYS), key)

    clients = intermediate("clients", ExtendedKeyUsageOID.CLIENT_AUTH)
    return Authority(root, clients, intermediate("server", ExtendedKeyUsageOID.SERVER_AUTH))


def make_csr(key: TlsKey) -> bytes:
    """Return a DER certificate signing request for `key`; its subject is empty because nobody reads it."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key.ec_key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def issue_site_certificate(
    clients: Issuer, csr_der: bytes, federation: str, site_id: str, now: datetime, days: int = 7
) -> bytes:
    """Return a client certificate (DER) for the key in a request, naming ``spiffe://<federation>/site/<site_id>``.

    Everything but the key is ignored in the request: subject, extensions, attributes.

    Raises:
        PeerFault: ``csr_invalid`` for a request that does not parse, is not signed by its own key, or has no P-256 key.
        InputError: ``id_malformed``.
    """
    check_id(federation, "federation")
    check_id(site_id, "site id")
    try:
        request = x509.load_der_x509_csr(csr_der)
        public = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise PeerFault("csr_invalid", "the certificate request cannot be read") from error
    if not valid:
        raise PeerFault("csr_invalid", "the certificate request is not signed by the key it asks for")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise PeerFault("csr_invalid", "the certificate request has no ECDSA P-256 key")
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{federation}/site/{site_id}")])
    wanted = _Wanted(site_id, public, _leaf_extensions(names, ExtendedKeyUsageOID.CLIENT_AUTH))
    return _sign(wanted, clients.cert_der, clients.key, now, days)


def issue_server_certificate(server: Issuer, key: TlsKey, names: list[str], now: datetime, days: int = 90) -> bytes:
    """Return the coordinator's certificate for DNS names and IP addresses.

    Raises:
        InputError: ``server_name_malformed`` for an empty list or a name that is neither.
    """
    if not names:
        raise InputError("server_name_malformed", "a server certificate needs at least one DNS name or IP address")
    alternatives = x509.SubjectAlternativeName([_server_name(name) for name in names])
    extensions = _leaf_extensions(alternatives, ExtendedKeyUsageOID.SERVER_AUTH)
    return _sign(_Wanted(names[0][:_NAME_LIMIT], key.public, extensions), server.cert_der, server.key, now, days)


def read_site_certificate(der: bytes) -> SiteCertificate:
    """Read a site certificate whose chain TLS has already verified: exactly the shape `issue_site_certificate` makes.

    Raises:
        PeerFault: ``certificate_malformed``.
    """
    try:
        cert = x509.load_der_x509_certificate(der)
        usages = list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        names = list(cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        is_authority = cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except _UNREADABLE as error:
        raise PeerFault("certificate_malformed", f"not a site certificate: {str(error)[:200]}") from error
    if is_authority or usages != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise PeerFault("certificate_malformed", "not a site certificate: it is not for TLS clients only")
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise PeerFault("certificate_malformed", "not a site certificate: it does not have exactly one URI name")
    federation, site_id = _read_spiffe(names[0].value)
    serial = f"{cert.serial_number:x}"
    span = cert.not_valid_before_utc, cert.not_valid_after_utc
    return SiteCertificate(federation, site_id, serial, *span, sha256_hex(der))


def check_issued_by(cert_der: bytes, issuer_der: bytes) -> None:
    """Return if `issuer_der` signed `cert_der` directly and may sign certificates.

    Raises:
        PeerFault: ``certificate_malformed`` when either cannot be read, ``certificate_untrusted`` when it did not.
    """
    try:
        cert, issuer = x509.load_der_x509_certificate(cert_der), x509.load_der_x509_certificate(issuer_der)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise PeerFault("certificate_malformed", "a certificate cannot be read") from error
    try:
        cert.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise PeerFault("certificate_untrusted", "a certificate was not issued by the expected authority") from error
    if not constraints.ca:
        raise PeerFault("certificate_untrusted", "the issuing certificate is not an authority")


def spki_pin(cert_der: bytes) -> str:
    """Return the hex SHA-256 of the certificate's SubjectPublicKeyInfo, the pin of an invitation (PROTOCOLS C2).

    Raises:
        PeerFault: ``certificate_malformed``.
    """
    try:
        key = x509.load_der_x509_certificate(cert_der).public_key()
        return sha256_hex(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PeerFault("certificate_malformed", "a certificate cannot be read") from error


def pem(*ders: bytes) -> bytes:
    """Return certificates as one PEM chain, in the order given.

    Raises:
        PeerFault: ``certificate_malformed``.
    """
    try:
        return b"".join(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in ders)
    except ValueError as error:
        raise PeerFault("certificate_malformed", "a certificate cannot be read") from error


def der_list(pem_bytes: bytes) -> list[bytes]:
    """Return the certificates of a PEM chain as DER, in order.

    Raises:
        PeerFault: ``certificate_malformed``.
    """
    try:
        return [cert.public_bytes(serialization.Encoding.DER) for cert in x509.load_pem_x509_certificates(pem_bytes)]
    except ValueError as error:
        raise PeerFault("certificate_malformed", "a PEM certificate chain cannot be read") from error


def _read_spiffe(uri: str) -> tuple[str, str]:
    match = _SPIFFE.fullmatch(uri)
    if match is None:
        raise PeerFault("certificate_malformed", f"its name {uri[:80]!r} is not spiffe://<federation>/site/<id>")
    try:
        return check_id(match[1], "federation"), check_id(match[2], "site id")
    except InputError as error:
        raise PeerFault("certificate_malformed", error.detail) from error


def _server_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if len(name) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in name.split(".")):
            raise InputError("server_name_malformed", f"{name[:80]!r} is no DNS name and no IP address") from None
        return x509.DNSName(name.lower())


def _authority_name(federation: str, role: str) -> str:
    return f"Mitral {federation}"[: _NAME_LIMIT - len(role) - 1] + f" {role}"


def _authority_extensions(path_length: int, usage: x509.ObjectIdentifier | None) -> _Extensions:
    extensions: _Extensions = [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (_key_usage(signs_certificates=True), True),
    ]
    if usage is not None:
        extensions.append((x509.ExtendedKeyUsage([usage]), False))
    return extensions


def _leaf_extensions(names: x509.SubjectAlternativeName, usage: x509.ObjectIdentifier) -> _Extensions:
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([usage]), False),
        (names, False),
    ]


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(wanted: _Wanted, issuer_der: bytes | None, signer: TlsKey, now: datetime, days: int) -> bytes:
    """Build and sign a certificate; without `issuer_der` it signs itself. It never outlives its issuer."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name)])
    now = now.astimezone(UTC).replace(microsecond=0)
    issuer_name, not_after = subject, now + timedelta(days=days)
    if issuer_der is not None:
        issuer = x509.load_der_x509_certificate(issuer_der)
        issuer_name, not_after = issuer.subject, min(not_after, issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder(issuer_name, subject, wanted.public, x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(wanted.public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public), critical=False)
    )
    for extension, critical in wanted.extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer.ec_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
