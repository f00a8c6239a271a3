"""Gets the files that the worker's hook `check` reads before jobs are sent, such as a table or a pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.core.errors import AWSError, UserFacingError
from distributed_something.jobs.uploads.upload_files import list_upload_files
from distributed_something.worker import BadEnvironment, Failed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_FILE_BYTES = 256 * 1024**2  # larger files are not checked; a table with a million images has about this size


class CheckedFiles:
    """Files in S3, or those that the `upload` folders will replace or add.

    `bucket`: the one in AWS that the folders are uploaded to. `get_s3` returns the client for an `input_endpoint`
    ("" is AWS), or None if it is not available.
    """

    def __init__(self, bucket: str, uploads: Mapping[Path, str], get_s3: Callable[[str], S3Client | None]) -> None:
        self._bucket, self._uploads, self._get_s3 = bucket, uploads, get_s3

    def fetch(self, endpoint: str, address: str, path: Path) -> bool:
        """Store the file with this `s3://` address on a server at `path`. Return False if that is not possible."""
        if not address.startswith("s3://"):
            return False
        bucket, _, key = address.removeprefix("s3://").partition("/")
        local = self._uploaded_files.get(key) if not endpoint and bucket == self._bucket else None
        try:
            if local is not None:
                shutil.copyfile(local, path)
                return True
            return self._download(endpoint, bucket, key, path)
        except (OSError, UserFacingError, BadEnvironment, Failed, *AWSError):
            return False

    def _download(self, endpoint: str, bucket: str, key: str, path: Path) -> bool:
        s3 = self._get_s3(endpoint)
        if s3 is None:
            return False
        response = s3.get_object(Bucket=bucket, Key=key)
        if response["ContentLength"] > MAX_FILE_BYTES:
            return False
        with path.open("wb") as file:
            shutil.copyfileobj(response["Body"], file)
        return True

    @cached_property
    def _uploaded_files(self) -> dict[str, Path]:
        lists = [list_upload_files(folder, prefix) for folder, prefix in self._uploads.items()]
        return {file.key: file.path for found in lists for file in found.files}
