"""Tests for downloading inputs from the web."""

from __future__ import annotations

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
    unavailable for the first two requests. Access to `/forbidden` is denied. No other path exists.
    """

    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        if self.path.startswith("/moved/"):
            self._respond(302, b"", Location="/script.py?from=moved")
        elif self.path == "/busy" and self.paths.count("/busy") < 3:
            self._respond(503, b"later")
        elif self.path == "/short":
            self._respond(200, SCRIPT[:10], **{"Content-Length": str(len(SCRIPT))})
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

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Server.paths = []
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
    assert failed.value.reason_class == "aws"
    assert Server.paths == ["/forbidden"]


def test_an_incomplete_download_is_retried_and_then_fails(address: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=f"the input {address}/short could not be fetched"):
        fetch([f"{address}/short"], tmp_path)
    assert Server.paths == ["/short"] * 4


def test_a_download_ends_when_the_lease_is_lost(address: str, tmp_path: Path) -> None:
    results = [True, False]

    def check() -> None:
        if not results.pop():
            raise LostLease

    with pytest.raises(LostLease):
        fetch_inputs(InputSource(None, "ours", allow_unsafe=True), [f"{address}/script.py"], tmp_path, check)
