"""Tests for downloads through awscrt, with a server that misbehaves in ways that the emulators do not."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.httpsession import get_cert_path

from distributed_something.worker.job.failures import Failed, LostLease, MissingInput
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.transfer.crt import transfer_batch
from distributed_something.worker.transfer.crt import transfers as transfers_module
from distributed_something.worker.transfer.crt.places import find_bucket_place
from distributed_something.worker.transfer.crt.transfer_items import (
    MAX_LARGE_DOWNLOADS,
    MAX_SMALL_BYTES,
    MAX_SMALL_DOWNLOADS,
    MAX_WHOLE_BYTES,
    Download,
    TransferEvents,
    TransferLimits,
    Upload,
)
from distributed_something.worker.transfer.crt.transfers import CrtTransfers, build_transfers
from distributed_something.worker.transfer.inputs import InputFile, InputSource, fetch_inputs
from distributed_something.worker.transfer.s3_file import LARGE_FILE_BYTES, RemoteObject
from tests.support.emulator import KEYS
from tests.support.object_server import ObjectServer, SeenRequest, build_etag, run_object_server
from tests.support.paths import ROOT
from tests.support.tls_proxy import run_tls_proxy

checksums = pytest.importorskip("awscrt.checksums")


@dataclass
class FetchLab:
    """A server, a client for it, and a folder."""

    server: ObjectServer
    clients: Clients
    folder: Path

    def __post_init__(self) -> None:
        self.s3 = self.clients("s3")
        self.transfers = self.clients.create_transfers(self.s3)
        assert self.transfers is not None

    def fetch(self, *inputs: str, check: Callable[[], None] = lambda: None, arguments: Any = None) -> list[InputFile]:
        source = InputSource(self.s3, "ours", arguments or {}, transfers=self.transfers)
        files = fetch_inputs(source, inputs or ["p/"], self.folder, check, lambda seconds: None)
        for file in files:
            key = file.address.removeprefix("s3://ours/")
            assert (self.folder / key.removeprefix("p/")).read_bytes() == self.server.objects[key]
            assert file.etag == build_etag(self.server.objects[key])
        return files

    def fail_first(self, fault: object, count: int = 1) -> None:
        """Let the first requests of awscrt fail, except those for p/2."""
        remaining = [fault] * count
        self.server.misbehave = lambda request: (
            remaining.pop() if request.is_crt and request.key != "p/2" and remaining else None
        )


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FetchLab]:
    with run_object_server() as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        yield FetchLab(server, Clients(1, "us-east-1"), tmp_path)


LARGE = os.urandom(1024 * 1024) * 17 + b"end"


def test_small_objects_take_one_request_each_whose_checksum_is_compared(lab: FetchLab) -> None:
    keys = ["p/1", "p/empty", "p/a b+c~ü%20&=;,$:@!*'()", "p/2/x", "p/größe"]
    lab.server.objects = {key: b"" if "empty" in key else key.encode() for key in keys}
    assert len(lab.fetch()) == len(keys)
    assert sorted(lab.server.list_crt_keys()) == sorted(keys)
    assert lab.server.list_boto3_keys() == []
    for request in lab.server.requests:
        assert request.headers["if-match"] == build_etag(lab.server.objects[request.key])
        assert request.headers["x-amz-checksum-mode"] == "enabled"


def test_a_large_object_is_fetched_in_parts_of_the_same_version(lab: FetchLab) -> None:
    lab.server.objects = {"p/large": LARGE, "p/small": b"small"}
    assert [file.size for file in lab.fetch()] == [len(LARGE), 5]
    parts = [request for request in lab.server.requests if request.key == "p/large"]
    assert len(parts) == 3
    assert {request.headers["if-match"] for request in parts} == {build_etag(LARGE)}
    assert all("range" in request.headers and request.is_crt for request in parts)


def test_a_large_object_is_compared_with_the_checksum_that_s3_stores_of_it(lab: FetchLab) -> None:
    lab.server.objects = {"p/large": LARGE, "p/small": b"small"}
    lab.fetch()
    (head,) = lab.server.heads
    assert (head.key, head.headers["if-match"]) == ("p/large", build_etag(LARGE))
    assert head.headers["x-amz-checksum-mode"] == "ENABLED"


def test_a_large_object_that_arrives_damaged_is_fetched_again_by_boto3(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": LARGE, "p/2": b"2"}
    lab.fail_first("damaged")
    lab.fetch()
    assert lab.server.list_boto3_keys() == ["p/1"]


@pytest.mark.parametrize("inputs", ["p/", "p/1"])
def test_a_job_gets_no_large_object_that_arrives_damaged_every_time(lab: FetchLab, inputs: str) -> None:
    lab.server.objects = {"p/1": LARGE * 2}
    lab.server.misbehave = lambda request: "damaged" if request.method == "GET" else None
    with pytest.raises(Failed, match="s3://ours/p/1 arrived damaged: S3 has another checksum") as failed:
        lab.fetch(inputs)
    assert failed.value.reason_class == "aws"


def build_checksum_headers(name: str, content: bytes) -> dict[str, str]:
    """Return the headers with which S3 says an object's checksum."""
    compute = {
        "crc64nvme": lambda: checksums.crc64nvme(content).to_bytes(8),
        "crc32c": lambda: checksums.crc32c(content).to_bytes(4),
        "sha256": lambda: hashlib.sha256(content).digest(),
    }[name]
    checksum = base64.b64encode(compute()).decode()
    return {f"x-amz-checksum-{name}": checksum, "x-amz-checksum-type": "FULL_OBJECT"}


@pytest.mark.parametrize("name", ["crc64nvme", "crc32c", "sha256"])
@pytest.mark.parametrize("inputs", ["p/", "p/1"])
def test_a_job_gets_no_small_object_that_arrives_damaged_every_time(lab: FetchLab, name: str, inputs: str) -> None:
    """S3 stores CRC-64/NVME unless a client asks for another one. boto3 cannot compute the CRCs without awscrt."""
    lab.server.objects = {"p/1": b"content"}
    lab.server.checksums = {"p/1": build_checksum_headers(name, b"content")}
    assert lab.fetch(inputs)
    (lab.folder / "1").unlink()
    lab.server.misbehave = lambda request: "damaged"
    with pytest.raises(Failed, match=r"the input s3://ours/p/1 could not be fetched: .*checksum") as failed:
        lab.fetch(inputs)
    assert failed.value.reason_class == "aws"


def test_a_checksum_of_the_parts_checksums_is_not_compared_with_the_object(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"content"}
    lab.server.checksums = {"p/1": {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA=", "x-amz-checksum-type": "COMPOSITE"}}
    assert lab.fetch("p/1")


@pytest.mark.parametrize("inputs", ["p/", "p/1"])
def test_a_response_that_does_not_say_its_length_is_read_to_its_end(lab: FetchLab, inputs: str) -> None:
    lab.server.objects = {"p/1": b"content"}
    lab.server.misbehave = lambda request: "chunked" if request.method == "GET" else None
    assert [file.size for file in lab.fetch(inputs)] == [len(b"content")]


def test_a_small_object_of_another_version_is_not_taken_for_the_listed_one(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"new", "p/2": b"2"}
    lab.server.listed_etags = {"p/1": '"old"'}
    lab.fail_first("other version")  # the server does not know `If-Match`
    lab.fetch()
    assert lab.server.list_boto3_keys() == ["p/1"]


def test_the_first_request_for_an_object_of_unknown_size_is_boto3s(lab: FetchLab) -> None:
    lab.server.objects = {"large": LARGE * 2, "small": b"small"}
    assert len(LARGE) * 2 > LARGE_FILE_BYTES
    assert len(lab.fetch("large", "small")) == 2
    assert sorted(lab.server.list_boto3_keys()) == ["large", "small"]
    assert set(lab.server.list_crt_keys()) == {"large"}


@pytest.mark.parametrize(
    ("fault", "content"),
    [
        *itertools.product(["cut", "short", 500, 503, 403, 301], [b"small" * 100, LARGE]),
        ("wrong checksum", b"small" * 100),  # a response to a request for a range has no checksum
    ],
)
def test_what_awscrt_cannot_fetch_is_fetched_by_boto3(lab: FetchLab, fault: object, content: bytes) -> None:
    lab.server.objects = {"p/1": content, "p/2": b"2"}
    lab.fail_first(fault)
    lab.fetch()
    assert lab.server.list_boto3_keys() == ["p/1"]


def test_boto3_fetches_the_rest_of_an_object_if_awscrt_cannot(lab: FetchLab) -> None:
    lab.server.objects = {"large": LARGE * 2}
    lab.fail_first(503, count=9)
    lab.fetch("large")
    assert len(lab.server.list_boto3_keys()) == 1 + 3  # for the size, and for the three parts


def test_an_object_that_was_replaced_after_the_listing_is_fetched_in_its_new_version(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"new", "p/large": LARGE}
    lab.server.listed_etags = {"p/1": '"old"', "p/large": '"old"'}
    lab.fetch()
    assert set(lab.server.list_boto3_keys()) == {"p/1", "p/large"}


def test_an_object_that_was_deleted_after_the_listing_is_reported_as_boto3_reports_it(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"1"}
    lab.server.misbehave = lambda request: lab.server.objects.clear()
    with pytest.raises(MissingInput, match="the input s3://ours/p/1 does not exist"):
        lab.fetch()


def test_after_some_failures_awscrt_is_not_used_for_the_jobs_other_objects(lab: FetchLab) -> None:
    lab.server.objects = {f"p/{number:03}": b"x" for number in range(200)}
    lab.server.misbehave = lambda request: 503 if request.is_crt else None
    lab.fetch()
    assert len(lab.server.list_crt_keys()) <= MAX_SMALL_DOWNLOADS + transfer_batch.MAX_FAILURES
    assert len(lab.server.list_boto3_keys()) == 200


@pytest.mark.parametrize("content", [b"small" * 100, LARGE])
def test_a_job_that_must_stop_leaves_no_request_under_way_even_if_the_server_hangs(
    lab: FetchLab, content: bytes
) -> None:
    lab.server.objects = {"p/1": content}
    asked = threading.Event()

    def hang(request: SeenRequest) -> str:
        asked.set()
        return "hang"

    def check() -> None:
        if asked.is_set():
            raise LostLease

    lab.server.misbehave = hang
    with pytest.raises(LostLease):
        lab.fetch(check=check)
    files = {path: path.stat().st_size for path in lab.folder.rglob("*")}
    lab.server.released.set()
    assert lab.transfers is not None
    assert vars(lab.transfers._download_limits)["_small"] == vars(lab.transfers._download_limits)["_large"] == 0
    assert {path: path.stat().st_size for path in lab.folder.rglob("*")} == files


def test_check_runs_before_each_request(lab: FetchLab) -> None:
    lab.server.objects = {f"p/{number}": b"x" for number in range(10)}
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks > 6:
            raise LostLease

    with pytest.raises(LostLease):
        lab.fetch(check=check)
    assert len(lab.server.requests) < 6


def test_a_download_whose_bytes_do_not_arrive_is_canceled_and_fetched_by_boto3(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"x" * 1000}
    time, asked = [0.0], threading.Event()

    def hang(request: SeenRequest) -> str | None:
        asked.set()
        return "hang" if request.is_crt else None

    def check() -> None:
        if asked.is_set():
            time[0] += transfer_batch.STALL_SECONDS

    lab.server.misbehave = hang
    assert lab.transfers is not None
    lab.transfers = CrtTransfers(lab.s3, lab.transfers._clients, now=lambda: time[0])
    lab.fetch(check=check)
    assert lab.server.list_boto3_keys() == ["p/1"]


def test_a_fetch_that_cannot_start_because_of_other_jobs_is_left_to_boto3(
    lab: FetchLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_batch, "CHECK_SECONDS", 0.001)
    lab.server.objects = {"p/large": LARGE}
    assert lab.transfers is not None
    ticks = iter(range(1000))
    lab.transfers = CrtTransfers(lab.s3, lab.transfers._clients, now=lambda: float(next(ticks)))
    other = Download(lab.folder / "other", RemoteObject("ours", "other", MAX_WHOLE_BYTES + 1, "e"))
    for _ in range(MAX_LARGE_DOWNLOADS):
        assert lab.transfers._download_limits.try_start(other)
    lab.fetch()
    assert lab.server.list_crt_keys() == []


def test_requests_say_who_pays_if_the_job_does(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"1", "p/large": LARGE}
    lab.fetch(arguments={"RequestPayer": "requester"})
    assert {request.headers.get("x-amz-request-payer") for request in lab.server.requests} == {"requester"}
    assert lab.server.list_boto3_keys() == []


def test_requests_are_signed_with_botocores_current_credentials(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"1", "q/2": b"2"}
    lab.fetch("p/1", "p/")
    lab.clients._botocore_session.set_credentials("renewed", "secret", "token")
    lab.transfers.fetch_objects(  # type: ignore[union-attr]
        [Download(lab.folder / "2", RemoteObject("ours", "q/2", 1, build_etag(b"2")))], {}, lambda: None
    )
    assert "Credential=renewed/" in lab.server.requests[-1].headers["authorization"]
    assert lab.server.requests[-1].headers["x-amz-security-token"] == "token"


@pytest.mark.parametrize("content", [b"small", LARGE])
def test_a_full_disk_is_left_to_boto3_to_report(lab: FetchLab, content: bytes) -> None:
    lab.server.objects = {"p/1": content}
    download = Download(Path("/dev/full"), RemoteObject("ours", "p/1", len(content), build_etag(content)))
    assert lab.transfers is not None
    assert lab.transfers.fetch_objects([download], {}, lambda: None) == [download]


def test_boto3_is_used_if_requests_must_pass_a_proxy(lab: FetchLab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_bucket_place(lab.s3, "ours") is not None
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert find_bucket_place(lab.s3, "ours") is None


@pytest.mark.parametrize(
    ("bucket", "host"),
    [("ours", "ours.s3.eu-west-1.amazonaws.com"), ("with.dots", "s3.eu-west-1.amazonaws.com")],
)
def test_requests_are_sent_to_the_place_that_botocore_resolves(
    monkeypatch: pytest.MonkeyPatch, bucket: str, host: str
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    place = find_bucket_place(Clients(1, "eu-west-1")("s3"), bucket)
    assert place is not None
    assert (place.scheme, place.host, place.region) == ("https", host, "eu-west-1")
    assert place.path == ("/" if bucket in host else f"/{bucket}/")


def test_without_awscrt_there_are_no_downloads(lab: FetchLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers_module, "find_spec", lambda name: None)
    assert build_transfers(lab.s3, lab.clients._botocore_session) is None


def test_the_downloads_of_all_jobs_together_are_limited() -> None:
    def build_download(size: int) -> Download:
        return Download(Path("x"), RemoteObject("b", "k", size, "e"))

    limits = TransferLimits(MAX_SMALL_DOWNLOADS)
    assert [limits.try_start(build_download(1)) for _ in range(MAX_SMALL_DOWNLOADS + 1)].count(True) == (
        MAX_SMALL_DOWNLOADS
    )
    limits.end(build_download(1))
    assert limits.try_start(build_download(1))
    large = build_download(MAX_WHOLE_BYTES + 1)
    assert [limits.try_start(large) for _ in range(MAX_LARGE_DOWNLOADS + 1)].count(True) == MAX_LARGE_DOWNLOADS
    limits.end(large)
    assert limits.try_start(large)
    whole = build_download(MAX_WHOLE_BYTES)
    number = MAX_SMALL_BYTES // MAX_WHOLE_BYTES
    other_limits = TransferLimits(MAX_SMALL_DOWNLOADS)
    assert [other_limits.try_start(whole) for _ in range(number + 1)].count(True) == number


def test_the_workers_boto3_does_not_sign_with_awscrt_and_its_programs_do_not_notice() -> None:
    code = (
        "import os; from distributed_something.worker import serve; import botocore.compat;"
        "print(botocore.compat.HAS_CRT, 'BOTO_DISABLE_CRT' in os.environ)"
    )
    env = {name: value for name, value in os.environ.items() if name != "BOTO_DISABLE_CRT"}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_several_large_objects_of_a_job_are_fetched_side_by_side(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": LARGE, "p/2": LARGE}
    lab.server.misbehave = lambda request: "hang"

    def check() -> None:
        if set(lab.server.list_crt_keys()) == {"p/1", "p/2"}:  # both were requested, although neither can end
            raise LostLease

    with pytest.raises(LostLease):
        lab.fetch(check=check)


@pytest.mark.parametrize(
    ("variable", "is_trusted"),
    [("AWS_CA_BUNDLE", False), ("AWS_CA_BUNDLE", True), ("REQUESTS_CA_BUNDLE", True)],  # a refusal takes up to 20 s
)
def test_only_a_server_with_a_trusted_certificate_gets_requests(
    lab: FetchLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, is_trusted: bool
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    lab.server.objects = {"p/1": b"1"}
    download = Download(tmp_path / "1", RemoteObject("ours", "p/1", 1, build_etag(b"1")))
    with run_tls_proxy(lab.server.url, tmp_path) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv(variable, str(proxy.ca_file if is_trusted else get_cert_path(True)))
        clients = Clients(1, "us-east-1")
        transfers = clients.create_transfers(clients("s3"))
        assert transfers is not None
        assert transfers.fetch_objects([download], {}, lambda: None) == ([] if is_trusted else [download])
    assert lab.server.list_crt_keys() == (["p/1"] if is_trusted else [])


def test_after_a_tls_failure_the_bucket_is_left_to_boto3_because_the_failure_takes_long(lab: FetchLab) -> None:
    refused: list[str] = []

    class UntrustedServer(Exception):
        name = transfer_batch.TLS_FAILURE

    def refuse(place: object, download: Download, payer: str, events: TransferEvents) -> Any:
        refused.append(download.remote.key)
        events.on_done(UntrustedServer())
        return MagicMock()

    lab.server.objects = {f"p/{number}": b"x" for number in range(40)}
    assert lab.transfers is not None
    lab.transfers._clients.start_download = refuse
    lab.fetch()
    before = len(refused)
    assert before <= MAX_SMALL_DOWNLOADS  # those that were under way
    lab.folder = lab.folder / "again"
    lab.fetch()
    assert len(refused) == before
    result = lab.folder / "result"
    result.write_bytes(b"1")
    assert lab.transfers.send_files([Upload(result, "ours", "out", 1, {})], {}, lambda: None) == {}
    assert lab.server.list_crt_keys() == []


def test_credentials_that_cannot_be_renewed_now_are_left_to_boto3_which_tries_again(lab: FetchLab) -> None:
    lab.server.objects = {"p/1": b"1"}
    renewals = iter([True])

    def renew() -> dict[str, str]:
        if next(renewals, False):
            raise CredentialRetrievalError(provider="test", error_msg="the metadata service did not answer")
        expires = datetime.now(UTC) + timedelta(hours=1)
        return {"access_key": "new", "secret_key": "s", "token": "t", "expiry_time": expires.isoformat()}

    old = datetime.now(UTC) + timedelta(seconds=1)
    credentials = RefreshableCredentials("old", "s", "t", old, renew, "test")
    lab.clients._botocore_session._credentials = credentials
    assert lab.transfers is not None
    download = Download(lab.folder / "1", RemoteObject("ours", "p/1", 1, build_etag(b"1")))
    assert lab.transfers.fetch_objects([download], {}, lambda: None) == [download]
    assert lab.transfers.fetch_objects([download], {}, lambda: None) == []
