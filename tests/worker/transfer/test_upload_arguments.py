"""What a Job file's upload flags ask stands in every request of an upload, in one request and in parts."""

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


def test_every_request_of_an_upload_says_what_the_flags_ask(
    stub: tuple[Any, Stubber], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The access list where an object is made; who pays in every request to the bucket."""
    s3, stubber = stub
    monkeypatch.setattr(results, "MAX_SINGLE_PUT_BYTES", 5)
    (tmp_path / "a").write_text("small")
    (tmp_path / "b").write_text("larger")
    payer = {"RequestPayer": "requester"}
    listing = {"Bucket": "theirs", "Prefix": "out/"} | payer
    new, told = {"IfNoneMatch": "*"}, {"Metadata": {"job-files": "2"}}
    found = [{"Key": "out/a", "Size": 5, "LastModified": 0}, {"Key": "out/b", "Size": 6, "LastModified": 0}]
    stubber.add_response("list_objects_v2", {}, listing)
    small, large = {"Bucket": "theirs", "Key": "out/a"} | payer, {"Bucket": "theirs", "Key": "out/b"} | payer
    stubber.add_response("put_object", {}, small | OWNER | new | told | {"Body": ANY, "ChecksumSHA256": ANY})
    begun = large | OWNER | told | {"ChecksumAlgorithm": "CRC32"}
    stubber.add_response("create_multipart_upload", {"UploadId": "u"}, begun)
    part = {"PartNumber": 1, "Body": ANY, "ChecksumAlgorithm": "CRC32"}
    stubber.add_response("upload_part", {"ETag": "e"}, large | {"UploadId": "u"} | part)
    parts = {"Parts": [{"PartNumber": 1, "ETag": "e"}]}
    stubber.add_response("complete_multipart_upload", {}, large | {"UploadId": "u", "MultipartUpload": parts} | new)
    stubber.add_response("list_objects_v2", {"Contents": found}, listing)
    flags = parse_upload_flags("--acl bucket-owner-full-control --request-payer requester")
    outputs = upload_results(s3, tmp_path, ResultDestination("theirs", "out", flags))
    assert [output.key for output in outputs] == ["out/a", "out/b"]


def test_without_flags_no_request_says_more(stub: tuple[Any, Stubber], tmp_path: Path) -> None:
    s3, stubber = stub
    (tmp_path / "a").touch()
    stubber.add_response("put_object", {}, {"Bucket": "ours", "Key": "k", "Body": ANY, "ChecksumSHA256": ANY})
    upload_whole_file(s3, tmp_path / "a", "ours", "k", lambda: None)
