"""Inputs from the web, fetched as those from S3 are: whole, in few tries, and named when they are missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from distributed_something.worker.job.failures import Failed, LostLease, MissingInput
from distributed_something.worker.transfer import s3_file
from distributed_something.worker.transfer.inputs import fetch_inputs

SCRIPT = b"print 'hello'\n" * 100_000


class Server(BaseHTTPRequestHandler):
    """`/script.py` is there; `/moved/…` leads there; `/short` breaks off; `/busy` is so twice; `/forbidden` is so;
    no other is there."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/moved/"):
            self._answer(302, b"", Location="/script.py?from=moved")
        elif self.path == "/busy" and self.asked.count("/busy") < 3:
            self._answer(503, b"later")
        elif self.path == "/short":
            self._answer(200, SCRIPT[:10], **{"Content-Length": str(len(SCRIPT))})
        elif self.path in ("/script.py", "/script.py?from=moved", "/busy"):
            self._answer(200, SCRIPT)
        else:
            self._answer({"/forbidden": 403, "/gone-for-good": 410}.get(self.path, 404), b"no")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Server.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(inputs: list[str] | dict[str, str], folder: Path) -> int:
    return fetch_inputs(None, inputs, "ours", folder, sleep=lambda seconds: None)


@pytest.mark.parametrize("path", ["/script.py", "/moved/script.py"])
def test_a_file_of_the_web_has_the_name_in_its_address(
    address: str, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_file, "LARGE_FILE_BYTES", 1000)
    assert fetch([address + path], tmp_path) == len(SCRIPT)
    assert (tmp_path / "script.py").read_bytes() == SCRIPT


def test_it_may_have_a_place_of_its_own(address: str, tmp_path: Path) -> None:
    fetch({f"{address}/script.py?from=moved": "scripts/a.py"}, tmp_path)
    assert (tmp_path / "scripts" / "a.py").read_bytes() == SCRIPT


def test_a_server_that_is_busy_is_asked_again(address: str, tmp_path: Path) -> None:
    fetch([f"{address}/busy"], tmp_path)
    assert Server.asked == ["/busy"] * 3


@pytest.mark.parametrize(("path", "status"), [("/gone", 404), ("/gone-for-good", 410)])
def test_what_the_server_does_not_have_is_missing_by_name_and_asked_for_once(
    address: str, tmp_path: Path, path: str, status: int
) -> None:
    with pytest.raises(MissingInput, match=f"the input {address}{path} does not exist .*{status}"):
        fetch([address + path], tmp_path)
    assert Server.asked == [path]


def test_what_the_server_gives_to_nobody_here_is_named_and_not_taken_for_missing(address: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=f"the input {address}/forbidden cannot be read .*403") as failed:
        fetch([f"{address}/forbidden"], tmp_path)
    assert failed.value.reason_class == "aws"
    assert Server.asked == ["/forbidden"]


def test_what_broke_off_is_no_input(address: str, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=f"the input {address}/short could not be fetched"):
        fetch([f"{address}/short"], tmp_path)
    assert Server.asked == ["/short"] * 4


def test_nothing_is_read_on_after_a_lease_is_lost(address: str, tmp_path: Path) -> None:
    left = [1, 0]

    def check() -> None:
        if not left.pop():
            raise LostLease

    with pytest.raises(LostLease):
        fetch_inputs(None, [f"{address}/script.py"], "ours", tmp_path, check)
