"""Tests for uploads through awscrt: conditions, checksums, and the end of the lease, with a server that misbehaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.job.failures import Failed, LostLease
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.transfer.crt import transfer_batch
from distributed_something.worker.transfer.crt.transfer_items import MAX_SMALL_DOWNLOADS, MAX_UPLOADS
from distributed_something.worker.transfer.inputs import InputSource, fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, ResultFile, upload_results
from tests.support.emulator import KEYS
from tests.support.object_server import ObjectServer, SeenRequest, build_etag, run_object_server
from tests.support.paths import ROOT

pytest.importorskip("awscrt")
CONNECTIONS = 25  # of a client of awscrt
# Headers of boto3's requests that awscrt does not send, and the reverse. The other headers must be equal.
OWN_HEADERS = {
    "authorization", "x-amz-date", "x-amz-content-sha256", "user-agent", "expect", "accept-encoding", "amz-sdk-request",
    "amz-sdk-invocation-id", "x-amz-sdk-checksum-algorithm", "connection",
}  # fmt: skip
UPLOAD_PROGRAM = """
import os, sys
from pathlib import Path
from distributed_something.worker.job.failures import LostLease
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.transfer.results import ResultDestination, upload_results

def check():
    if os.path.exists(sys.argv[2]):
        raise LostLease

clients = Clients(1, "us-east-1")
s3 = clients("s3")
destination = ResultDestination("ours", "p", replaceable={})
try:
    upload_results(s3, Path(sys.argv[1]), destination, check=check, transfers=clients.create_transfers(s3))
except LostLease:
    sys.exit(3)
"""


@dataclass
class UploadLab:
    """A server, a client for it, and a folder with results."""

    server: ObjectServer
    clients: Clients
    folder: Path

    def __post_init__(self) -> None:
        self.s3 = self.clients("s3")
        self.transfers = self.clients.create_transfers(self.s3)
        assert self.transfers is not None
        self.folder.mkdir()

    def write_files(self, *names: str) -> None:
        for name in names:
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(name.encode() * 100)

    def upload(
        self, check: Callable[[], None] = lambda: None, *, with_crt: bool = True, **arguments: Any
    ) -> list[ResultFile]:
        destination = ResultDestination("ours", "p", arguments)
        return upload_results(
            self.s3, self.folder, destination, check=check, sleep=lambda seconds: None,
            transfers=self.transfers if with_crt else None,
        )  # fmt: skip

    def list_puts(self, *, is_crt: bool) -> list[SeenRequest]:
        return [request for request in self.server.requests if request.method == "PUT" and request.is_crt == is_crt]

    def fail_first(self, fault: object, count: int = 1) -> None:
        """Let the first uploads of awscrt fail."""
        remaining = [fault] * count
        self.server.misbehave = lambda request: remaining.pop() if request.is_crt and remaining else None


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadLab]:
    with run_object_server() as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        yield UploadLab(server, Clients(1, "us-east-1"), tmp_path / "results")


def test_several_small_files_are_uploaded_once_each_and_only_if_nothing_is_at_their_keys(lab: UploadLab) -> None:
    names = ["1", "a b+c~ü%20&=;,$:@!*'()", "sub/x"]
    lab.write_files(*names)
    (lab.folder / "empty").touch()
    files = lab.upload()
    assert sorted(request.key for request in lab.server.requests) == sorted(f"p/{name}" for name in [*names, "empty"])
    assert {request.headers["if-none-match"] for request in lab.list_puts(is_crt=True)} == {"*"}
    assert len(lab.list_puts(is_crt=True)) == len(files) == 4
    for file in files:
        assert lab.server.objects[file.key] == (lab.folder / file.key.removeprefix("p/")).read_bytes()
        assert file.etag == build_etag(lab.server.objects[file.key])


def test_the_headers_are_those_that_boto3_sends(lab: UploadLab) -> None:
    lab.write_files("1", "2")
    arguments: dict[str, object] = {
        "ACL": "bucket-owner-full-control", "ContentType": "text/plain", "ContentEncoding": "gzip", "Tagging": "a=b",
        "Metadata": {"Color": "red"}, "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k", "CacheControl": "no-store",
        "StorageClass": "STANDARD_IA", "RequestPayer": "requester",
    }  # fmt: skip
    headers = []
    for with_crt in (True, False):
        lab.server.objects.clear()
        lab.upload(with_crt=with_crt, **arguments)
        request = next(request for request in lab.list_puts(is_crt=with_crt) if request.key == "p/1")
        headers.append({name: value for name, value in request.headers.items() if name not in OWN_HEADERS})
    assert headers[0] == headers[1]
    assert headers[0]["x-amz-meta-color"] == "red"


def test_a_single_file_and_large_files_are_uploaded_by_boto3(lab: UploadLab) -> None:
    lab.write_files("1")
    lab.upload()
    assert len(lab.list_puts(is_crt=False)) == len(lab.server.requests) == 1


def test_an_object_that_may_be_replaced_is_replaced_only_in_the_version_that_was_listed(lab: UploadLab) -> None:
    lab.write_files("1", "2")
    lab.server.objects["p/1"] = b"old"
    lab.upload()
    conditions = {request.key: request.headers.get("if-match") for request in lab.list_puts(is_crt=True)}
    assert conditions == {"p/1": build_etag(b"old"), "p/2": None}
    assert lab.server.objects["p/1"] == b"1" * 100


def test_the_same_content_from_another_worker_is_accepted_and_other_content_is_not(lab: UploadLab) -> None:
    lab.write_files("1", "2")

    def write_other(content: bytes) -> Callable[[SeenRequest], None]:
        return lambda request: lab.server.objects.update({"p/1": content})

    lab.server.misbehave = write_other(b"1" * 100)
    assert [file.key for file in lab.upload()] == ["p/1", "p/2"]
    lab.server.objects.clear()
    lab.server.misbehave = write_other(b"other")
    with pytest.raises(LostLease):
        lab.upload()
    assert lab.server.objects["p/1"] == b"other"


@pytest.mark.parametrize("fault", [500, 503, 429, 403, 301])
def test_what_s3_refuses_is_uploaded_by_boto3(lab: UploadLab, fault: object) -> None:
    lab.write_files("1", "2")
    lab.fail_first(fault)
    assert len(lab.upload()) == 2
    assert len(lab.list_puts(is_crt=True)) == 2
    assert len(lab.list_puts(is_crt=False)) == 1


def test_an_upload_whose_response_was_lost_is_not_done_twice(lab: UploadLab) -> None:
    lab.write_files("1", "2")
    lab.fail_first("cut")
    files = lab.upload()
    assert len(lab.list_puts(is_crt=False)) == 1  # refused, and the stored object is found to have this content
    assert [file.etag for file in files] == [build_etag(lab.server.objects[file.key]) for file in files]


def test_bytes_that_do_not_match_the_checksum_are_not_stored(lab: UploadLab) -> None:
    """The file changes after its checksum was computed, when awscrt reads it."""
    lab.write_files("1", "2")

    def check() -> None:
        if threading.current_thread() is not threading.main_thread() and not lab.list_puts(is_crt=False):
            (lab.folder / "1").write_bytes(b"x" * 100)

    files = lab.upload(check)
    assert [request.key for request in lab.list_puts(is_crt=False)] == ["p/1"]
    assert lab.server.objects["p/1"] == b"x" * 100
    assert files[0].etag == build_etag(b"x" * 100)


def test_after_some_failures_awscrt_is_not_used_for_the_jobs_other_files(lab: UploadLab) -> None:
    lab.write_files(*(f"{number:03}" for number in range(100)))
    lab.server.misbehave = lambda request: 503 if request.is_crt else None
    lab.upload()
    assert len(lab.list_puts(is_crt=True)) <= MAX_UPLOADS + transfer_batch.MAX_FAILURES
    assert len(lab.list_puts(is_crt=False)) == 100


def test_nothing_is_sent_if_the_lease_is_lost_when_awscrt_reads_a_file(lab: UploadLab) -> None:
    lab.write_files("1", "2", "3")

    def check() -> None:
        if threading.current_thread() is not threading.main_thread():
            raise LostLease

    with pytest.raises(LostLease):
        lab.upload(check)
    assert lab.server.requests == []


def test_check_runs_before_each_upload(lab: UploadLab) -> None:
    lab.write_files(*(str(number) for number in range(10)))
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += threading.current_thread() is threading.main_thread()
        if checks > 6:
            raise LostLease

    with pytest.raises(LostLease):
        lab.upload(check)
    assert len(lab.server.requests) < 6


def test_a_job_that_must_stop_leaves_no_upload_under_way_even_if_the_server_hangs(lab: UploadLab) -> None:
    lab.write_files(*(f"{number:03}" for number in range(2 * MAX_UPLOADS)))

    def check() -> None:
        if len(lab.server.requests) >= MAX_UPLOADS:
            raise LostLease

    lab.server.misbehave = lambda request: "hang"
    with pytest.raises(LostLease):
        lab.upload(check)
    lab.server.released.set()
    assert lab.transfers is not None
    assert vars(lab.transfers._upload_limits)["_small"] == 0
    assert len(lab.server.requests) == MAX_UPLOADS
    assert lab.server.objects == {}


def test_uploads_wait_for_no_connection_while_downloads_use_all_of_theirs(lab: UploadLab, tmp_path: Path) -> None:
    """An upload that waits inside awscrt could be sent after the lease has ended."""
    lab.write_files(*(f"{number:03}" for number in range(MAX_UPLOADS)))
    lab.server.objects = {f"in/{number:03}": b"x" for number in range(MAX_SMALL_DOWNLOADS)}
    are_downloading, are_uploading = threading.Event(), threading.Event()

    def hold(request: SeenRequest) -> str:
        if len(lab.server.requests) >= CONNECTIONS:
            are_downloading.set()
        if len(lab.list_puts(is_crt=True)) == MAX_UPLOADS:
            are_uploading.set()
        return "hold" if request.method == "PUT" else "hang"

    def fetch() -> None:
        with suppress(Failed):
            fetch_inputs(InputSource(lab.s3, "ours", {}, transfers=lab.transfers), ["in/"], tmp_path, lambda: None)

    lab.server.misbehave = hold
    threads = [threading.Thread(target=fetch), threading.Thread(target=lab.upload)]
    try:
        threads[0].start()
        assert are_downloading.wait(30)
        threads[1].start()
        assert are_uploading.wait(30), f"{len(lab.list_puts(is_crt=True))} uploads were sent"
    finally:
        lab.server.misbehave = lambda request: None
        lab.server.released.set()
        for thread in threads:
            thread.join()


def test_a_worker_that_was_frozen_until_its_lease_ended_starts_no_upload(lab: UploadLab, tmp_path: Path) -> None:
    lab.write_files(*(f"{number:03}" for number in range(4 * MAX_UPLOADS)))
    are_under_way, lost = threading.Event(), tmp_path / "lost"

    def hold(request: SeenRequest) -> str:
        if len(lab.server.requests) >= MAX_UPLOADS:
            are_under_way.set()
        return "hold"

    lab.server.misbehave = hold
    worker = subprocess.Popen([sys.executable, "-c", UPLOAD_PROGRAM, str(lab.folder), str(lost)], cwd=ROOT)
    try:
        assert are_under_way.wait(60)
        worker.send_signal(signal.SIGSTOP)
        os.waitpid(worker.pid, os.WUNTRACED)
        lost.touch()
        lab.server.released.set()  # the responses arrive while the worker is frozen
        worker.send_signal(signal.SIGCONT)
        assert worker.wait(60) == 3
    finally:
        worker.kill()
    assert len(lab.list_puts(is_crt=True)) == len(lab.server.requests) == MAX_UPLOADS
