"""Tests that every S3 request in an upload contains the arguments from the job file's upload flags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from distributed_something.worker.job.upload_flags import parse_upload_flags
from distributed_something.worker.transfer import results
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from distributed_something.worker.transfer.s3_file import upload_whole_file

OWNER = {"ACL": "bucket-owner-full-control"}


@pytest.fixture
def stub() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        yield client, stubber
        stubber.assert_no_pending_responses()


def test_every_upload_request_contains_the_arguments_from_the_flags(
    stub: tuple[Any, Stubber], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that create an object contain the ACL; all requests to the bucket contain `RequestPayer`."""
    s3, stubber = stub
    monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", 5)
    (tmp_path / "a").write_text("small")
    (tmp_path / "b").write_text("larger")
    payer = {"RequestPayer": "requester"}
    listing = {"Bucket": "other-account", "Prefix": "out/"} | payer
    condition, metadata = {"IfNoneMatch": "*"}, {"Metadata": {"job-files": "2"}}
    contents = [{"Key": "out/a", "Size": 5, "LastModified": 0}, {"Key": "out/b", "Size": 6, "LastModified": 0}]
    stubber.add_response("list_objects_v2", {}, listing)
    small, large = (
        {"Bucket": "other-account", "Key": "out/a"} | payer,
        {"Bucket": "other-account", "Key": "out/b"} | payer,
    )
    stubber.add_response("put_object", {}, small | OWNER | condition | metadata | {"Body": ANY, "ChecksumSHA256": ANY})
    creation = large | OWNER | metadata | {"ChecksumAlgorithm": "CRC32"}
    stubber.add_response("create_multipart_upload", {"UploadId": "u"}, creation)
    part = {"PartNumber": 1, "Body": ANY, "ChecksumCRC32": ANY}
    stubber.add_response("upload_part", {"ETag": "e"}, large | {"UploadId": "u"} | part)
    parts = {"Parts": [{"PartNumber": 1, "ETag": "e"}]}
    stubber.add_response(
        "complete_multipart_upload", {}, large | {"UploadId": "u", "MultipartUpload": parts} | condition
    )
    stubber.add_response("list_objects_v2", {"Contents": contents}, listing)
    flags = parse_upload_flags("--acl bucket-owner-full-control --request-payer requester")
    outputs = upload_results(s3, tmp_path, ResultDestination("other-account", "out", flags))
    assert [output.key for output in outputs] == ["out/a", "out/b"]


def test_without_flags_requests_have_no_extra_arguments(stub: tuple[Any, Stubber], tmp_path: Path) -> None:
    s3, stubber = stub
    (tmp_path / "a").touch()
    stubber.add_response("put_object", {}, {"Bucket": "ours", "Key": "k", "Body": ANY, "ChecksumSHA256": ANY})
    upload_whole_file(s3, tmp_path / "a", "ours", "k", lambda: None)
