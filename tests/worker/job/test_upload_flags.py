"""Tests for translating AWS CLI flags into S3 request arguments."""

from __future__ import annotations

from contextlib import suppress

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.upload_flags import BadFlags, parse_upload_flags

OWNER = {"ACL": "bucket-owner-full-control"}


@pytest.mark.parametrize("flags", ["", False, None, "False", "   ", "--metadata-directive REPLACE --only-show-errors"])
def test_empty_and_ignored_flags_give_no_arguments(flags: object) -> None:
    assert parse_upload_flags(flags) == {}


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
def test_flags_become_s3_request_arguments(flags: str, arguments: dict[str, object]) -> None:
    assert parse_upload_flags(flags) == arguments


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--acl", "--acl has no value; write a value after it"),
        ("--acl --sse", "--acl has no value; write a value after it"),
        ("--acl everyone", "--acl is 'everyone', not one of private"),
        ("--delete", "'--delete' is not a supported upload flag; use one of --acl, "),
        ("bucket-owner-full-control", "'bucket-owner-full-control' is not a supported upload flag"),
        ("--acl 'open", "cannot be split into words"),
        ("--metadata plate", "--metadata is 'plate', not name=value"),
        ("--metadata '{\"plate\": 1}'", "but each value must be a string"),
        ("--metadata '{plate'", "--metadata "),
        (True, "True is not a string; write flags as you would for `aws s3 cp`"),
        (["--acl"], "is not a string; write flags as you would for `aws s3 cp`"),
    ],
)
def test_an_invalid_flag_is_reported_by_name(flags: object, message: str) -> None:
    with pytest.raises(BadFlags, match=message):
        parse_upload_flags(flags)


S3_ARGUMENTS = set(boto3.client("s3", "us-east-1").meta.service_model.operation_model("PutObject").input_shape.members)


@given(st.text() | st.lists(st.sampled_from(["--acl", "private", "=", "'", "--sse", "{"])).map(" ".join))
def test_any_text_gives_known_arguments_or_is_rejected(text: str) -> None:
    with suppress(BadFlags):
        assert set(parse_upload_flags(text)) <= S3_ARGUMENTS
