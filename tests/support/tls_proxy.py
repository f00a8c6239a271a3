"""Gives an emulator an https address on the loopback interface, with a certificate of a CA that nobody else trusts."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass
class TlsProxy:
    """The proxy's address, the file with its CA's certificate, and all bytes that clients sent."""

    url: str
    ca_file: Path
    received: bytearray

    def count_requests(self, method: str, agent: bytes) -> int:
        """Return the number of requests with this method whose user agent contains `agent`."""
        heads = bytes(self.received).split(f"{method} /".encode())[1:]
        return sum(agent in head.split(b"\r\n\r\n")[0].lower() for head in heads)


@contextmanager
def run_tls_proxy(target: str, folder: Path) -> Iterator[TlsProxy]:
    """Forward connections to the http address `target` while the block runs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_write_certificate(folder))
    received, upstream = bytearray(), urlsplit(target)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection((upstream.hostname, upstream.port)) as server,
            ):
                threading.Thread(target=_forward, args=(server, client, None), daemon=True).start()
                _forward(client, server, received)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield TlsProxy(f"https://127.0.0.1:{server.server_address[1]}", folder / "ca.pem", received)
        server.shutdown()


def _forward(source: socket.socket, target: socket.socket, copy: bytearray | None) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            if copy is not None:
                copy += chunk
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _write_certificate(folder: Path) -> Path:
    """Write the CA's certificate to ca.pem, and a key with a certificate for 127.0.0.1 to the file that is returned."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA of the tests")])
    now = datetime.datetime.now(datetime.UTC)

    def build(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(ca_name, name, public_key, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = build(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    host = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    own = build(host, key.public_key()).add_extension(names, False)
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    path = folder / "server.pem"
    key_bytes = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)
    path.write_bytes(key_bytes + own.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    return path
