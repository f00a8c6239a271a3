"""Flags of the AWS CLI become arguments of S3's own calls, in one request and in parts; what is no flag is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.upload_flags import _KNOWN_FLAGS, BadFlags, parse_upload_flags
from distributed_something.worker.transfer import results
from distributed_something.worker.transfer.results import upload_results
from distributed_something.worker.transfer.s3_file import upload_whole_file

OWNER = {"ACL": "bucket-owner-full-control"}


@pytest.mark.parametrize(
    "nothing", ["", False, None, "False", "   ", "--metadata-directive REPLACE --only-show-errors"]
)
def test_no_flags_or_those_of_the_cli_alone_change_nothing(nothing: object) -> None:
    assert parse_upload_flags(nothing) == {}


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        ("--acl bucket-owner-full-control", OWNER),
        ("--acl=bucket-owner-full-control --metadata-directive REPLACE", OWNER),
        ("--acl bucket-owner-full-control --request-payer requester", OWNER | {"RequestPayer": "requester"}),
        ("--request-payer --storage-class STANDARD_IA", {"RequestPayer": "requester", "StorageClass": "STANDARD_IA"}),
        ("--sse", {"ServerSideEncryption": "AES256"}),
        ("--sse aws:kms --sse-kms-key-id 1a2b", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "1a2b"}),
        ("--metadata plate=P1,well=A01", {"Metadata": {"plate": "P1", "well": "A01"}}),
        ('--metadata \'{"plate": "P 1"}\'', {"Metadata": {"plate": "P 1"}}),
        ('--cache-control "max-age=60, public"', {"CacheControl": "max-age=60, public"}),
    ],
)
def test_flags_become_what_s3_calls_say(flags: str, arguments: dict[str, object]) -> None:
    assert parse_upload_flags(flags) == arguments


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--acl", "--acl has no value behind it"),
        ("--acl --sse", "--acl has no value behind it"),
        ("--acl everyone", "--acl is 'everyone', not one of private"),
        ("--delete", "'--delete' is no flag that an upload here takes"),
        ("bucket-owner-full-control", "'bucket-owner-full-control' is no flag"),
        ("--acl 'open", "cannot be split into words"),
        ("--metadata plate", "--metadata is 'plate', not name=value"),
        ("--metadata '{\"plate\": 1}'", "whose values are no texts"),
        ("--metadata '{plate'", "--metadata "),
        (True, "True is neither a text"),
        (["--acl"], "is neither a text"),
    ],
)
def test_what_is_no_flag_is_told_with_its_name(flags: object, told: str) -> None:
    with pytest.raises(BadFlags, match=told):
        parse_upload_flags(flags)


@given(st.text() | st.lists(st.sampled_from(["--acl", "private", "=", "'", "--sse", "{"])).map(" ".join))
def test_any_text_is_taken_or_refused_by_name(text: str) -> None:
    with suppress(BadFlags):
        assert set(parse_upload_flags(text)) <= {name for name, _ in _KNOWN_FLAGS.values()}


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
    monkeypatch.setattr(results, "SINGLE_PUT_BYTES", 5)
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
    outputs = upload_results(s3, tmp_path, "theirs", "out", arguments=flags)
    assert [output.key for output in outputs] == ["out/a", "out/b"]


def test_without_flags_no_request_says_more(stub: tuple[Any, Stubber], tmp_path: Path) -> None:
    s3, stubber = stub
    (tmp_path / "a").touch()
    stubber.add_response("put_object", {}, {"Bucket": "ours", "Key": "k", "Body": ANY, "ChecksumSHA256": ANY})
    upload_whole_file(s3, tmp_path / "a", "ours", "k", lambda: None)
