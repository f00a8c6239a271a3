"""Uploads the `upload` folders of a Job file, except for files that the bucket has already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.s3 import iter_bucket_objects
from distributed_something.core.errors import translate_aws_errors
from distributed_something.core.text import format_count, format_names, format_one_line, format_row
from distributed_something.jobs.uploads.upload_files import (
    CACHE_REASON,
    HIDDEN_REASON,
    UploadFile,
    UploadList,
    list_upload_files,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPLOAD_THREADS = 16
UPLOAD_PART_BYTES = 8 * 1024**2  # of an object that boto3 uploads in parts (the default of its TransferConfig)
MAX_CLOCK_DIFFERENCE_SECONDS = 900.0  # S3 refuses requests from computers whose clock differs by more


def upload_folders(s3: S3Client, bucket: str, folders: Mapping[Path, str], report: Callable[[str], None]) -> int:
    """Upload local folders or files to their prefixes, and report a line for each of them and what was left out.

    Return how many files were uploaded: a file that the bucket already has with the same content is skipped. Raise
    CloudError if an upload fails.
    """
    total = 0
    for folder, prefix in folders.items():
        with translate_aws_errors(f"uploading {folder} to s3://{bucket}/{prefix}"):
            found, changed = _find_changed_files(s3, bucket, folder, prefix)

            def upload(file: UploadFile) -> None:
                s3.upload_file(str(file.path), bucket, file.key)

            with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
                list(pool.map(upload, changed))
        counts = f"{format_count(len(changed), 'file')} uploaded, {len(found.files) - len(changed)} unchanged"
        report(format_row("upload", f"{os.path.normpath(folder)}: {counts}"))
        for line in _format_left_out(found):
            report(format_row("left out", line))
        total += len(changed)
    return total


def count_changed_files(s3: S3Client, bucket: str, folders: Mapping[Path, str]) -> int:
    """Return how many files `upload_folders` would upload. AWS errors are not caught."""
    return sum(len(_find_changed_files(s3, bucket, *item)[1]) for item in folders.items())


def _find_changed_files(s3: S3Client, bucket: str, folder: Path, prefix: str) -> tuple[UploadList, list[UploadFile]]:
    """Return what the folder contains, and those of its files that the bucket does not have with the same content."""
    found = list_upload_files(folder, prefix)
    uploaded = {item["Key"]: item for item in iter_bucket_objects(s3, bucket, prefix)}
    with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
        is_uploaded = pool.map(lambda file: _is_uploaded(file, uploaded.get(file.key)), found.files)
        return found, [file for file, skip in zip(found.files, is_uploaded, strict=True) if not skip]


def _format_left_out(found: UploadList) -> Iterator[str]:
    """Yield a line for each path that was left out, and one for all hidden files and caches of a kind."""
    for reason in (HIDDEN_REASON, CACHE_REASON):
        paths = [_format_path(path) for path, why in found.left_out.items() if why == reason]
        if paths:
            yield format_one_line(f"{format_names(paths)}: {reason}")
    for path, reason in found.left_out.items():
        if reason not in (HIDDEN_REASON, CACHE_REASON):
            yield format_one_line(f"{_format_path(path)}: {reason}")


def _format_path(path: Path) -> str:
    return os.fsencode(os.path.normpath(path)).decode("utf-8", "backslashreplace")


def _is_uploaded(file: UploadFile, uploaded: Mapping[str, Any] | None) -> bool:
    """Return whether the bucket already has the file. `uploaded`: S3's description of the object, or None.

    The content is compared only if the file, or a folder above it, has changed since the upload or not long before it:
    reading all files would take long, and this computer's clock may differ from S3's.
    """
    if uploaded is None or uploaded["Size"] != file.size:
        return False
    if file.changed_at + MAX_CLOCK_DIFFERENCE_SECONDS < uploaded["LastModified"].timestamp():
        return True
    return bool(_compute_etag(file.path, uploaded["ETag"]) == uploaded["ETag"])


def _compute_etag(path: Path, etag: str) -> str:
    """Return the ETag that S3 gives to this file if it is uploaded in as many parts as the object with `etag`.

    It is the MD5 of the content or, for several parts, of the parts' MD5s, unless the bucket is encrypted with a key in
    KMS; such a file is uploaded again.
    """
    is_multipart, digests, whole = "-" in etag, bytearray(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while content := file.read(UPLOAD_PART_BYTES):
            if is_multipart:
                digests += hashlib.md5(content, usedforsecurity=False).digest()
            else:
                whole.update(content)
    if not is_multipart:
        return f'"{whole.hexdigest()}"'
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(digests) // whole.digest_size}"'
