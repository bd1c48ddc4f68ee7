"""A WSGI app on https://localhost, with a certificate that one browser is told to believe."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    # An answer is sent in one piece: what a browser does with its headers and with its body are one
    # step for whoever looks.
    wbufsize = -1

    def get_environ(self) -> dict[str, Any]:
        # By this wsgiref tells wsgi.url_scheme.
        return {**super().get_environ(), "HTTPS": "on"}

    def finish(self) -> None:
        with contextlib.suppress(OSError):  # the browser has gone
            super().finish()
        # Left open, it would be so until the garbage collector finds the app's environ, which has it.
        self.rfile.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Served(NamedTuple):
    base: str
    """The address, without a slash at its end."""
    flag: str
    """The flag of Chromium that makes it believe the certificate."""


@contextlib.contextmanager
def serving(app: Any) -> Iterator[Served]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pin = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "both.pem")
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(file)
    server = make_server("127.0.0.1", 0, app, _Server, _Handler)
    # The handshake is made by the request's own thread: a connection that a browser opens and
    # leaves silent must not keep others waiting.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Served(
            f"https://localhost:{server.server_port}",
            f"--ignore-certificate-errors-spki-list={pin}",
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
