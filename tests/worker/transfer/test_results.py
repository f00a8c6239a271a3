"""Tests for uploading results: few requests, verification, and no requests after a lease is lost."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import Failed, LostLease, UploadError
from distributed_something.worker.transfer import results, s3_file
from distributed_something.worker.transfer.results import ResultDestination, has_unchanged_results, upload_results
from distributed_something.worker.transfer.retry import RETRY_PAUSES_SECONDS
from distributed_something.worker.transfer.s3_file import SMALL_FILE_BYTES, CheckedBody, upload_file_parts
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from tests.support.objects import list_sizes
from tests.worker.transfer.s3_calls import (
    TRANSIENT_ERRORS,
    Calls,
    ShortLease,
    build_s3_error,
    fail_first_calls,
    never_sleep,
    no_sleep,
)

OUT = ResultDestination("ours", "out")
HERE = ResultDestination("ours", "here")
FRESH = replace(HERE, replaceable={}, is_aws=True)  # where nothing has been uploaded yet


def test_an_upload_to_an_invalid_bucket_name_is_not_retried(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UploadError, match="My Bucket"):
        upload_results(s3, tmp_path, ResultDestination("My Bucket", "out"), sleep=never_sleep)


def test_large_and_empty_files_are_uploaded_and_verified(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", 1)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "large").write_bytes(b"large" * 9)
    (tmp_path / "empty").touch()
    outputs = upload_results(s3, tmp_path, ResultDestination("ours", "out/job"))
    assert [(output.key, output.size) for output in outputs] == [("out/job/deep/large", 45), ("out/job/empty", 0)]
    assert list_sizes(s3, "out/") == {"out/job/deep/large": 45, "out/job/empty": 0}


@pytest.mark.parametrize("max_single_put_bytes", [1, 100])
def test_an_upload_to_a_missing_bucket_fails(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_single_put_bytes: int
) -> None:
    monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", max_single_put_bytes)
    (tmp_path / "a").write_text("two")
    with pytest.raises(UploadError, match="s3://gone/out: "):
        upload_results(s3, tmp_path, ResultDestination("gone", "out"))


def change_responses(s3: Any, **changes: str) -> None:
    """Let S3's responses to uploads have no SHA-256, another ETag than the content's MD5, and `changes`."""

    def change(parsed: dict[str, Any], **_: Any) -> None:
        parsed.pop("ChecksumSHA256", None)
        parsed.update({"ETag": '"0123-1"', **changes})

    s3.meta.events.register("after-call.s3.PutObject", change)


def test_an_incomplete_upload_fails(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_responses(s3)
    (tmp_path / "a").write_text("two")
    monkeypatch.setattr(results, "list_s3_objects", lambda *_: {"out/a": ListedObject(2, "", datetime.now(UTC))})
    with pytest.raises(UploadError, match="1 of 1 files are missing or incomplete in S3, such as out/a"):
        upload_results(s3, tmp_path, OUT, sleep=lambda seconds: None)


def build_responses(content: bytes) -> dict[str, dict[str, str]]:
    """Return responses to the upload of a file: with its SHA-256, with its MD5, and with neither."""
    sha256 = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return {
        "sha256": {"ChecksumSHA256": sha256},
        "md5": {"ETag": f'"{hashlib.md5(content).hexdigest()}"'},
        "other sha256": {"ChecksumSHA256": sha256.swapcase()},
        "no etag": {"ETag": ""},
        "neither": {},
    }


@pytest.mark.parametrize(
    ("size", "response"),
    [(3, "sha256"), (3, "md5"), (0, "md5"), (SMALL_FILE_BYTES, "md5"), (SMALL_FILE_BYTES + 2, "sha256")],
)
def test_a_single_file_is_not_listed_if_awss_response_shows_its_content(
    s3: Any, output_folder: Path, size: int, response: str
) -> None:
    content = b"2" * size
    change_responses(s3, **build_responses(content)[response])
    (output_folder / "a").write_bytes(content)
    calls = Calls(s3)
    (output,) = upload_results(s3, output_folder, FRESH)
    assert calls.names == ["PutObject"]
    assert (output.size, output.checksum_sha256) == (size, hashlib.sha256(content).hexdigest())
    assert s3.get_object(Bucket="ours", Key="here/a")["Body"].read() == content


@pytest.mark.parametrize(
    ("size", "response"),
    [(3, "other sha256"), (3, "no etag"), (3, "neither"), (SMALL_FILE_BYTES + 2, "md5"), (17, "part")],
)
def test_a_single_file_is_listed_if_awss_response_does_not_show_its_content(
    s3: Any, output_folder: Path, monkeypatch: pytest.MonkeyPatch, size: int, response: str
) -> None:
    content = b"2" * size
    if response == "part":
        monkeypatch.setattr(results, "MAX_INLINE_BYTES", 1)
        monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", 1)
    change_responses(s3, **build_responses(content).get(response, {}))
    (output_folder / "a").write_bytes(content)
    calls = Calls(s3)
    upload_results(s3, output_folder, FRESH)
    assert "ListObjectsV2" in calls.names


def test_a_single_file_on_another_server_is_listed(s3: Any, output_folder: Path) -> None:
    (output_folder / "a").write_text("two")
    change_responses(s3, **build_responses(b"two")["sha256"])
    calls = Calls(s3)
    (output,) = upload_results(s3, output_folder, replace(FRESH, is_aws=False))
    assert calls.names[:2] == ["PutObject", "ListObjectsV2"]
    assert has_unchanged_results(s3, "here", [output])  # the ETag is the one in the listing


def test_several_files_are_listed(s3: Any, output_folder: Path) -> None:
    for name in "ab":
        (output_folder / name).write_text(name)
    calls = Calls(s3)
    upload_results(s3, output_folder, FRESH)
    assert sorted(calls.names) == ["ListObjectsV2", "PutObject", "PutObject"]


def test_a_file_that_grows_before_it_is_read_is_recorded_with_the_size_that_was_sent(
    s3: Any, output_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output_folder / "a").write_text("two")

    def grow_and_upload(s3: Any, path: Path, *arguments: Any, **options: Any) -> s3_file.UploadedFile:
        Path(path).write_text("three")
        return s3_file.upload_whole_file(s3, path, *arguments, **options)

    monkeypatch.setattr(results, "upload_whole_file", grow_and_upload)
    (output,) = upload_results(s3, output_folder, replace(HERE, is_aws=True))
    assert (output.size, output.checksum_sha256) == (5, hashlib.sha256(b"three").hexdigest())
    assert list_sizes(s3, "here/") == {"here/a": 5}


def test_the_lease_is_checked_after_the_last_request(s3: Any, output_folder: Path) -> None:
    (output_folder / "a").write_text("two")
    is_lost: list[bool] = []

    def check() -> None:
        if is_lost:
            raise LostLease

    s3.meta.events.register("after-call.s3.PutObject", lambda **_: is_lost.append(True))
    with pytest.raises(LostLease):
        upload_results(s3, output_folder, FRESH, check=check)


def test_results_are_unchanged_until_a_file_is_replaced(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    outputs = upload_results(s3, tmp_path, OUT)
    assert has_unchanged_results(s3, "out", outputs)
    s3.put_object(Bucket="ours", Key="out/a", Body=b"b")
    assert not has_unchanged_results(s3, "out", outputs)


def test_a_link_is_uploaded_as_its_target_unless_it_leads_outside_the_jobs_folder(s3: Any, output_folder: Path) -> None:
    (output_folder / "a").write_text("a")
    (output_folder / "again").symlink_to("a")
    upload_results(s3, output_folder, HERE)
    assert s3.get_object(Bucket="ours", Key="here/again")["Body"].read() == b"a"
    (output_folder / "out").symlink_to("/etc/hosts")
    with pytest.raises(Failed, match="a link to a path outside the job's folder"):
        upload_results(s3, output_folder, OUT)
    assert list_sizes(s3, "out/") == {}


@pytest.mark.parametrize(("code", "status"), TRANSIENT_ERRORS)
def test_a_request_is_retried_after_a_temporary_error(s3: Any, output_folder: Path, code: str, status: int) -> None:
    (output_folder / "a").touch()
    calls = Calls(s3, fail_first_calls(1, "PutObject", build_s3_error(code, status)))
    upload_results(s3, output_folder, ResultDestination("ours", "here", replaceable={}), sleep=no_sleep)
    assert calls.names == ["PutObject", "PutObject", "ListObjectsV2"]


@pytest.mark.usefixtures("small_parts")
def test_a_large_file_is_uploaded_in_parts_and_its_checksum_covers_the_complete_file(
    s3: Any, output_folder: Path
) -> None:
    content = b"0123456789abcdef" * 64 * 1024 * 11
    (output_folder / "big").write_bytes(content)
    calls = Calls(s3)
    (output,) = upload_results(s3, output_folder, HERE)
    assert output.checksum_sha256 == hashlib.sha256(content).hexdigest()
    assert s3.get_object(Bucket="ours", Key="here/big")["Body"].read() == content
    assert calls.count("UploadPart") == 3


@pytest.mark.usefixtures("small_parts")
def test_every_request_with_content_contains_a_checksum_that_s3_verifies(s3: Any, output_folder: Path) -> None:
    (output_folder / "small").write_bytes(b"abc")
    (output_folder / "big").write_bytes(b"0" * 6 * 1024 * 1024)
    headers: dict[str, set[str]] = {}

    def record_headers(request: Any, operation_name: str, **_: Any) -> None:
        names = {name.lower() for name in request.headers} | set(str(request.headers.get("x-amz-trailer", "")).split())
        headers[operation_name] = headers.get(operation_name, names) & names

    s3.meta.events.register("request-created.s3", record_headers)
    upload_results(s3, output_folder, HERE)
    assert "x-amz-checksum-sha256" in headers["PutObject"]
    assert "x-amz-checksum-crc32" in headers["UploadPart"]


def shorten_once(listed: dict[str, ListedObject], calls_to_change: list[bool]) -> dict[str, ListedObject]:
    """Return the listing, but show `here/b` as empty the first time."""
    if "here/b" in listed and calls_to_change:
        calls_to_change.pop()
        return listed | {"here/b": replace(listed["here/b"], size=0)}
    return listed


def test_only_a_file_that_failed_is_uploaded_again(
    s3: Any, output_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (output_folder / name).write_text(name)
    calls_to_change = [True]
    monkeypatch.setattr(
        results, "list_s3_objects", lambda *arguments: shorten_once(list_s3_objects(*arguments), calls_to_change)
    )
    calls, sleeps = Calls(s3), []
    outputs = upload_results(s3, output_folder, HERE, sleep=sleeps.append)
    assert [output.key for output in outputs] == ["here/a", "here/b", "here/c"]
    assert calls.count("PutObject") == 4
    assert sum(sleeps) == RETRY_PAUSES_SECONDS[0]


def test_an_upload_fails_after_all_retries_if_s3_stays_unavailable(s3: Any, output_folder: Path) -> None:
    (output_folder / "a").touch()
    Calls(s3, fail_first_calls(99, "PutObject", build_s3_error("ServiceUnavailable", 503)))
    sleeps: list[float] = []
    with pytest.raises(UploadError, match=r"s3://ours/here: .*ServiceUnavailable"):
        upload_results(s3, output_folder, HERE, sleep=sleeps.append)
    assert sum(sleeps) == sum(RETRY_PAUSES_SECONDS)


def test_nothing_is_published_if_the_lease_is_lost_during_any_read(s3: Any, output_folder: Path) -> None:
    (output_folder / "a").write_bytes(b"a" * 300_000)
    lease = ShortLease(1000)
    upload_results(s3, output_folder, ResultDestination("ours", "kept"), check=lease)
    check_count = 1000 - lease.remaining_calls
    assert check_count > 3
    for calls in range(check_count):
        with pytest.raises(LostLease):
            upload_results(s3, output_folder, ResultDestination("ours", "lost"), check=ShortLease(calls))
    assert list_sizes(s3, "lost/") == {}


@pytest.mark.usefixtures("small_parts")
def test_nothing_stays_in_s3_if_the_lease_is_lost_before_the_upload_is_completed(s3: Any, output_folder: Path) -> None:
    (output_folder / "big").write_bytes(b"0" * 11 * 1024 * 1024)
    lease = ShortLease(10**6)

    def lose_lease(name: str) -> None:
        if name == "CompleteMultipartUpload":
            lease.remaining_calls = 0

    Calls(s3, lose_lease)
    with pytest.raises(LostLease):
        upload_results(s3, output_folder, HERE, check=lease)
    assert list_sizes(s3, "here/") == {}
    assert s3.list_multipart_uploads(Bucket="ours").get("Uploads", []) == []


@pytest.mark.usefixtures("small_parts")
def test_an_upload_is_aborted_if_a_part_fails(s3: Any, output_folder: Path) -> None:
    (output_folder / "big").write_bytes(b"0" * 11 * 1024 * 1024)
    Calls(s3, fail_first_calls(99, "UploadPart", build_s3_error("AccessDenied", 403)))
    with pytest.raises(UploadError, match="AccessDenied"):
        upload_results(s3, output_folder, HERE, sleep=no_sleep)
    assert s3.list_multipart_uploads(Bucket="ours").get("Uploads", []) == []


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_ends_the_upload_before_the_rest_of_the_file_is_read(
    s3: Any, output_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (output_folder / "big").write_bytes(b"0" * 30 * 1024 * 1024)
    monkeypatch.setattr(s3_file, "MAX_PARALLEL_REQUESTS", 1)
    calls = Calls(s3, fail_first_calls(1, "UploadPart", build_s3_error("AccessDenied", 403)))
    with pytest.raises(UploadError, match="AccessDenied"):
        upload_results(s3, output_folder, HERE, sleep=never_sleep)
    assert calls.count("UploadPart") <= 2


@pytest.mark.usefixtures("small_parts")
def test_a_file_that_becomes_shorter_while_its_parts_are_sent_is_uploaded_as_it_is_then(
    s3: Any, output_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, length = output_folder / "big", 11 * 1024 * 1024
    path.write_bytes(b"0" * (length + 1))
    monkeypatch.setattr(s3_file, "MAX_PARALLEL_REQUESTS", 1)
    s3.meta.events.register("before-call.s3.UploadPart", lambda **_: os.truncate(path, length))
    sleeps: list[float] = []
    (output,) = upload_results(s3, output_folder, HERE, sleep=sleeps.append)
    assert (output.size, output.checksum_sha256) == (length, hashlib.sha256(b"0" * length).hexdigest())
    assert list_sizes(s3, "here/") == {"here/big": length}
    assert sum(sleeps) == RETRY_PAUSES_SECONDS[0]


def compute_crc32(content: bytes) -> str:
    """Return the checksum as it is in S3's headers."""
    return base64.b64encode(zlib.crc32(content).to_bytes(4)).decode()


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_changes_after_it_was_read_for_the_record_is_rejected_and_sent_again(
    s3: Any, output_folder: Path
) -> None:
    path, sizes = output_folder / "big", list[int]()
    path.write_bytes(b"old" * 2 * 1024 * 1024)

    def change_file_and_compare_checksum(params: Any, **_: Any) -> None:
        if not sizes:
            with path.open("r+b") as file:
                file.write(b"new")
        body = params["body"]
        content = body.read()
        body.seek(0)
        sizes.append(len(content))
        if params["headers"]["x-amz-checksum-crc32"] != compute_crc32(content):
            raise build_s3_error("BadDigest", 400)

    s3.meta.events.register("before-call.s3.UploadPart", change_file_and_compare_checksum)
    (output,) = upload_results(s3, output_folder, HERE, sleep=no_sleep)
    stored = s3.get_object(Bucket="ours", Key="here/big")["Body"].read()
    assert (len(sizes), stored[:6]) == (4, b"newold")
    assert output.checksum_sha256 == hashlib.sha256(stored).hexdigest()


class PartsInProgress:
    """An S3 client whose first part fails while the second is still being sent. It records the order of the ends."""

    def __init__(self, s3: Any) -> None:
        self._s3, self.events = s3, list[str]()
        self._second_began, self._aborted = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def upload_part(self, PartNumber: int, **_: Any) -> Any:
        if PartNumber == 1:
            assert self._second_began.wait(30)
            raise build_s3_error("AccessDenied", 403)
        self._second_began.set()
        self._aborted.wait(0.3)  # if the abort did not wait for this part, it would come first
        self.events.append(f"part {PartNumber} has arrived")
        return {"ETag": "e"}

    def abort_multipart_upload(self, **_: Any) -> None:
        self.events.append("aborted")
        self._aborted.set()


def test_an_upload_is_aborted_only_after_its_parts_in_progress_because_later_ones_would_stay_in_s3(
    s3: Any, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(b"0" * (s3_file.UPLOAD_PART_BYTES + 1))
    parts = PartsInProgress(s3)
    with ThreadPoolExecutor(3) as pool, pytest.raises(ClientError):
        upload_file_parts(parts, tmp_path / "big", "ours", "big", lambda: None, pool)
    assert parts.events == ["part 2 has arrived", "aborted"]


def test_a_retried_request_checks_the_lease_again(output_folder: Path) -> None:
    (output_folder / "a").write_bytes(b"abc")
    lease = ShortLease(10**6)
    with (output_folder / "a").open("rb") as file:
        body = CheckedBody(file, 1, 2, lease)
        assert (body.read(), body.read(), body.tell()) == (b"bc", b"", 2)
        lease.remaining_calls = 0
        with pytest.raises(LostLease):
            body.seek(0)  # botocore does this before it retries a request


def test_the_lease_is_lost_if_another_worker_replaces_a_file_before_it_is_verified(
    s3: Any, output_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_responses(s3)
    (output_folder / "a").write_text("ours")
    replacements = [b"ours", b"that"]

    def replace_and_list(*arguments: Any) -> dict[str, ListedObject]:
        s3.put_object(Bucket="ours", Key="here/a", Body=replacements[0])
        return list_s3_objects(*arguments)

    monkeypatch.setattr(results, "list_s3_objects", replace_and_list)
    (output,) = upload_results(s3, output_folder, FRESH)
    assert has_unchanged_results(s3, "here", [output])
    replacements.pop(0)
    with pytest.raises(LostLease):
        upload_results(s3, output_folder, replace(FRESH, replaceable=list_s3_objects(s3, "ours", "here/")))
