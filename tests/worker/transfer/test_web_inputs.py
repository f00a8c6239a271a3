"""Tests for downloading inputs from the web."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from distributed_something.worker.job.failures import Failed, LostLease, MissingInput
from distributed_something.worker.transfer import s3_file
from distributed_something.worker.transfer.inputs import InputFile, InputSource, fetch_inputs

SCRIPT = b"print 'hello'\n" * 100_000


class Server(BaseHTTPRequestHandler):
    """A web server with a few paths.

    `/script.py` exists, and `/moved/…` redirects to it. `/short` sends only the first 10 bytes of the file. `/busy` is
    unavailable for the first two requests, and `/new` is missing for the first. Access to `/forbidden` is denied.
    `/packed/…` is compressed, `/named/…` suggests another name, and `/pieces` is chunked. No other path exists.
    """

    protocol_version = "HTTP/1.1"
    paths: list[str]
    encodings: list[str | None]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.encodings.append(self.headers["Accept-Encoding"])
        if self.path.startswith("/moved/"):
            self._respond(302, b"", Location="/script.py?from=moved")
        elif self.path == "/busy" and self.paths.count("/busy") < 3:
            self._respond(503, b"later")
        elif self.path.startswith("/packed/"):
            self._respond(200, gzip.compress(SCRIPT), **{"Content-Encoding": "gzip"})
        elif self.path.startswith("/named/"):
            self._respond(200, SCRIPT, **{"Content-Disposition": 'attachment; filename="other.py"'})
        elif self.path == "/pieces":
            self._send_pieces()
        elif self.path == "/new" and self.paths.count("/new") > 1:
            self._respond(200, SCRIPT)
        elif self.path.startswith("/loop"):
            self._respond(302, b"", Location="/loop")
        elif self.path == "/short":
            self._respond(200, SCRIPT[:10], **{"Content-Length": str(len(SCRIPT))})
            self.close_connection = True
        elif self.path in ("/script.py", "/script.py?from=moved", "/busy"):
            self._respond(200, SCRIPT, **({"ETag": '"1"'} if "from=moved" not in self.path else {}))
        else:
            self._respond({"/forbidden": 403, "/gone-for-good": 410}.get(self.path, 404), b"no")

    def _respond(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _send_pieces(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (SCRIPT[:70_000], SCRIPT[70_000:]):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Server.paths, Server.encodings = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(inputs: list[str] | dict[str, str], folder: Path) -> list[InputFile]:
    return fetch_inputs(InputSource(None, "ours", allow_unsafe=True), inputs, folder, sleep=lambda seconds: None)


@pytest.mark.parametrize("path", ["/script.py", "/moved/script.py"])
def test_a_web_file_is_named_after_the_path_of_its_address(
    address: str, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_file, "LARGE_FILE_BYTES", 1000)
    (file,) = fetch([address + path], tmp_path)
    assert file == InputFile(address + path, None if "moved" in path else '"1"', len(SCRIPT))
    assert file.build_record_entry() == {"address": address + path, "etag": file.etag, "size": len(SCRIPT)}
    assert (tmp_path / "script.py").read_bytes() == SCRIPT


def test_a_web_file_can_be_saved_at_another_path(address: str, tmp_path: Path) -> None:
    fetch({f"{address}/script.py?from=moved": "scripts/a.py"}, tmp_path)
    assert (tmp_path / "scripts" / "a.py").read_bytes() == SCRIPT


def test_a_request_to_a_busy_server_is_retried(address: str, tmp_path: Path) -> None:
    fetch([f"{address}/busy"], tmp_path)
    assert Server.paths == ["/busy"] * 3


@pytest.mark.parametrize(("path", "status"), [("/gone", 404), ("/gone-for-good", 410)])
def test_a_file_that_the_server_does_not_have_is_reported_after_at_most_two_short_retries(
    address: str, tmp_path: Path, path: str, status: int
) -> None:
    with pytest.raises(MissingInput, match=f"the input {address}{path} does not exist .*HTTP status {status}"):
        fetch([address + path], tmp_path)
    assert Server.paths == [path] * (3 if status == 404 else 1)


def test_a_file_that_the_server_denies_does_not_count_as_missing(address: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=f"the input {address}/forbidden cannot be read .*HTTP status 403") as failed:
        fetch([f"{address}/forbidden"], tmp_path)
    assert failed.value.reason_class == "web"
    assert Server.paths == ["/forbidden"]


def test_an_incomplete_download_is_retried_and_then_fails(address: str, tmp_path: Path) -> None:
    reason = f"the input {address}/short could not be fetched: the connection ended after 10 of 1,400,000 bytes$"
    with pytest.raises(Failed, match=reason):
        fetch([f"{address}/short"], tmp_path)
    assert Server.paths == ["/short"] * 4


def test_a_download_ends_when_the_lease_is_lost(address: str, tmp_path: Path) -> None:
    results = [True, False]

    def check() -> None:
        if not results.pop():
            raise LostLease

    with pytest.raises(LostLease):
        fetch_inputs(InputSource(None, "ours", allow_unsafe=True), [f"{address}/script.py"], tmp_path, check)


def test_a_web_file_contains_the_bytes_that_the_server_sends(address: str, tmp_path: Path) -> None:
    (file,) = fetch([f"{address}/packed/reads.fastq.gz"], tmp_path)
    assert gzip.decompress((tmp_path / "reads.fastq.gz").read_bytes()) == SCRIPT
    assert file.size == (tmp_path / "reads.fastq.gz").stat().st_size
    assert Server.encodings == ["identity"]


def test_a_web_file_that_is_sent_in_pieces_is_complete(address: str, tmp_path: Path) -> None:
    fetch([f"{address}/pieces"], tmp_path)
    assert (tmp_path / "pieces").read_bytes() == SCRIPT


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a%20b%2Bc.txt", "a b+c.txt"), ("%C3%A9%E2%82%AC.txt", "é€.txt"), ("%FF.txt", "%FF.txt"),
        ("..%2F..%2Fx", "..%2F..%2Fx"), ("a.txt?b=c/d.txt#e", "a.txt"),
    ],
)  # fmt: skip
def test_a_web_file_has_the_decoded_name_from_its_address(address: str, tmp_path: Path, path: str, name: str) -> None:
    fetch([f"{address}/named/{path}"], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("path", ["", "/"])
def test_an_address_without_a_name_needs_one(address: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(Failed, match=f"the input {address}{path} has no file name; write an object"):
        fetch([address + path], tmp_path)
    fetch({f"{address}/named/": "x"}, tmp_path)


def test_a_file_that_a_server_does_not_have_yet_is_fetched_a_little_later(address: str, tmp_path: Path) -> None:
    fetch([f"{address}/new"], tmp_path)
    assert Server.paths == ["/new"] * 2


def test_endless_redirects_fail(address: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="more than 5 redirects"):
        fetch([f"{address}/loop"], tmp_path)
    assert len(Server.paths) == 6
