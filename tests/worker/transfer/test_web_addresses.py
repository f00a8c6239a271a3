"""Which web addresses a worker connects to, with which certificates, and through which proxies."""

from __future__ import annotations

import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from distributed_something.worker.job.addresses import check_input_address, classify_ip
from distributed_something.worker.job.failures import Failed
from distributed_something.worker.transfer import web
from distributed_something.worker.transfer.inputs import InputSource, fetch_inputs

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
PUBLIC_IP = "93.184.216.34"


@pytest.fixture(autouse=True)
def _clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, *web.CERTIFICATE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def fetch(url: str, folder: Path, *, allow_unsafe: bool = False) -> str:
    """Fetch a web input, and return its content."""
    source = InputSource(None, "ours", allow_unsafe=allow_unsafe)
    fetch_inputs(source, {url: "file"}, folder, sleep=lambda seconds: None)
    return (folder / "file").read_text()


class Server(BaseHTTPRequestHandler):
    """A web server and proxy. `/to/URL` redirects to the URL; every other path exists. It records the requests."""

    requests: list[str]
    tunnel_port: int

    def do_GET(self) -> None:
        self.requests.append(self.path)
        target = unquote(self.path.partition("/to/")[2])
        self.send_response(302 if target else 200)
        if target:
            self.send_header("Location", target)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"file")

    def do_CONNECT(self) -> None:
        self.requests.append(f"CONNECT {self.path}")
        with socket.create_connection(("127.0.0.1", self.tunnel_port)) as server:
            self.send_response(200)
            self.end_headers()
            pair = {self.connection: server, server: self.connection}
            while True:
                for ready in select.select(list(pair), [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    pair[ready].sendall(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def run_server(certificate: Path | None = None) -> Iterator[int]:
    """Run a server with `certificate`, or without TLS. Yield its port."""
    Server.requests = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for files.example and 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "files.example")])
    names: list[x509.GeneralName] = [
        x509.DNSName("files.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    ]  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoded_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(encoded_key + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.9.9.9", "169.254.169.254", "169.254.170.2", "0.0.0.0", "0", "2130706433", "0x7f.1",
        "0251.254.0251.0376", "localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1.",
        "0177.0.0.1", "[::1]", "[::]", "[fe80::1]",
        "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[64:ff9b::169.254.169.254]", "[2002:7f00:1::]",
        "[fd00:ec2::254]",
    ],
)  # fmt: skip
def test_an_address_of_the_machine_itself_or_its_link_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(Failed, match=r"is refused: ") as failed:
        fetch(f"https://{host}:9/a", tmp_path)
    is_credentials = "where AWS offers this machine's credentials; no input is there" in str(failed.value)
    assert is_credentials != ("set ALLOW_UNSAFE_INPUTS = 'True' in the config" in str(failed.value))
    assert failed.value.reason_class == "bad message"  # a retry would not help, and the machine is not to blame


@pytest.mark.parametrize(
    "address", [PUBLIC_IP, "10.0.0.5", "192.168.1.1", "172.16.0.1", "2606:2800:220:1::1", "fd12::1"]
)
def test_an_address_in_the_internet_or_in_ones_own_network_is_not_internal(address: str) -> None:
    assert classify_ip(address) is None


def test_an_address_without_encryption_is_refused_unless_the_config_allows_it(tmp_path: Path) -> None:
    with run_server() as port:
        for host, problem in (
            ("127.0.0.1", "the machine itself"),
            ("files.example", "is not encrypted, .*; use https"),
        ):
            with pytest.raises(Failed, match=problem):
                fetch(f"http://{host}:{port}/a", tmp_path)
        assert Server.requests == []
        assert fetch(f"http://127.0.0.1:{port}/a", tmp_path, allow_unsafe=True) == "file"


def resolve_names(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let each resolution of a name give the next of these addresses. IP addresses stand for themselves."""
    remaining, resolve = list(answers), socket.getaddrinfo

    def answer(host: str, *args: Any, **options: Any) -> Any:
        is_name = any(character.isalpha() for character in host) and ":" not in host
        return resolve(remaining.pop(0) if is_name else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.parametrize("answer", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:169.254.169.254"])
def test_a_name_that_resolves_to_an_internal_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    resolve_names(monkeypatch, answer)
    with pytest.raises(Failed, match=f"files.example is {answer}, (an address of the machine itself|where AWS offers)"):
        fetch("https://files.example/a", tmp_path)


def test_the_connection_is_made_to_the_address_that_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_names(monkeypatch, *[PUBLIC_IP, "127.0.0.1"] * 9)  # the name's address changes after each resolution
    connected: list[str] = []

    def connect(address: tuple[str, int], *_: Any, **options: Any) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(web, "create_connection", connect)
    with pytest.raises(Failed):
        fetch("https://files.example/a", tmp_path)
    assert set(connected) == {PUBLIC_IP}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://files.example/b", "not encrypted"), ("https://169.254.169.254/latest", "machine's credentials"),
        ("http://169.254.169.254/latest", "machine's credentials"), ("https://127.0.0.2/", "the machine itself"),
        ("https://[::1]/b", "address of the machine itself"), ("//2852039166/b", "machine's credentials"),
        ("https://internal.example/b", "internal.example, to which the server redirects, is 169.254.7.7"),
        ("https://me:pw@other.example/b", "other.example/b', to which the server redirects, contains a user name"),
        ("file:///etc/passwd", "valid"), ("https://[/", "not a valid web address"),
    ],
)  # fmt: skip
def test_a_redirect_to_an_address_that_is_not_allowed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path, target: str, reason: str
) -> None:
    # The server is on this machine, so its address has to count as public.
    monkeypatch.setattr(web, "classify_ip", lambda ip: None if ip == "127.0.0.1" else classify_ip(ip))
    resolve_names(monkeypatch, "127.0.0.1", *["169.254.7.7"] * 9)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with run_server(certificate) as port:
        with pytest.raises(Failed, match=f"is refused: .*{reason}") as failed:
            fetch(f"https://files.example:{port}/to/{target}", tmp_path)
        assert "redirects" in str(failed.value)
        assert "ALLOW_UNSAFE_INPUTS" not in str(failed.value)  # this is what the server's owner would like
        assert [unquote(path) for path in Server.requests] == [f"/to/{target}"]


@pytest.mark.parametrize("variable", web.CERTIFICATE_VARIABLES)
def test_a_servers_certificate_is_checked_with_the_users_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path, variable: str
) -> None:
    with run_server(certificate) as port:
        with pytest.raises(
            Failed, match=r"certificate is not trusted: self-signed certificate; .*AWS_CA_BUNDLE"
        ) as failed:
            fetch(f"https://127.0.0.1:{port}/a", tmp_path, allow_unsafe=True)
        assert failed.value.reason_class == "web"
        monkeypatch.setenv(variable, str(certificate))
        assert fetch(f"https://127.0.0.1:{port}/a", tmp_path, allow_unsafe=True) == "file"


def test_a_certificate_bundle_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/none.pem")
    with pytest.raises(Failed, match=r"AWS_CA_BUNDLE is '/none.pem', which is not a file"):
        fetch("https://files.example/a", tmp_path)


def test_a_proxy_is_used_for_http_addresses_except_those_in_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_server() as port:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert fetch("http://files.example/a", tmp_path / "proxied", allow_unsafe=True) == "file"
        assert fetch(f"http://127.0.0.1:{port}/b", tmp_path / "direct", allow_unsafe=True) == "file"
        assert Server.requests == ["http://files.example/a", "/b"]


def test_a_proxy_is_used_for_https_addresses_and_the_certificate_is_that_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    resolve_names(monkeypatch, *[PUBLIC_IP] * 9)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with run_server(certificate) as Server.tunnel_port, run_server() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        assert fetch("https://files.example/a", tmp_path) == "file"
        assert Server.requests == ["CONNECT files.example:443", "/a"]


def test_a_proxy_is_not_asked_for_an_internal_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_server() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(Failed, match="is refused"):
            fetch("https://2852039166/latest/meta-data", tmp_path)  # 169.254.169.254 as one number
        assert Server.requests == []


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("ftp://host/a", "begins with ftp://, which is not possible; use https://, or copy the file to S3"),
        ("HTTPS://host/a", "begins with HTTPS://, which is not possible; write https://"),
        ("S3://bucket/a", "begins with S3://, which is not possible; write s3://"),
        ("/", "is blank"), (" // ", "is blank"), ("https://me:secret@host/a", r"\*\*\*@host/a' contains a user name"),
        ("https://token-secret@host/a", "contains a user name"), ("ftp://me:secret@host/a", "contains a user name"),
        ("s3://key:secret@bucket/a", "contains a user name"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_an_input_is_refused_with_what_to_write(address: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        check_input_address(address, "ours")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("address", ["https://host/a@b", "https://host/?mail=me@host", "a@b", "s3://bucket/a://b@c"])
def test_other_addresses_with_an_at_sign_are_valid(address: str) -> None:
    check_input_address(address, "ours")
