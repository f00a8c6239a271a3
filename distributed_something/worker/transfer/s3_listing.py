"""Lists the objects below a prefix, and checks whether buckets exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from distributed_something.worker.job.failures import AWS_ERRORS, BadData, get_error_code, is_access_denied
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments, select_payer_arguments


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing."""

    size: int
    etag: str
    modified: datetime


def list_s3_objects(
    s3: Any, bucket: str, prefix: str, arguments: S3Arguments = NO_ARGUMENTS
) -> dict[str, ListedObject]:
    """Return a mapping from the key of each object below `prefix` to the object.

    `arguments` are the upload arguments for the bucket; the listing uses only `RequestPayer`.
    """
    objects: dict[str, ListedObject] = {}
    page_arguments = select_payer_arguments(arguments)
    while True:  # botocore's paginator would add 0.15 ms to 0.4 ms per page, and each job lists twice
        page = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, **page_arguments)
        objects |= {
            entry["Key"]: ListedObject(entry["Size"], entry.get("ETag", ""), entry["LastModified"])
            for entry in page.get("Contents", [])
        }
        if not page.get("IsTruncated"):
            return objects
        page_arguments = {**page_arguments, "ContinuationToken": page["NextContinuationToken"]}


class OutputBuckets:
    """The buckets for results that are known to exist. Threads may share one object.

    `get_s3` returns the client for an endpoint ("": AWS).

    Each bucket is looked up once, with HeadBucket. This needs s3:ListBucket; without it, S3 still says whether the
    bucket exists. Any other error says nothing, so the next job asks again.
    """

    def __init__(self, get_s3: Callable[[str], Any]) -> None:
        self._get_s3 = get_s3
        self._known: set[tuple[str, str]] = set()

    def require_bucket(self, bucket: str, endpoint: str = "") -> None:
        """Raise BadData if the bucket does not exist."""
        if (endpoint, bucket) in self._known:
            return
        s3 = self._get_s3(endpoint)
        try:
            s3.head_bucket(Bucket=bucket)
        except AWS_ERRORS as error:
            if get_error_code(error) in ("404", "NoSuchBucket"):
                problem = f"the output bucket {bucket} does not exist{f' on {endpoint}' if endpoint else ''}"
                raise BadData(f"{problem}; create it, or correct `output_bucket`") from None
            if not is_access_denied(error):
                return
        self._known.add((endpoint, bucket))
