"""Flags of the AWS CLI become arguments of S3's own calls; what is no flag is told."""

from __future__ import annotations

from contextlib import suppress

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.upload_flags import BadFlags, parse_upload_flags

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


S3_ARGUMENTS = set(boto3.client("s3", "us-east-1").meta.service_model.operation_model("PutObject").input_shape.members)


@given(st.text() | st.lists(st.sampled_from(["--acl", "private", "=", "'", "--sse", "{"])).map(" ".join))
def test_any_text_is_taken_or_refused_by_name(text: str) -> None:
    with suppress(BadFlags):
        assert set(parse_upload_flags(text)) <= S3_ARGUMENTS
