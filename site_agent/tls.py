"""TLS towards the coordinator: the private root is the only trust anchor, this site's certificate the only identity."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.crypto.secret import Secret
from shared.crypto.x509 import der_list, pem, read_site_certificate
from shared.errors import InputError, Unavailable
from site_agent.state_folder import write_whole

# What the coordinator's TLS stack says about our certificate, in OpenSSL's words.
_ALERTS = {
    "CERTIFICATE_EXPIRED": "tls_certificate_expired",
    "CERTIFICATE_REVOKED": "tls_certificate_revoked",
    "CERTIFICATE_UNKNOWN": "tls_certificate_unknown",
    "UNKNOWN_CA": "tls_certificate_unknown",
    "BAD_CERTIFICATE": "tls_certificate_unknown",
    "CERTIFICATE_REQUIRED": "tls_certificate_required",
    "ACCESS_DENIED": "tls_certificate_unknown",
}


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """When this site's certificate may be used."""

    not_before: datetime
    not_after: datetime

    def check(self, now: datetime) -> None:
        """Name a certificate that cannot work before anybody is dialled.

        Raises:
            Unavailable: ``own_certificate_expired``, ``own_certificate_not_yet_valid``.
        """
        if now > self.not_after:
            raise Unavailable(
                "own_certificate_expired", f"this site's TLS certificate was valid until {self.not_after}"
            )
        if now < self.not_before:
            raise Unavailable(
                "own_certificate_not_yet_valid",
                f"this site's TLS certificate is valid from {self.not_before}, it is {now}",
            )


def server_context(root_der: bytes, extra_roots: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the federation's root and nothing else.

    `extra_roots` is a hospital's own CA, given by explicit policy so that an inspecting proxy can be passed; then trust
    rests on signatures and fingerprints alone (PROTOCOLS 1.8).

    Raises:
        InputError: ``extra_ca_unreadable``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=pem(root_der).decode("ascii"))
    if extra_roots is not None:
        try:
            context.load_verify_locations(cafile=extra_roots)
        except (OSError, ssl.SSLError) as error:
            raise InputError("extra_ca_unreadable", f"{extra_roots}: {error}") from error
    return context


def load_client_certificate(
    context: ssl.SSLContext, file: Path, *, chain: bytes, key: bytes, password: Secret
) -> ClientCertificate:
    """Add this site's chain and encrypted key to `context`, through the PEM file that `ssl` insists on.

    Raises:
        InputError: ``certificate_key_mismatch`` when the certificate is for another key.
    """
    wanted = chain + key
    if not file.exists() or file.read_bytes() != wanted:
        write_whole(file, [wanted])
    try:
        context.load_cert_chain(file, password=password.reveal)
    except ssl.SSLError as error:
        raise InputError("certificate_key_mismatch", f"{file} does not hold a certificate and its key") from error
    leaf = read_site_certificate(der_list(chain)[0])
    return ClientCertificate(leaf.not_before, leaf.not_after)


def tls_code(error: BaseException) -> str | None:
    """Return the code of the TLS failure behind an exception, None when TLS is not to blame."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return None
        if isinstance(seen, ssl.SSLCertVerificationError):
            return "tls_untrusted"
        if isinstance(seen, ssl.SSLError):
            reason = f"{getattr(seen, 'reason', None) or ''} {seen}".upper().replace(" ", "_")
            alert = next((code for words, code in _ALERTS.items() if f"ALERT_{words}" in reason), None)
            return alert or "tls_failed"
        seen = seen.__cause__ or seen.__context__
    return None
