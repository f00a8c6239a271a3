"""Small things asked of S3: listings of any length, and folders brought up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.errors import doing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPLOADS_AT_ONCE = 16


def objects(s3: S3Client, bucket: str, prefix: str) -> Iterator[Any]:
    """Every object below `prefix`, page after page (1,000 a call)."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def keys(s3: S3Client, bucket: str, prefix: str) -> Iterator[str]:
    """The key of every object below `prefix`; raises CloudError."""
    with doing(f"listing s3://{bucket}/{prefix}"):
        for found in objects(s3, bucket, prefix):
            yield found["Key"]


def bring_up(s3: S3Client, bucket: str, folders: Mapping[Path, str], say: Callable[[str], None]) -> None:
    """Uploads local folders (or files) to their prefixes; what lies there in the same size and is newer stays."""
    for folder, prefix in folders.items():
        with doing(f"uploading {folder} to s3://{bucket}/{prefix}"):
            there = {
                found["Key"]: (found["Size"], found["LastModified"].timestamp())
                for found in objects(s3, bucket, prefix)
            }
            files = list(_files(folder, prefix))
            missing = [(file, key) for file, key in files if not _unchanged(file, there.get(key))]
            with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
                for _ in pool.map(lambda pair: s3.upload_file(str(pair[0]), bucket, pair[1]), missing):
                    pass
        say(f"upload          {os.path.normpath(folder)}: {len(missing)} files, {len(files) - len(missing)} were there")


def _files(folder: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    if folder.is_file():
        yield folder, prefix + folder.name if prefix.endswith("/") else prefix
        return
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file, f"{prefix.rstrip('/')}/{file.relative_to(folder).as_posix()}"


def _unchanged(file: Path, there: tuple[int, float] | None) -> bool:
    status = file.stat()
    return there is not None and there[0] == status.st_size and there[1] >= status.st_mtime
