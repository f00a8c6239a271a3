"""Keeps copies of the files that jobs are made of, so that a run can be repeated later: the Job file and its table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError
from distributed_something.worker import AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_COPIED_BYTES = 100 * 1024**2  # of a larger file, only the digest is kept


def keep_input_files(s3: S3Client, bucket: str, app: str, files: Iterable[Path]) -> dict[str, str]:
    """Copy the files to the bucket, and return the SHA-256 of each, keyed by the path as the user typed it.

    A file that cannot be read is left out; one that cannot be copied, or is too large for that, still has a digest.
    """
    digests: dict[str, str] = {}
    for path in files:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except OSError:
            continue
        digests[str(path)] = digest
        if size <= MAX_COPIED_BYTES:
            _copy_file(s3, bucket, AppKeys(app).input_file(digest, str(path)), path)
    return digests


def _copy_file(s3: S3Client, bucket: str, key: str, path: Path) -> None:
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    except (OSError, *AWSError):  # the jobs can be sent without it
        return
