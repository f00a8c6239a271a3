"""Results: uploaded in as few requests as it takes, verified, and nothing after a lease is lost."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.job.failures import Failed, LostLease, UploadError
from distributed_something.worker.transfer import results
from distributed_something.worker.transfer.results import ResultDestination, has_unchanged_results, upload_results
from distributed_something.worker.transfer.retry import RETRY_PAUSES_SECONDS
from distributed_something.worker.transfer.s3_file import CheckedBody
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects
from tests.support.objects import list_sizes
from tests.worker.transfer.s3_calls import (
    TRANSIENT_REFUSALS,
    Calls,
    ShortLease,
    first_times,
    never_sleep,
    no_sleep,
    refused,
)

OUT = ResultDestination("ours", "out")
HERE = ResultDestination("ours", "here")


def test_outputs_for_a_bucket_that_cannot_be_are_not_sent_again_and_again(s3: Any, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("single", [1, 100])
def test_an_upload_that_stays_refused_fails_after_its_tries(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single: int
) -> None:
    monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", single)
    (tmp_path / "a").write_text("two")
    with pytest.raises(UploadError, match="s3://gone/out: "):
        upload_results(s3, tmp_path, ResultDestination("gone", "out"))


def test_an_upload_that_arrived_short_fails(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("two")
    monkeypatch.setattr(results, "list_s3_objects", lambda *_: {"out/a": ListedObject(2, "", datetime.now(UTC))})
    with pytest.raises(UploadError, match="1 of 1 files are not there or incomplete, such as out/a"):
        upload_results(s3, tmp_path, OUT, sleep=lambda seconds: None)


def test_outputs_are_still_there_as_long_as_nobody_replaced_one(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    outputs = upload_results(s3, tmp_path, OUT)
    assert has_unchanged_results(s3, "out", outputs)
    s3.put_object(Bucket="ours", Key="out/a", Body=b"b")
    assert not has_unchanged_results(s3, "out", outputs)


def test_a_link_is_uploaded_as_the_file_that_it_leads_to_and_nothing_where_one_leads_out(s3: Any, out: Path) -> None:
    (out / "a").write_text("a")
    (out / "again").symlink_to("a")
    upload_results(s3, out, HERE)
    assert s3.get_object(Bucket="ours", Key="here/again")["Body"].read() == b"a"
    (out / "out").symlink_to("/etc/hosts")
    with pytest.raises(Failed, match="out of the job's folder"):
        upload_results(s3, out, OUT)
    assert list_sizes(s3, "out/") == {}


@pytest.mark.parametrize(("code", "status"), TRANSIENT_REFUSALS)
def test_what_passes_is_sent_again(s3: Any, out: Path, code: str, status: int) -> None:
    (out / "a").touch()
    calls = Calls(s3, first_times(1, "PutObject", refused(code, status)))
    upload_results(s3, out, ResultDestination("ours", "here", replaceable={}), sleep=no_sleep)
    assert calls.names == ["PutObject", "PutObject", "ListObjectsV2"]


@pytest.mark.usefixtures("small_parts")
def test_a_large_output_goes_up_in_parts_and_its_checksum_is_the_whole_files(s3: Any, out: Path) -> None:
    content = b"0123456789abcdef" * 64 * 1024 * 11
    (out / "big").write_bytes(content)
    calls = Calls(s3)
    (output,) = upload_results(s3, out, HERE)
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
    upload_results(s3, out, HERE)
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
    monkeypatch.setattr(results, "list_s3_objects", lambda *asked: cut(real(*asked), short))
    calls, slept = Calls(s3), []
    outputs = upload_results(s3, out, HERE, sleep=slept.append)
    assert [output.key for output in outputs] == ["here/a", "here/b", "here/c"]
    assert calls.count("PutObject") == 4
    assert sum(slept) == RETRY_PAUSES_SECONDS[0]


def test_an_upload_that_stays_unavailable_fails_after_pauses_that_grow(s3: Any, out: Path) -> None:
    (out / "a").touch()
    Calls(s3, first_times(99, "PutObject", refused("ServiceUnavailable", 503)))
    slept: list[float] = []
    with pytest.raises(UploadError, match=r"s3://ours/here: .*ServiceUnavailable"):
        upload_results(s3, out, HERE, sleep=slept.append)
    assert sum(slept) == sum(RETRY_PAUSES_SECONDS)


def test_a_lease_lost_at_any_read_publishes_nothing(s3: Any, out: Path) -> None:
    (out / "a").write_bytes(b"a" * 300_000)
    kept = ShortLease(1000)
    upload_results(s3, out, ResultDestination("ours", "kept"), check=kept)
    asked = 1000 - kept.left
    assert asked > 3
    for held in range(asked):
        with pytest.raises(LostLease):
            upload_results(s3, out, ResultDestination("ours", "lost"), check=ShortLease(held))
    assert list_sizes(s3, "lost/") == {}


@pytest.mark.usefixtures("small_parts")
def test_a_lease_lost_before_the_parts_are_put_together_leaves_nothing_in_s3(s3: Any, out: Path) -> None:
    (out / "big").write_bytes(b"0" * 11 * 1024 * 1024)
    lease = ShortLease(10**6)

    def lose(name: str) -> None:
        if name == "CompleteMultipartUpload":
            lease.left = 0

    Calls(s3, lose)
    with pytest.raises(LostLease):
        upload_results(s3, out, HERE, check=lease)
    assert list_sizes(s3, "here/") == {}
    assert s3.list_multipart_uploads(Bucket="ours").get("Uploads", []) == []


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_leaves_no_half_upload(s3: Any, out: Path) -> None:
    (out / "big").write_bytes(b"0" * 11 * 1024 * 1024)
    Calls(s3, first_times(99, "UploadPart", refused("AccessDenied", 403)))
    with pytest.raises(UploadError, match="AccessDenied"):
        upload_results(s3, out, HERE, sleep=no_sleep)
    assert s3.list_multipart_uploads(Bucket="ours").get("Uploads", []) == []


def test_a_repeated_request_asks_again_before_it_sends(out: Path) -> None:
    (out / "a").write_bytes(b"abc")
    lease = ShortLease(10**6)
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

    monkeypatch.setattr(results, "list_s3_objects", replaced_meanwhile)
    (output,) = upload_results(s3, out, replace(HERE, replaceable={}))
    assert has_unchanged_results(s3, "here", [output])
    others.pop(0)
    with pytest.raises(LostLease):
        upload_results(s3, out, replace(HERE, replaceable=real(s3, "ours", "here/")))
