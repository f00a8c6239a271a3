"""Uploads in parts: how a file is split, and what happens if a part fails or the file changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from hypothesis import example, given
from hypothesis import strategies as st

from distributed_something.worker.job.failures import LostLease
from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.transfer.retry import IncompleteTransfer
from distributed_something.worker.transfer.s3_file import (
    MAX_PARTS,
    UPLOAD_PART_BYTES,
    UploadedFile,
    _split_file,
    upload_file_parts,
)
from tests.worker.transfer.conftest import SMALLEST_PART_BYTES
from tests.worker.transfer.s3_calls import ShortLease, build_s3_error

MAX_PART_BYTES, MAX_OBJECT_BYTES = 5 * 2**30, 5 * 2**40  # S3's limits


class RecordingS3:
    """An S3 client that records the names of its requests and reads the bodies. `on_part` may raise an error."""

    def __init__(self, on_part: Callable[[int], None] = lambda number: None) -> None:
        self.requests: list[str] = []
        self._on_part = on_part
        self.meta = type("Meta", (), {"events": self})  # as if it had botocore's events

    def register(self, *_: Any, **__: Any) -> None:
        """Ignore a handler."""

    def create_multipart_upload(self, **_: Any) -> dict[str, Any]:
        self.requests.append("create")
        return {"UploadId": "u"}

    def upload_part(self, PartNumber: int, Body: Any, ChecksumCRC32: str, **_: Any) -> dict[str, Any]:
        self.requests.append(f"part {PartNumber}")
        self._on_part(PartNumber)
        while Body.read(65536):
            pass
        return {"ETag": f"e{PartNumber}", "ChecksumCRC32": ChecksumCRC32}

    def complete_multipart_upload(self, **_: Any) -> dict[str, Any]:
        self.requests.append("complete")
        return {"ETag": "e", "ChecksumCRC32": "whole==-3"}

    def abort_multipart_upload(self, **_: Any) -> None:
        self.requests.append("abort")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of two whole parts and a shorter one."""
    path = tmp_path / "big"
    path.write_bytes(os.urandom(2 * UPLOAD_PART_BYTES + 5))
    return path


def upload(s3: Any, path: Path, check: Callable[[], None] = lambda: None, threads: int = 1) -> UploadedFile:
    with ThreadPoolExecutor(threads) as pool:
        return upload_file_parts(s3, path, "ours", "big", check, pool)


@given(st.integers(1, MAX_OBJECT_BYTES))
@example(MAX_PARTS * UPLOAD_PART_BYTES)
@example(MAX_PARTS * UPLOAD_PART_BYTES + 1)
@example(MAX_OBJECT_BYTES)
def test_a_file_is_split_into_parts_that_s3_accepts(size: int) -> None:
    parts = list(_split_file(Path("big"), size))
    assert len(parts) <= MAX_PARTS
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert parts[0].start == 0
    assert parts[-1].start + parts[-1].size == size
    assert all(part.start + part.size == following.start for part, following in pairwise(parts))
    assert all(SMALLEST_PART_BYTES <= part.size <= MAX_PART_BYTES for part in parts[:-1])


def test_the_uploaded_file_has_s3s_checksum_of_its_parts(path: Path) -> None:
    s3 = RecordingS3()
    sent = upload(s3, path)
    assert (sent.size, sent.crc32) == (path.stat().st_size, "whole==-3")
    assert s3.requests == ["create", "part 1", "part 2", "part 3", "complete"]


def test_whenever_the_lease_is_lost_no_part_is_sent_afterward_and_the_upload_is_aborted(path: Path) -> None:
    lease = ShortLease(10**6)
    upload(RecordingS3(), path, lease)
    count = 10**6 - lease.remaining_calls
    assert count > 100  # each read of 256 KiB for the checksums, and each read of the body
    for calls in (*range(0, count - 1, 7), count - 1):
        lease = ShortLease(calls)
        s3 = RecordingS3(lambda number, lease=lease: lease())  # type: ignore[misc]
        with pytest.raises(LostLease):
            upload(s3, path, lease)
        assert (s3.requests[0], s3.requests[-1]) == ("create", "abort") if calls else not s3.requests


def test_no_part_is_hashed_after_the_lease_is_lost(path: Path) -> None:
    lease = ShortLease(3)  # the first is before the upload is created
    s3 = RecordingS3()
    with pytest.raises(LostLease):
        upload(s3, path, lease)
    assert s3.requests == ["create", "abort"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, build_s3_error("AccessDenied", 403)])
def test_any_error_of_a_part_aborts_the_upload_and_is_raised(path: Path, error: Any) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise error

    s3 = RecordingS3(fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        upload(s3, path)
    assert s3.requests == ["create", "part 1", "part 2", "abort"]


def test_a_part_that_fails_ends_the_upload_while_an_earlier_one_is_still_being_sent(path: Path) -> None:
    path.write_bytes(b"0" * 8 * UPLOAD_PART_BYTES)
    has_failed = threading.Event()

    def fail_second(number: int) -> None:
        if number == 1:
            assert has_failed.wait(30)
        elif number == 2:
            has_failed.set()
            raise build_s3_error("AccessDenied", 403)

    s3 = RecordingS3(fail_second)
    with pytest.raises(ClientError):
        upload(s3, path, threads=3)
    assert "part 8" not in s3.requests


def test_if_the_upload_cannot_be_aborted_the_first_error_is_raised(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise build_s3_error("SlowDown", 503)

    def refuse(**_: Any) -> None:
        raise build_s3_error("AccessDenied", 403)

    s3 = RecordingS3(fail)
    monkeypatch.setattr(s3, "abort_multipart_upload", refuse)
    with pytest.raises(ClientError, match="SlowDown"):
        upload(s3, path)


@pytest.mark.parametrize("length", [UPLOAD_PART_BYTES + 1, 0])
@pytest.mark.parametrize("last", ["part 1", "part 2", "part 3"])
def test_a_file_that_becomes_shorter_while_a_part_is_sent_is_not_completed(path: Path, length: int, last: str) -> None:
    def shorten(number: int) -> None:
        if last == f"part {number}":
            os.truncate(path, length)

    s3 = RecordingS3(shorten)
    with pytest.raises(IncompleteTransfer, match="became shorter"):
        upload(s3, path)
    assert s3.requests[-1] == "abort"
    assert "complete" not in s3.requests


def test_a_part_that_is_incomplete_when_it_is_hashed_is_not_sent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = RecordingS3()

    def shorten(**_: Any) -> dict[str, Any]:
        os.truncate(path, UPLOAD_PART_BYTES + 1)
        return {"UploadId": "u"}

    monkeypatch.setattr(s3, "create_multipart_upload", shorten)
    with pytest.raises(IncompleteTransfer, match="became shorter"):
        upload(s3, path)
    assert s3.requests == ["part 1", "abort"]


def test_a_file_that_is_empty_now_is_not_uploaded_in_parts(path: Path) -> None:
    path.write_bytes(b"")
    s3 = RecordingS3()
    with pytest.raises(IncompleteTransfer, match="became shorter"):
        upload(s3, path)
    assert s3.requests == []


@pytest.mark.usefixtures("s3")
def test_a_body_whose_file_became_shorter_is_not_sent_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore would repeat the request eight times, and the server would wait for the missing bytes each time."""
    s3, attempts = Clients(1, "us-east-1")("s3"), list[str]()

    def shorten_and_send(request: Any, event_name: str, **_: Any) -> None:
        if not event_name.endswith("UploadPart"):
            return
        attempts.append("sent")
        os.truncate(path, 5)
        try:
            request.body.seek(0)
            while request.body.read(65536):
                pass
        except IncompleteTransfer as error:  # as botocore wraps it
            raise HTTPClientError(error=error) from error

    s3.meta.events.register("before-send.s3", shorten_and_send)  # after the handler that calls `check`
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    with pytest.raises(IncompleteTransfer, match="became shorter"), ThreadPoolExecutor(1) as pool:
        upload_file_parts(s3, path, "ours", "big", lambda: None, pool)
    assert attempts == ["sent"]


def test_a_part_that_a_server_stored_with_another_checksum_is_not_completed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = RecordingS3()
    monkeypatch.setattr(s3, "upload_part", lambda **_: {"ETag": "e", "ChecksumCRC32": "other=="})
    with pytest.raises(IncompleteTransfer, match="part 1 of a file changed"):
        upload(s3, path)
    assert s3.requests == ["create", "abort"]
