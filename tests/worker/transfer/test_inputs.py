"""Tests for downloading inputs from S3."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError
from botocore.response import StreamingBody

from distributed_something.worker.admission.health import UNRELATED_REASON_CLASSES
from distributed_something.worker.attempt.outcomes import FINAL_REASON_CLASSES
from distributed_something.worker.job.failures import BadData, Failed, LostLease, MissingInput
from distributed_something.worker.transfer.inputs import InputFile, InputSource, fetch_inputs
from distributed_something.worker.transfer.retry import RETRY_PAUSES_SECONDS, watch_requests
from tests.support.objects import put_objects
from tests.worker.transfer.s3_calls import (
    TRANSIENT_ERRORS,
    Calls,
    build_s3_error,
    fail_first_calls,
    never_sleep,
    no_sleep,
)


def read_files(folder: Path) -> dict[str, str]:
    """Return the text of every file in `folder`, keyed by its path relative to `folder`."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def get_size(files: list[InputFile]) -> int:
    """Return the total number of bytes."""
    return sum(file.size for file in files)


def test_keys_prefixes_and_addresses_are_fetched(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "in/a.txt", "p/1/x", "p/1/y", "p/2/", "other/z")
    files = fetch_inputs(InputSource(s3, "ours"), ["in/a.txt", "p/", "s3://ours/other/z", "in/a.txt"], tmp_path)
    assert read_files(tmp_path) == {"a.txt": "in/a.txt", "1/x": "p/1/x", "1/y": "p/1/y", "z": "other/z"}
    assert [(file.address, file.size) for file in files] == [
        ("s3://ours/in/a.txt", 8), ("s3://ours/p/1/x", 5), ("s3://ours/p/1/y", 5), ("s3://ours/other/z", 7),
    ]  # fmt: skip
    assert files[0].etag == s3.head_object(Bucket="ours", Key="in/a.txt")["ETag"]


def test_paths_in_the_mounted_bucket_are_keys(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "in/a.txt", "p/1/x")
    mount = "/home/ubuntu/bucket"
    files = fetch_inputs(InputSource(s3, "ours"), [f"{mount}/in/a.txt", f"{mount}//p/"], tmp_path)
    assert [file.address for file in files] == ["s3://ours/in/a.txt", "s3://ours/p/1/x"]
    assert read_files(tmp_path) == {"a.txt": "in/a.txt", "1/x": "p/1/x"}
    with pytest.raises(MissingInput, match=r"s3://ours//home/ubuntu/buckets/in/a\.txt"):  # not in this folder
        fetch_inputs(InputSource(s3, "ours"), [f"{mount}s/in/a.txt"], tmp_path / "other")


def test_hidden_files_of_macos_below_a_prefix_are_ignored_but_not_those_that_are_named(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "p/._a.tif", "p/__MACOSX/a.tif", "p/.DS_Store", "p/a.tif", "p/.config", "._p/x/b", "q/._c")
    fetch_inputs(InputSource(s3, "ours"), ["p/", "._p/x/", "q/._c"], tmp_path)
    assert sorted(read_files(tmp_path)) == ["._c", ".config", "a.tif", "b"]
    with pytest.raises(MissingInput, match="contains no files"):
        fetch_inputs(InputSource(s3, "ours"), ["q/"], tmp_path)


def test_inputs_in_a_mapping_are_saved_at_the_mapped_paths(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "in/a.txt", "p/1/x", "p/y", "b/z", "c/z")
    fetch_inputs(
        InputSource(s3, "ours"), {"in/a.txt": "d/e.txt", "p/": "plate", "b/z": "b/", "s3://ours/c/z": "c/"}, tmp_path
    )
    assert read_files(tmp_path) == {
        "d/e.txt": "in/a.txt", "plate/1/x": "p/1/x", "plate/y": "p/y", "b/z": "b/z", "c/z": "c/z",
    }  # fmt: skip


@pytest.mark.parametrize("target", ["../a", "/../a", "..", "a/../../b"])
def test_a_path_outside_the_jobs_folder_is_rejected(s3: Any, tmp_path: Path, target: str) -> None:
    put_objects(s3, "in/a")
    with pytest.raises(Failed, match="would be written outside the job's folder"):
        fetch_inputs(InputSource(s3, "ours"), {"in/a": target}, tmp_path)


def test_a_path_with_a_null_byte_is_named(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "in/a")
    with pytest.raises(BadData, match="cannot be stored as a file: its name contains a null byte"):
        fetch_inputs(InputSource(s3, "ours"), {"in/a": "x\0"}, tmp_path)


def test_an_input_never_replaces_an_existing_file(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "a/x", "b/x")
    fetch_inputs(InputSource(s3, "ours"), ["a/x"], tmp_path)
    with pytest.raises(Failed, match="two inputs would have the same file name: x"):
        fetch_inputs(InputSource(s3, "ours"), ["b/x"], tmp_path)


def test_two_inputs_with_the_same_file_name_are_rejected(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "a/x", "b/x")
    with pytest.raises(Failed, match="two inputs would have the same file name: x"):
        fetch_inputs(InputSource(s3, "ours"), ["a/x", "b/x"], tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no.tif", "s3://ours/no.tif does"),
        ("no/", "s3://ours/no/ contains no files"),
        ("s3://c-d/x", "s3://c-d/x"),
        ("s3://c-d/x/", "c-d/x/"),
        ("s3:///k", "the input 's3:///k' has no valid bucket: '' is not a bucket name"),
        ("s3://", "has no valid bucket"),
        ("s3://My Bucket/k", "no valid bucket: 'My Bucket' is not"),
        ("s3://My Bucket/x/", "no valid bucket: 'My Bucket' is not"),
        ("s3://arn:aws:s3:us-east-1:123456789012:accesspoint:x.y/k", "Invalid ARN"),
    ],
)
def test_a_missing_input_is_reported_with_its_address(s3: Any, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MissingInput, match=message):
        fetch_inputs(InputSource(s3, "ours"), [text], tmp_path, sleep=never_sleep)


def test_a_key_needs_an_input_bucket(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="the input 'k' has no valid bucket"):
        fetch_inputs(InputSource(s3, ""), ["k"], tmp_path)


@pytest.mark.parametrize(("code", "status"), [("InvalidBucketName", 400), ("KeyTooLongError", 400)])
def test_an_input_whose_name_s3_rejects_is_reported_missing_without_a_retry(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    def reject_request(**_: Any) -> None:
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(response, "GetObject")  # type: ignore[arg-type]

    monkeypatch.setattr(s3, "get_object", reject_request)
    with pytest.raises(MissingInput, match=code):
        fetch_inputs(InputSource(s3, "a..b"), ["in/a"], tmp_path, sleep=never_sleep)


@pytest.mark.parametrize(("key", "text"), [("p/../../evil", "p/"), ("p/..", "p/.."), ("p/a/../../../evil", "p/")])
def test_a_key_that_leads_out_of_the_input_folder_is_rejected(s3: Any, tmp_path: Path, key: str, text: str) -> None:
    put_objects(s3, key)
    input_folder = tmp_path / "job" / "input"
    input_folder.mkdir(parents=True)
    with pytest.raises(Failed, match="outside the job's folder"):
        fetch_inputs(InputSource(s3, "ours"), [text], input_folder)
    assert read_files(tmp_path) == {}


@pytest.mark.parametrize("keys", [["p/a", "p/a/b"], ["p/a", "p/a/b/c/d"]])
def test_an_input_that_would_be_both_a_file_and_a_folder_is_named_before_anything_is_fetched(
    s3: Any, tmp_path: Path, keys: list[str]
) -> None:
    put_objects(s3, *keys)
    addresses = f"s3://ours/{keys[0]} and s3://ours/{keys[1]}"
    with pytest.raises(
        BadData, match=f"the inputs {addresses} cannot both be stored: 'a' would be a file and a folder"
    ):
        fetch_inputs(InputSource(s3, "ours"), ["p/"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_fetch_that_needs_a_folder_where_a_file_is_fails_with_the_inputs_address(
    s3: Any, tmp_path: Path
) -> None:
    put_objects(s3, "p/a", "q/a/b")
    fetch_inputs(InputSource(s3, "ours"), ["p/"], tmp_path)
    with pytest.raises(BadData, match="the input s3://ours/q/a/b cannot be stored as a file"):
        fetch_inputs(InputSource(s3, "ours"), ["q/"], tmp_path)


LONG_NAME = "n" * 300


@pytest.mark.parametrize("key", [f"p/{LONG_NAME}", f"p/{LONG_NAME}/x", f"p/x/{LONG_NAME}", "p/" + 130 * "ä"])
@pytest.mark.parametrize("is_prefix", [True, False])
def test_a_name_that_the_disk_refuses_is_the_jobs_fault_and_not_the_machines(
    s3: Any, tmp_path: Path, key: str, is_prefix: bool
) -> None:
    put_objects(s3, key)
    inputs = ["p/"] if is_prefix else {key: key}
    with pytest.raises(BadData, match=r"the input s3://ours/p/\S+ cannot be stored as a file") as failed:
        fetch_inputs(InputSource(s3, "ours"), inputs, tmp_path)
    assert "machine" not in str(failed.value)
    assert len(str(failed.value)) < 250, "the name is shortened, so that the reason can be seen"
    assert failed.value.reason_class in FINAL_REASON_CLASSES & UNRELATED_REASON_CLASSES


@pytest.mark.parametrize("target", ["d/" * 3000 + "x", ("e" * 250 + "/") * 17])
def test_a_path_that_is_too_long_for_the_disk_is_the_jobs_fault(s3: Any, tmp_path: Path, target: str) -> None:
    put_objects(s3, "in/a")
    with pytest.raises(BadData, match="the input s3://ours/in/a cannot be stored as a file"):
        fetch_inputs(InputSource(s3, "ours"), {"in/a": target}, tmp_path)


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
@pytest.mark.parametrize("text", ["in/a", "in/"])
def test_an_archived_input_is_named_and_not_retried(s3: Any, tmp_path: Path, storage_class: str, text: str) -> None:
    s3.put_object(Bucket="ours", Key="in/a", Body=b"a", StorageClass=storage_class)
    with pytest.raises(BadData, match=rf"s3://ours/in/a is archived \({storage_class}\); restore it") as failed:
        fetch_inputs(InputSource(s3, "ours"), [text], tmp_path, sleep=never_sleep)
    assert failed.value.reason_class in FINAL_REASON_CLASSES & UNRELATED_REASON_CLASSES


def test_an_input_in_an_archive_tier_is_archived_too(s3: Any, tmp_path: Path) -> None:
    error = build_s3_error("InvalidObjectState", 403)
    error.response |= {"StorageClass": "INTELLIGENT_TIERING", "AccessTier": "ARCHIVE_ACCESS"}  # type: ignore[typeddict-item]
    Calls(s3, fail_first_calls(99, "GetObject", error))
    with pytest.raises(BadData, match=r"archived \(ARCHIVE_ACCESS\)"):
        fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path, sleep=never_sleep)


def test_a_small_input_takes_one_request(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="ours", Key="in/a", Body=b"a")
    calls = Calls(s3)
    assert get_size(fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path)) == 1
    assert calls.names == ["GetObject"]


@pytest.mark.usefixtures("small_parts")
def test_a_large_input_is_fetched_completely_in_parts(s3: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4 * 1024 * 11 + b"end"  # 11 MiB and 3 bytes: two parts of 5 MiB and a smaller one
    s3.put_object(Bucket="ours", Key="big", Body=content)
    calls = Calls(s3)
    assert get_size(fetch_inputs(InputSource(s3, "ours"), ["big"], tmp_path)) == len(content)
    assert (tmp_path / "big").read_bytes() == content
    assert calls.names == ["GetObject"] * 3 + ["HeadObject"]


def test_an_input_is_fetched_again_if_the_connection_breaks(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="ours", Key="in/a", Body=b"whole")
    real_get_object, breaks, sleeps = s3.get_object, [1, 2], []

    def get_object(**arguments: Any) -> Any:
        response = real_get_object(**arguments)
        if breaks and breaks.pop():
            response["Body"] = StreamingBody(io.BytesIO(b"who"), None)
        return response

    monkeypatch.setattr(s3, "get_object", get_object)
    assert get_size(fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path, sleep=sleeps.append)) == 5
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert sum(sleeps) == sum(RETRY_PAUSES_SECONDS[:2])


def test_an_input_that_cannot_be_reached_fails_after_its_retries(s3: Any, tmp_path: Path) -> None:
    calls = Calls(s3, fail_first_calls(99, "GetObject", EndpointConnectionError(endpoint_url="here")))
    with pytest.raises(Failed, match="s3://ours/in/a could not be fetched") as failed:
        fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path, sleep=no_sleep)
    assert failed.value.reason_class == "aws"
    assert calls.count("GetObject") == len(RETRY_PAUSES_SECONDS) + 1


@pytest.mark.parametrize(("code", "status"), [("NoSuchKey", 404), ("404", 404), ("NoSuchBucket", 404)])
def test_an_input_that_does_not_exist_is_reported_without_a_retry(
    s3: Any, tmp_path: Path, code: str, status: int
) -> None:
    calls = Calls(s3, fail_first_calls(99, "GetObject", build_s3_error(code, status)))
    with pytest.raises(MissingInput, match="the input s3://ours/in/a does not exist"):
        fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path)
    assert calls.names == ["GetObject"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDenied", 403), ("InvalidAccessKeyId", 403), ("KMS.DisabledException", 400), ("PreconditionFailed", 412),
    ],
)  # fmt: skip
def test_a_job_with_an_unreadable_input_is_retried_because_the_machine_may_be_the_cause(
    s3: Any, tmp_path: Path, code: str, status: int
) -> None:
    calls = Calls(s3, fail_first_calls(99, "GetObject", build_s3_error(code, status)))
    with pytest.raises(Failed, match=rf"the input s3://ours/in/a .*\({code}\)") as failed:
        fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path)
    assert failed.value.reason_class == "aws"
    assert failed.value.reason_class not in FINAL_REASON_CLASSES | UNRELATED_REASON_CLASSES
    assert calls.names == ["GetObject"]  # a retry within the same attempt would get the same response


@pytest.mark.parametrize(("code", "status"), TRANSIENT_ERRORS)
def test_a_request_is_retried_after_a_temporary_error(s3: Any, tmp_path: Path, code: str, status: int) -> None:
    put_objects(s3, "in/a")
    calls = Calls(s3, fail_first_calls(1, "GetObject", build_s3_error(code, status)))
    assert get_size(fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path, sleep=no_sleep)) == len("in/a")
    assert calls.names == ["GetObject", "GetObject"]


class FullDiskBody(io.BytesIO):
    """A body that raises a full-disk error when it is read."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_has_its_own_reason_class(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "get_object", lambda **_: {"ContentLength": 1, "ETag": "e", "Body": FullDiskBody()})
    with pytest.raises(Failed, match="No space left") as failed:
        fetch_inputs(InputSource(s3, "ours"), ["in/a"], tmp_path)
    assert failed.value.reason_class == "disk"


def list_payers(s3: Any, arguments: dict[str, object], folder: Path) -> list[tuple[str, str | None]]:
    """Fetch a prefix, a small file, and a large file. Return the name and the RequestPayer of each request."""
    requests: list[tuple[str, str | None]] = []

    def record_request(model: Any, params: dict[str, Any], **_: Any) -> None:
        requests.append((model.name, params["headers"].get("x-amz-request-payer")))

    s3.meta.events.register("before-call.s3", record_request)
    fetch_inputs(InputSource(s3, "ours", arguments), ["p/", "a", "big"], folder)
    return requests


@pytest.mark.usefixtures("small_parts")
def test_every_request_for_the_inputs_of_a_requester_pays_bucket_says_who_pays(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "p/1", "a")
    s3.put_object(Bucket="ours", Key="big", Body=bytes(11 * 1024 * 1024))
    requests = list_payers(s3, {"RequestPayer": "requester"}, tmp_path / "paid")
    assert {name for name, _ in requests} == {"ListObjectsV2", "GetObject", "HeadObject"}
    assert len(requests) == 1 + 1 + 1 + 3 + 1  # HeadObject for the checksum of the large file
    assert {payer for _, payer in requests} == {"requester"}


def test_no_request_says_who_pays_unless_the_job_asks_for_it(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "p/1", "a", "big")
    assert {payer for _, payer in list_payers(s3, {}, tmp_path / "free")} == {None}


def test_a_read_returns_what_has_arrived_so_that_a_slow_server_cannot_prevent_the_checks(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowStream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("this read would wait for all bytes")

        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(1)

    body = StreamingBody(SlowStream(b"slow"), "4")
    monkeypatch.setattr(s3, "get_object", lambda **_: {"ContentLength": 4, "ETag": "e", "Body": body})
    checks: list[None] = []
    fetch_inputs(InputSource(s3, "ours"), ["a"], tmp_path, lambda: checks.append(None))
    assert (tmp_path / "a").read_bytes() == b"slow"
    assert len(checks) >= 4


def test_a_request_that_botocore_repeats_is_checked_each_time(s3: Any, tmp_path: Path) -> None:
    put_objects(s3, "a")
    watch_requests(s3)
    sent: list[None] = []

    def fail_request(**_: Any) -> None:
        sent.append(None)
        raise ConnectTimeoutError(endpoint_url="here")

    def check() -> None:
        if sent:
            raise LostLease

    s3.meta.events.register_last("before-send.s3", fail_request)
    with pytest.raises(LostLease):
        fetch_inputs(InputSource(s3, "ours"), ["a"], tmp_path, check, never_sleep)
    assert len(sent) == 1
