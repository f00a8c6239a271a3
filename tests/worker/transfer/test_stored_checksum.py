"""Tests for comparing a fetched file with the checksum that S3 stores of the object."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import LostLease
from distributed_something.worker.transfer.stored_checksum import READ_BYTES, is_file_intact
from tests.worker.transfer.s3_calls import build_s3_error

CONTENT = os.urandom(READ_BYTES + 1)
OBJECT = ("ours", "in/a", '"etag"')


class HeadOnlyS3:
    """A client whose `head_object` returns a response or raises an error, and keeps the arguments of each call."""

    def __init__(self, response: dict[str, str] | Exception) -> None:
        self._response, self.calls = response, list[dict[str, Any]]()

    def head_object(self, **arguments: Any) -> dict[str, str]:
        self.calls.append(arguments)
        if isinstance(self._response, Exception):
            raise self._response
        return self._response


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(CONTENT)
    return tmp_path / "a"


def is_intact(response: dict[str, str] | Exception, path: Path) -> bool:
    return is_file_intact(HeadOnlyS3(response), *OBJECT, path, lambda: None)


# S3 says these of the text "123456789", which is the usual check value of the CRCs.
@pytest.mark.parametrize(
    ("name", "checksum"),
    [
        ("ChecksumCRC32", "cbf43926"),
        ("ChecksumCRC32C", "e3069283"),
        ("ChecksumCRC64NVME", "ae8b14860a799888"),
        ("ChecksumSHA256", hashlib.sha256(b"123456789").hexdigest()),
        ("ChecksumSHA1", hashlib.sha1(b"123456789").hexdigest()),
    ],
)
def test_every_kind_of_checksum_is_compared(name: str, checksum: str, tmp_path: Path) -> None:
    pytest.importorskip("awscrt")
    stored = {name: base64.b64encode(bytes.fromhex(checksum)).decode()}
    path = tmp_path / "a"
    path.write_bytes(b"123456789")
    assert is_intact(stored, path)
    path.write_bytes(b"123456780")
    assert not is_intact(stored, path)


def test_a_file_of_several_blocks_is_compared_as_a_whole(path: Path) -> None:
    stored = {"ChecksumSHA256": base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}
    assert is_intact(stored, path)
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert not is_intact(stored, path)


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"ChecksumCRC32": "2jmj7w==-3"},
        {"ChecksumCRC32": "2jmj7w==", "ChecksumType": "COMPOSITE"},
        {"ChecksumXXHASH3": "2jmj7w=="},
    ],
)
def test_without_a_checksum_of_the_whole_object_the_file_counts_as_intact(response: dict[str, str], path: Path) -> None:
    assert is_intact(response, path)


@pytest.mark.parametrize("error", [build_s3_error("412", 412), build_s3_error("403", 403)])
def test_an_object_that_cannot_be_asked_for_does_not_fail_the_job(error: ClientError, path: Path) -> None:
    assert is_intact(error, path)


def test_a_temporary_error_is_the_callers_to_retry(path: Path) -> None:
    with pytest.raises(ClientError):
        is_intact(build_s3_error("SlowDown", 503), path)


def test_the_request_is_about_the_fetched_version_and_says_who_pays(path: Path) -> None:
    s3 = HeadOnlyS3({})
    is_file_intact(s3, *OBJECT, path, lambda: None, {"RequestPayer": "requester"})
    assert s3.calls == [
        {"Bucket": "ours", "Key": "in/a", "IfMatch": '"etag"', "ChecksumMode": "ENABLED", "RequestPayer": "requester"}
    ]


def test_an_object_that_was_replaced_is_fetched_again_if_the_server_ignores_conditions(path: Path) -> None:
    stored = {"ChecksumSHA256": base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}
    assert is_intact(stored | {"ETag": OBJECT[2]}, path)
    assert not is_intact(stored | {"ETag": '"another"'}, path)


def test_check_can_end_the_comparison(path: Path) -> None:
    def lose_lease() -> None:
        raise LostLease

    with pytest.raises(LostLease):
        is_file_intact(HeadOnlyS3({"ChecksumCRC32": "AAAAAA=="}), *OBJECT, path, lose_lease)
