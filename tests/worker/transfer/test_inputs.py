"""Inputs: keys, prefixes, and addresses are fetched whole, each to its own place, or named where they are missing."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody

from distributed_something.worker.admission.health import UNRELATED_REASON_CLASSES
from distributed_something.worker.attempt.outcomes import FINAL_REASON_CLASSES
from distributed_something.worker.job.failures import Failed, MissingInput
from distributed_something.worker.transfer.inputs import fetch_inputs
from distributed_something.worker.transfer.retry import RETRY_PAUSES_SECONDS
from tests.support.objects import put_objects
from tests.worker.transfer.s3_calls import TRANSIENT_REFUSALS, Calls, first_times, never_sleep, no_sleep, refused


def fetched(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_keys_prefixes_and_addresses_are_fetched(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "in/a.txt", "p/1/x", "p/1/y", "p/2/", "other/z")
    size = fetch_inputs(s3, ["in/a.txt", "p/", "s3://ours/other/z", "in/a.txt"], "ours", tmp_path)
    assert fetched(tmp_path) == {"a.txt": "in/a.txt", "1/x": "p/1/x", "1/y": "p/1/y", "z": "other/z"}
    assert size == len("in/a.txtp/1/xp/1/yother/z")


def test_inputs_with_a_place_of_their_own_lie_there(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "in/a.txt", "p/1/x", "p/y", "b/z", "c/z")
    fetch_inputs(s3, {"in/a.txt": "d/e.txt", "p/": "plate", "b/z": "b/", "s3://ours/c/z": "c/"}, "ours", tmp_path)
    assert fetched(tmp_path) == {
        "d/e.txt": "in/a.txt", "plate/1/x": "p/1/x", "plate/y": "p/y", "b/z": "b/z", "c/z": "c/z",
    }  # fmt: skip


@pytest.mark.parametrize("place", ["../a", "/../a", "..", "a/../../b", "x\0"])
def test_a_place_outside_the_jobs_folder_is_refused(s3: Any, tmp_path: Path, place: str) -> None:
    put_objects(s3, "in/a")
    with pytest.raises(Failed, match="would lie outside the job's folder"):
        fetch_inputs(s3, {"in/a": place.replace("\\0", "\0")}, "ours", tmp_path)


def test_an_input_never_replaces_one_that_came_before(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "a/x", "b/x")
    fetch_inputs(s3, ["a/x"], "ours", tmp_path)
    with pytest.raises(Failed, match="two inputs would be the same file: x"):
        fetch_inputs(s3, ["b/x"], "ours", tmp_path)


def test_two_inputs_that_would_be_the_same_file_are_refused(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "a/x", "b/x")
    with pytest.raises(Failed, match="two inputs would be the same file: x"):
        fetch_inputs(s3, ["a/x", "b/x"], "ours", tmp_path)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("no.tif", "s3://ours/no.tif does"),
        ("no/", "s3://ours/no/ has no files"),
        ("s3://c-d/x", "s3://c-d/x"),
        ("s3://c-d/x/", "c-d/x/"),
        ("s3:///k", "the input 's3:///k' is in no bucket: '' cannot be"),
        ("s3://", "is in no bucket"),
        ("s3://My Bucket/k", "in no bucket: 'My Bucket'"),
        ("s3://My Bucket/x/", "in no bucket: 'My Bucket'"),
        ("s3://arn:aws:s3:us-east-1:123456789012:accesspoint:x.y/k", "Invalid ARN"),
    ],
)
def test_a_missing_input_is_named(s3: Any, tmp_path: Path, wanted: str, named: str) -> None:
    with pytest.raises(MissingInput, match=named):
        fetch_inputs(s3, [wanted], "ours", tmp_path, sleep=never_sleep)


def test_a_key_needs_a_bucket(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="the input 'k' is in no bucket"):
        fetch_inputs(s3, ["k"], "", tmp_path)


@pytest.mark.parametrize(("code", "status"), [("InvalidBucketName", 400), ("KeyTooLongError", 400)])
def test_a_name_that_s3_knows_to_be_none_is_missing_at_once(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    def refuse(**_: Any) -> None:
        answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer, "GetObject")  # type: ignore[arg-type]

    monkeypatch.setattr(s3, "get_object", refuse)
    with pytest.raises(MissingInput, match=code):
        fetch_inputs(s3, ["in/a"], "a..b", tmp_path, sleep=never_sleep)


@pytest.mark.parametrize(("key", "wanted"), [("p/../../evil", "p/"), ("p/..", "p/.."), ("p/a/../../../evil", "p/")])
def test_a_key_with_dots_stays_inside_or_is_refused(s3: Any, tmp_path: Path, key: str, wanted: str) -> None:
    put_objects(s3, key)
    inside = tmp_path / "job" / "input"
    inside.mkdir(parents=True)
    with pytest.raises(Failed, match="outside the job's folder"):
        fetch_inputs(s3, [wanted], "ours", inside)
    assert fetched(tmp_path) == {}


def test_an_input_that_is_a_file_and_a_folder_is_a_failure_with_its_name(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "p/a", "p/a/b")
    with pytest.raises(Failed, match="cannot be written here"):
        fetch_inputs(s3, ["p/"], "ours", tmp_path)


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


@pytest.mark.parametrize(("code", "status"), TRANSIENT_REFUSALS)
def test_what_passes_is_asked_for_again(s3: Any, tmp_path: Path, code: str, status: int) -> None:
    put_objects(s3, "in/a")
    calls = Calls(s3, first_times(1, "GetObject", refused(code, status)))
    assert fetch_inputs(s3, ["in/a"], "ours", tmp_path, sleep=no_sleep) == len("in/a")
    assert calls.names == ["GetObject", "GetObject"]


class FullDiskBody(io.BytesIO):
    """A body that cannot be kept."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_as_such(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "get_object", lambda **_: {"ContentLength": 1, "ETag": "e", "Body": FullDiskBody()})
    with pytest.raises(Failed, match="No space left") as failed:
        fetch_inputs(s3, ["in/a"], "ours", tmp_path)
    assert failed.value.reason_class == "disk"
