"""Small things asked of S3: listings of any length, and folders brought up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import translate_aws_errors
from distributed_something.core.text import format_row

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


UPLOAD_THREADS = 16


def iter_bucket_objects(s3: S3Client, bucket: str, prefix: str) -> Iterator[Any]:
    """Every object below `prefix`, page after page (1,000 a call)."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def iter_object_keys(s3: S3Client, bucket: str, prefix: str) -> Iterator[str]:
    """The key of every object below `prefix`; raises CloudError."""
    with translate_aws_errors(f"listing s3://{bucket}/{prefix}"):
        for found in iter_bucket_objects(s3, bucket, prefix):
            yield found["Key"]


def upload_folders(s3: S3Client, bucket: str, folders: Mapping[Path, str], say: Callable[[str], None]) -> None:
    """Uploads local folders (or files) to their prefixes; what lies there in the same size and is newer stays."""
    for folder, prefix in folders.items():
        with translate_aws_errors(f"uploading {folder} to s3://{bucket}/{prefix}"):
            there = {
                found["Key"]: (found["Size"], found["LastModified"].timestamp())
                for found in iter_bucket_objects(s3, bucket, prefix)
            }
            files = list(_iter_files(folder, prefix))
            missing = [(file, key) for file, key in files if not _is_unchanged(file, there.get(key))]
            with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
                for _ in pool.map(lambda pair: s3.upload_file(str(pair[0]), bucket, pair[1]), missing):
                    pass
        say(
            format_row(
                "upload", f"{os.path.normpath(folder)}: {len(missing)} files, {len(files) - len(missing)} were there"
            )
        )


def _iter_files(folder: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    if folder.is_file():
        yield folder, prefix + folder.name if prefix.endswith("/") else prefix
        return
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file, f"{prefix.rstrip('/')}/{file.relative_to(folder).as_posix()}"


def _is_unchanged(file: Path, there: tuple[int, float] | None) -> bool:
    status = file.stat()
    return there is not None and there[0] == status.st_size and there[1] >= status.st_mtime
