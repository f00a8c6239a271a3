"""Functions that list and delete S3 objects, and read S3's clock."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import AWSError, translate_aws_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# The dates in AWS responses are rounded to the second. A local clock that differs by at most this is more precise.
CLOCK_TOLERANCE_SECONDS = 2.0


def iter_bucket_objects(s3: S3Client, bucket: str, prefix: str, *, requester_pays: bool = False) -> Iterator[Any]:
    """Yield S3's description of every object under `prefix`.

    This takes one call per 1,000 objects. AWS errors are not caught.
    """
    payer: dict[str, Any] = {"RequestPayer": "requester"} if requester_pays else {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **payer):
        yield from page.get("Contents", [])


def read_s3_time(s3: S3Client, bucket: str, now: float) -> float:
    """Return S3's time in seconds since 1970, or `now` if S3 sends no date. S3 also sends it with a refusal."""
    try:
        response: Any = s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        response = error.response
    except AWSError:
        return now  # the next call to S3 will report the problem
    return parse_response_time(response, now)


def parse_response_time(response: Any, now: float) -> float:
    """Return when AWS sent this response, in seconds since 1970.

    Return `now` if there is no date, or if the local clock agrees with it: the local clock is more precise.
    """
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        at = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return now
    return now if abs(at - now) <= CLOCK_TOLERANCE_SECONDS else at


def iter_object_keys(s3: S3Client, bucket: str, prefix: str, *, requester_pays: bool = False) -> Iterator[str]:
    """Yield the key of every object under `prefix`. Raise CloudError if a call fails."""
    with translate_aws_errors(f"listing s3://{bucket}/{prefix}"):
        for item in iter_bucket_objects(s3, bucket, prefix, requester_pays=requester_pays):
            yield item["Key"]


def delete_objects(s3: S3Client, bucket: str, prefix: str) -> int:
    """Delete every object under `prefix`, with one call each, and return how many there were.

    In a bucket with versioning, S3 keeps them as older versions. AWS errors are not caught.
    """
    keys = [item["Key"] for item in iter_bucket_objects(s3, bucket, prefix)]
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)
    return len(keys)
