"""Requests of a scripted site over real TLS, one kept-alive connection per site."""

import http.client
import os
import ssl
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from shared.crypto import x509
from shared.crypto.secret import Secret
from tests.support.fake_site import Answer, FakeSite


def client_context(root: bytes, chain: list[bytes], key: x509.TlsKey | None) -> ssl.SSLContext:
    """Return a client's TLS settings: this root, and this certificate if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root)
    if chain and key is not None:
        password = Secret(os.urandom(16).hex().encode())
        with tempfile.TemporaryDirectory() as folder:
            certificates, private = Path(folder, "chain.pem"), Path(folder, "key.pem")
            certificates.write_bytes(x509.pem(*chain))
            private.write_bytes(key.to_encrypted_pem(password))
            context.load_cert_chain(certificates, private, password=password.reveal)
    return context


class Https:
    """The transport."""

    def __init__(self, url: str, root: bytes) -> None:
        self.host = urlsplit(url).hostname or ""
        self.port = urlsplit(url).port or 443
        self.root = root
        self.connections: dict[tuple[str, bool], http.client.HTTPSConnection] = {}

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str], site: FakeSite) -> Answer:
        key = (site.name, bool(site.chain))
        connection = self.connections.get(key)
        if connection is None:
            context = client_context(self.root, site.chain, site.tls)
            connection = http.client.HTTPSConnection(self.host, self.port, context=context, timeout=60)
            self.connections[key] = connection
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self.connections.pop(key, None)
            connection.close()
            raise

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()
