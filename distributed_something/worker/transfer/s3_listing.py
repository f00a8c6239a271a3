"""What lies below a prefix of a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments, select_payer_arguments


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    size: int
    etag: str
    modified: datetime


def list_s3_objects(
    s3: Any, bucket: str, prefix: str, arguments: S3Arguments = NO_ARGUMENTS
) -> dict[str, ListedObject]:
    """Every object below `prefix` by its key, all pages. `arguments`: as for the uploads there."""
    found: dict[str, ListedObject] = {}
    further = select_payer_arguments(arguments)
    while True:  # botocore's paginator would add 0.15 ms to the 0.4 ms of a page, and each job lists twice
        page = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, **further)
        found |= {
            listed["Key"]: ListedObject(listed["Size"], listed.get("ETag", ""), listed["LastModified"])
            for listed in page.get("Contents", [])
        }
        if not page.get("IsTruncated"):
            return found
        further = {**further, "ContinuationToken": page["NextContinuationToken"]}
