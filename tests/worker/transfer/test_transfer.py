"""Transfers between a job's folder and S3: whole or not at all, and nothing after a lease is lost."""

from __future__ import annotations

import errno
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody
from moto import mock_aws

from distributed_something.worker.admission.health import UNRELATED_REASON_CLASSES
from distributed_something.worker.attempt.outcomes import FINAL_REASON_CLASSES
from distributed_something.worker.job.failures import Failed, LostLease, MissingInput, UploadError
from distributed_something.worker.transfer import results, s3_file
from distributed_something.worker.transfer.inputs import fetch_inputs
from distributed_something.worker.transfer.results import has_unchanged_results, upload_results
from distributed_something.worker.transfer.s3_file import RETRY_PAUSES_SECONDS, CheckedBody
from distributed_something.worker.transfer.s3_listing import ListedObject, list_object_sizes, list_s3_objects
from tests.support.emulator import KEYS


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 2}))
        client.create_bucket(Bucket="ours")
        yield client


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 5 MiB, the smallest that S3 takes."""
    monkeypatch.setattr(s3_file, "PART_BYTES", 5 * 1024 * 1024)
    monkeypatch.setattr(s3_file, "LARGE_BYTES", 5 * 1024 * 1024)
    monkeypatch.setattr(results, "SINGLE_PUT_BYTES", 5 * 1024 * 1024)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "job" / "output"
    folder.mkdir(parents=True)
    return folder


class Calls:
    """Every request that a client sends, by name; `answer` may raise in its place."""

    def __init__(self, s3: Any, answer: Callable[[str], None] = lambda name: None) -> None:
        self.names: list[str] = []
        self._answer = answer
        s3.meta.events.register("before-call.s3", self._note)

    def _note(self, model: Any, **_: Any) -> None:
        self.names.append(model.name)
        self._answer(model.name)

    def count(self, name: str) -> int:
        return self.names.count(name)


def no_sleep(seconds: float) -> None:
    pass


def refused(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


def first_times(times: int, name: str, error: Exception) -> Callable[[str], None]:
    """Raises `error` for the first so many requests of that name."""
    left = [error] * times

    def answer(called: str) -> None:
        if called == name and left:
            raise left.pop()

    return answer


# In


def test_a_small_input_costs_one_request(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="ours", Key="in/a", Body=b"a")
    calls = Calls(s3)
    assert fetch_inputs(s3, ["in/a"], "ours", tmp_path) == 1
    assert calls.names == ["GetObject"]


@pytest.mark.usefixtures("small_parts")
def test_a_large_input_comes_in_parts_and_is_whole(s3: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4 * 1024 * 11 + b"end"  # 11 MiB and 3 bytes: parts of 5, 5 and 1
    s3.put_object(Bucket="ours", Key="big", Body=content)
    calls = Calls(s3)
    assert fetch_inputs(s3, ["big"], "ours", tmp_path) == len(content)
    assert (tmp_path / "big").read_bytes() == content
    assert calls.names == ["GetObject"] * 3


def test_an_input_whose_connection_was_cut_is_fetched_again(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="ours", Key="in/a", Body=b"whole")
    whole, cuts, slept = s3.get_object, [1, 2], []

    def cut(**asked: Any) -> Any:
        answer = whole(**asked)
        if cuts and cuts.pop():
            answer["Body"] = StreamingBody(io.BytesIO(b"who"), None)
        return answer

    monkeypatch.setattr(s3, "get_object", cut)
    assert fetch_inputs(s3, ["in/a"], "ours", tmp_path, sleep=slept.append) == 5
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert sum(slept) == sum(RETRY_PAUSES_SECONDS[:2])


def test_an_input_that_cannot_be_reached_fails_after_its_tries(s3: Any, tmp_path: Path) -> None:
    calls = Calls(s3, first_times(99, "GetObject", EndpointConnectionError(endpoint_url="here")))
    with pytest.raises(Failed, match="s3://ours/in/a could not be fetched") as failed:
        fetch_inputs(s3, ["in/a"], "ours", tmp_path, sleep=no_sleep)
    assert failed.value.reason_class == "aws"
    assert calls.count("GetObject") == len(RETRY_PAUSES_SECONDS) + 1


@pytest.mark.parametrize(("code", "status"), [("NoSuchKey", 404), ("404", 404), ("NoSuchBucket", 404)])
def test_an_input_that_is_not_there_is_missing_by_name_at_once(s3: Any, tmp_path: Path, code: str, status: int) -> None:
    calls = Calls(s3, first_times(99, "GetObject", refused(code, status)))
    with pytest.raises(MissingInput, match="the input s3://ours/in/a does not exist"):
        fetch_inputs(s3, ["in/a"], "ours", tmp_path)
    assert calls.names == ["GetObject"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDenied", 403), ("InvalidAccessKeyId", 403), ("KMS.DisabledException", 400), ("InvalidObjectState", 403),
        ("PreconditionFailed", 412),
    ],
)  # fmt: skip
def test_an_input_that_may_not_be_read_may_be_this_machines_fault_so_that_its_job_is_tried_again(
    s3: Any, tmp_path: Path, code: str, status: int
) -> None:
    calls = Calls(s3, first_times(99, "GetObject", refused(code, status)))
    with pytest.raises(Failed, match=rf"the input s3://ours/in/a .*\({code}\)") as failed:
        fetch_inputs(s3, ["in/a"], "ours", tmp_path)
    assert failed.value.reason_class == "aws"
    assert failed.value.reason_class not in FINAL_REASON_CLASSES | UNRELATED_REASON_CLASSES
    assert calls.names == ["GetObject"]  # within one try of the job, S3 would say the same


PASSING = [
    ("ThrottlingException", 400), ("KMS.ThrottlingException", 400), ("TooManyRequests", 429),
    ("RequestLimitExceeded", 400), ("OperationAborted", 409), ("ConditionalRequestConflict", 409),
    ("RequestTimeTooSkewed", 403), ("RequestExpired", 400), ("ExpiredToken", 400), ("SlowDown", 503),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status"), PASSING)
def test_what_passes_is_asked_for_again(s3: Any, out: Path, tmp_path: Path, code: str, status: int) -> None:
    (out / "a").touch()
    calls = Calls(s3, first_times(1, "PutObject", refused(code, status)))
    upload_results(s3, out, "ours", "here", there={}, sleep=no_sleep)
    assert calls.names == ["PutObject", "PutObject", "ListObjectsV2"]
    calls = Calls(s3, first_times(1, "GetObject", refused(code, status)))
    assert fetch_inputs(s3, ["here/a"], "ours", tmp_path, sleep=no_sleep) == 0
    assert calls.names == ["GetObject", "GetObject"]


def test_a_full_disk_is_told_as_such(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket="ours", Key="in/a", Body=b"a")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(s3_file, "_copy", full)
    with pytest.raises(Failed, match="No space left") as failed:
        fetch_inputs(s3, ["in/a"], "ours", tmp_path)
    assert failed.value.reason_class == "disk"


# Out


@pytest.mark.usefixtures("small_parts")
def test_a_large_output_goes_up_in_parts_and_its_checksum_is_the_whole_files(s3: Any, out: Path) -> None:
    content = b"0123456789abcdef" * 64 * 1024 * 11
    (out / "big").write_bytes(content)
    calls = Calls(s3)
    (output,) = upload_results(s3, out, "ours", "here")
    assert output.checksum_sha256 == hashlib.sha256(content).hexdigest()
    assert s3.get_object(Bucket="ours", Key="here/big")["Body"].read() == content
    assert calls.count("UploadPart") == 3


@pytest.mark.usefixtures("small_parts")
def test_every_request_with_bytes_carries_a_checksum_that_s3_verifies(s3: Any, out: Path) -> None:
    (out / "small").write_bytes(b"abc")
    (out / "big").write_bytes(b"0" * 6 * 1024 * 1024)
    sent: dict[str, set[str]] = {}

    def note(request: Any, operation_name: str, **_: Any) -> None:
        names = {name.lower() for name in request.headers} | set(str(request.headers.get("x-amz-trailer", "")).split())
        sent[operation_name] = sent.get(operation_name, names) & names

    s3.meta.events.register("request-created.s3", note)
    upload_results(s3, out, "ours", "here")
    assert "x-amz-checksum-sha256" in sent["PutObject"]
    assert "x-amz-checksum-crc32" in sent["UploadPart"]


def cut(found: dict[str, ListedObject], short: list[bool]) -> dict[str, ListedObject]:
    """What is listed, but once with a file that has no bytes."""
    if "here/b" in found and short:
        short.pop()
        return found | {"here/b": replace(found["here/b"], size=0)}
    return found


def test_only_what_failed_is_uploaded_again(s3: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (out / name).write_text(name)
    real, short = list_s3_objects, [True]
    monkeypatch.setattr(results, "listed", lambda *asked: cut(real(*asked), short))
    calls, slept = Calls(s3), []
    outputs = upload_results(s3, out, "ours", "here", sleep=slept.append)
    assert [output.key for output in outputs] == ["here/a", "here/b", "here/c"]
    assert calls.count("PutObject") == 4
    assert sum(slept) == RETRY_PAUSES_SECONDS[0]


def test_an_upload_that_stays_unavailable_fails_after_pauses_that_grow(s3: Any, out: Path) -> None:
    (out / "a").touch()
    Calls(s3, first_times(99, "PutObject", refused("ServiceUnavailable", 503)))
    slept: list[float] = []
    with pytest.raises(UploadError, match=r"s3://ours/here: .*ServiceUnavailable"):
        upload_results(s3, out, "ours", "here", sleep=slept.append)
    assert sum(slept) == sum(RETRY_PAUSES_SECONDS)


class Lease:
    """A `check` that raises from its n-th call on."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LostLease


def test_a_lease_lost_at_any_read_publishes_nothing(s3: Any, out: Path) -> None:
    (out / "a").write_bytes(b"a" * 300_000)
    kept = Lease(1000)
    upload_results(s3, out, "ours", "kept", kept)
    asked = 1000 - kept.left
    assert asked > 3
    for held in range(asked):
        with pytest.raises(LostLease):
            upload_results(s3, out, "ours", "lost", Lease(held))
    assert list_object_sizes(s3, "ours", "lost/") == {}


@pytest.mark.usefixtures("small_parts")
def test_a_lease_lost_before_the_parts_are_put_together_leaves_nothing_in_s3(s3: Any, out: Path) -> None:
    (out / "big").write_bytes(b"0" * 11 * 1024 * 1024)
    lease = Lease(10**6)

    def lose(name: str) -> None:
        if name == "CompleteMultipartUpload":
            lease.left = 0

    Calls(s3, lose)
    with pytest.raises(LostLease):
        upload_results(s3, out, "ours", "here", lease)
    assert list_object_sizes(s3, "ours", "here/") == {}
    assert s3.list_multipart_uploads(Bucket="ours").get("Uploads", []) == []


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_leaves_no_half_upload(s3: Any, out: Path) -> None:
    (out / "big").write_bytes(b"0" * 11 * 1024 * 1024)
    Calls(s3, first_times(99, "UploadPart", refused("AccessDenied", 403)))
    with pytest.raises(UploadError, match="AccessDenied"):
        upload_results(s3, out, "ours", "here", sleep=no_sleep)
    assert s3.list_multipart_uploads(Bucket="ours").get("Uploads", []) == []


def test_a_repeated_request_asks_again_before_it_sends(out: Path) -> None:
    (out / "a").write_bytes(b"abc")
    lease = Lease(10**6)
    with (out / "a").open("rb") as file:
        body = CheckedBody(file, 1, 2, lease)
        assert (body.read(), body.read(), body.tell()) == (b"bc", b"", 2)
        lease.left = 0
        with pytest.raises(LostLease):
            body.seek(0)  # what botocore does before it repeats


def test_what_another_worker_put_in_its_place_before_it_was_verified_is_not_taken_for_ones_own(
    s3: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "a").write_text("ours")
    real, others = list_s3_objects, [b"ours", b"that"]

    def replaced_meanwhile(*asked: Any) -> dict[str, ListedObject]:
        s3.put_object(Bucket="ours", Key="here/a", Body=others[0])
        return real(*asked)

    monkeypatch.setattr(results, "listed", replaced_meanwhile)
    (output,) = upload_results(s3, out, "ours", "here", there={})
    assert has_unchanged_results(s3, "here", [output])
    others.pop(0)
    with pytest.raises(LostLease):
        upload_results(s3, out, "ours", "here", there=real(s3, "ours", "here/"))


# What counts as an output


def test_a_link_to_a_file_of_the_job_is_uploaded_as_that_file(s3: Any, out: Path) -> None:
    (out.parent / "input").mkdir()
    (out.parent / "input" / "raw").write_text("raw")
    (out / "real").mkdir()
    (out / "real" / "a").write_text("a")
    (out / "again").symlink_to("real/a")
    (out / "latest").symlink_to("real")
    (out / "raw").symlink_to(out.parent / "input" / "raw")
    (out / "empty").mkdir()
    keys = [output.key for output in upload_results(s3, out, "ours", "here")]
    assert keys == ["here/again", "here/raw", "here/real/a"]
    assert s3.get_object(Bucket="ours", Key="here/again")["Body"].read() == b"a"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("../../secret", "'l' is a link out of the job's folder"),
        ("../..", "'l' is a link out of the job's folder"),
        ("gone", "'l' is a link to nothing"),
        ("l", "'l' is a link to nothing"),
        ("../input", "'l' is a link to a folder outside"),
    ],
)
def test_a_link_that_is_no_output_is_refused_with_its_name(s3: Any, out: Path, target: str, told: str) -> None:
    (out.parent.parent / "secret").touch()
    (out.parent / "input").mkdir()
    (out / "l").symlink_to(target)
    with pytest.raises(Failed, match=told):
        upload_results(s3, out, "ours", "here")
    assert list_object_sizes(s3, "ours", "") == {}


def test_a_name_that_is_too_long_for_a_key_is_refused(s3: Any, out: Path) -> None:
    (out / ("ä" * 120)).touch()
    with pytest.raises(Failed, match="1,141 bytes, S3 allows 1,024"):
        upload_results(s3, out, "ours", "x" * 900)
