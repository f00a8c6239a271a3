"""Exports the local cloud's objects to ordinary files, so that scientists can open their results.

An index of ETags makes repeated exports fast. An object key can be any text, but a file name cannot. Parts of a key
that are not valid file names are therefore percent-encoded, and nothing is ever written outside the bucket's folder.
An object that cannot be copied, such as an archived one, is left out and named, and the others are copied.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.localcloud.base.layout import CloudLayout

DOWNLOAD_THREADS = 16
MAX_NAME_BYTES = 255
"""Longest file name on common file systems."""
MAX_NAMED_OBJECTS = 5  # of those that are left out
_ARCHIVED_CODE = "InvalidObjectState"
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # all objects have these, not only one


def ignore_warning(text: str) -> None:
    """Do nothing with a warning."""


@dataclass(frozen=True)
class ExportItem:
    """One object and the file it is exported to."""

    bucket: str
    key: str
    etag: str
    size: int
    path: Path

    def is_current(self, index: dict[str, str]) -> bool:
        is_unchanged = index.get(f"{self.bucket}/{self.key}") == self.etag
        return is_unchanged and self.path.is_file() and self.path.stat().st_size == self.size


def export_buckets(
    s3: Any, layout: CloudLayout, buckets: Iterable[str], warn: Callable[[str], None] = ignore_warning
) -> int:
    """Copy all new and changed objects in the buckets to LOCAL/BUCKET/KEY, and return their number.

    Ignore buckets that do not exist. `warn` is called with a line about each object that cannot be copied, at most
    MAX_NAMED_OBJECTS, and one about the others.
    """
    index_file = layout.root / "exported.json"
    index, count, problems = read_export_index(index_file), 0, list[str]()
    existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in dict.fromkeys(buckets):
        if bucket not in existing:
            continue
        stale = [item for item in iter_export_items(s3, bucket, layout.results) if not item.is_current(index)]
        with ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
            results = list(pool.map(lambda item: try_download(s3, item), stale))
        copied = [item for item, problem in zip(stale, results, strict=True) if problem is None]
        problems += filter(None, results)
        count += len(copied)
        index |= {f"{item.bucket}/{item.key}": item.etag for item in copied}
    index_file.write_text(json.dumps(index))
    for problem in problems[:MAX_NAMED_OBJECTS]:
        warn(problem)
    if (others := len(problems) - MAX_NAMED_OBJECTS) > 0:
        warn(f"{others:,} more {'object was' if others == 1 else 'objects were'} left out")
    return count


def read_export_index(file: Path) -> dict[str, str]:
    try:
        index: dict[str, str] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return index


def iter_export_items(s3: Any, bucket: str, results: Path) -> Iterator[ExportItem]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    objects = [entry for page in pages for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
    paths = build_safe_paths(entry["Key"] for entry in objects)
    for entry in objects:
        path = results / bucket / paths[entry["Key"]]
        yield ExportItem(bucket, entry["Key"], entry["ETag"], entry["Size"], path)


def build_safe_paths(keys: Iterable[str]) -> dict[str, PurePosixPath]:
    """Return a relative path for each key. If a key is also a folder in another key's path, append `%` to it."""
    paths = {key: build_safe_path(key) for key in keys}
    folders = {parent for path in paths.values() for parent in path.parents}
    return {key: path.with_name(path.name + "%") if path in folders else path for key, path in paths.items()}


def build_safe_path(key: str) -> PurePosixPath:
    return PurePosixPath(*(build_safe_name(name) for name in key.split("/")))


def build_safe_name(name: str) -> str:
    """Return a valid file name for one part of a key: never empty, never `.` or `..`, never too long."""
    if name.strip(".") == "":
        return "%2E" * len(name) or "%"
    name = name.replace("\0", "%00")
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return name.encode()[: MAX_NAME_BYTES - 17].decode(errors="ignore") + "%" + digest


def clear_target_path(item: ExportItem) -> None:
    """Remove obstacles from earlier exports: files where this item needs folders, or a folder where it needs a file."""
    for folder in item.path.parents:
        if folder.is_file():
            folder.unlink()
    item.path.parent.mkdir(parents=True, exist_ok=True)
    if item.path.is_dir():
        shutil.rmtree(item.path)


def try_download(s3: Any, item: ExportItem) -> str | None:
    """Download an object, and return what is wrong if S3 refuses to give this object or the disk its name, else None.

    Other errors, which all objects have, are raised.
    """
    try:
        download_object(s3, item)
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 500:
            raise
        details = error.response.get("Error", {})
        code = str(details.get("Code", ""))
        reason = "it is archived" if code == _ARCHIVED_CODE else f"{code}: {details.get('Message', '')}"
    except OSError as error:
        if error.errno is None or error.errno in _DISK_ERRNOS:
            raise
        reason = str(error.strerror)
    else:
        return None
    return " ".join(f"s3://{item.bucket}/{item.key} was left out: {reason}".split())


def download_object(s3: Any, item: ExportItem) -> None:
    """Download an object to a temporary file and rename the file, so that nobody opens an incomplete one."""
    clear_target_path(item)
    draft = item.path.with_name(f".{hashlib.sha256(item.key.encode()).hexdigest()[:16]}.part")
    s3.download_file(item.bucket, item.key, str(draft))
    draft.replace(item.path)
