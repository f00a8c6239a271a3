"""Functions that list S3 objects, upload local folders to S3, and read S3's clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import AWSError, translate_aws_errors
from distributed_something.core.text import format_row

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


UPLOAD_THREADS = 16
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


def upload_folders(s3: S3Client, bucket: str, folders: Mapping[Path, str], report: Callable[[str], None]) -> None:
    """Upload local folders or files to their prefixes, and report one line for each of them.

    Skip a file if the bucket already has it with the same size and a later date. Raise CloudError if an upload fails.
    """
    for folder, prefix in folders.items():
        with translate_aws_errors(f"uploading {folder} to s3://{bucket}/{prefix}"):
            uploaded = {
                item["Key"]: (item["Size"], item["LastModified"].timestamp())
                for item in iter_bucket_objects(s3, bucket, prefix)
            }
            files = list(_iter_files(folder, prefix))
            changed = [(file, key) for file, key in files if not _is_uploaded(file, uploaded.get(key))]
            with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
                for _ in pool.map(lambda pair: s3.upload_file(str(pair[0]), bucket, pair[1]), changed):
                    pass
        counts = f"{len(changed)} files uploaded, {len(files) - len(changed)} unchanged"
        report(format_row("upload", f"{os.path.normpath(folder)}: {counts}"))


def _iter_files(folder: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    """Yield each file in the folder with its key. `folder` may also be a single file."""
    if folder.is_file():
        yield folder, prefix + folder.name if prefix.endswith("/") else prefix
        return
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file, f"{prefix.rstrip('/')}/{file.relative_to(folder).as_posix()}"


def _is_uploaded(file: Path, uploaded: tuple[int, float] | None) -> bool:
    """Return whether the bucket already has the file. `uploaded`: the object's size and date, or None."""
    status = file.stat()
    return uploaded is not None and uploaded[0] == status.st_size and uploaded[1] >= status.st_mtime
