"""The total size of each job's inputs, so that a canary can be spread over it, if a few requests to S3 can tell.

Inputs that are the same for all jobs do not matter. If only the worker knows the inputs, if one is not in AWS or not in
the bucket yet, or if listing them takes more than MAX_REQUESTS requests or MAX_SECONDS, the sizes are unknown.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import AWSError
from distributed_something.jobs.job_file import CheckedMessage, JobFile
from distributed_something.worker import remove_mount_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_REQUESTS = 100  # of up to 1,000 objects each
MAX_SECONDS = 5.0
MAX_JOBS = 100_000  # with more, their inputs would not fit into MAX_REQUESTS either

_Place = tuple[str, str]  # bucket and key


class _UnknownSizeError(Exception):
    """Raised if the size of an input cannot be known, or only with too many requests."""


class InputSizeReader:
    """Reads the sizes of a job file's inputs.

    `s3`: None if S3 cannot be asked; then, only the sizes of files that `upload` would upload are known. `bucket`: the
    config's. `now`: a clock in seconds.
    """

    def __init__(self, s3: S3Client | None, bucket: str, job_file: JobFile, now: Callable[[], float]) -> None:
        self._s3, self._bucket, self._job_file, self._now = s3, bucket, job_file, now
        self._deadline, self._requests = now() + MAX_SECONDS, 0
        self._constant: set[_Place] = set()  # inputs of all jobs
        self._sizes: Counter[_Place] = Counter()  # of objects, and of all objects below a prefix

    def read_sizes(self, count: int) -> array[int] | None:
        """Return the total size of each job's inputs in bytes, without those of all jobs; None if it is unknown.

        `count`: the number of jobs.
        """
        shared = self._job_file.shared
        if count > MAX_JOBS or shared.get("input_endpoint") or "command" not in shared:
            return None
        try:
            prefixes = self._find_prefixes()
            self._add_uploads()
            for bucket, prefix in _drop_nested(prefixes):
                self._list_objects(bucket, prefix)
            return array("q", map(self._add_up, self._job_file.iter_checked_messages()))
        except (*AWSError, OSError, TimeoutError, _UnknownSizeError):
            return None

    def _find_prefixes(self) -> set[_Place]:
        """Return what the inputs that differ between jobs have in common: for each bucket and place in `inputs`."""
        common: dict[tuple[str, int], str] = {}
        differing: set[tuple[str, int]] = set()
        for message in self._job_file.iter_checked_messages():
            for number, (bucket, key) in enumerate(self._iter_places(message)):
                known = common.setdefault((bucket, number), key)
                if key != known:
                    differing.add((bucket, number))
                    common[bucket, number] = os.path.commonprefix([known, key])  # noqa: RUF071 - of keys, not a folder
        self._constant = {
            (bucket, key) for (bucket, number), key in common.items() if (bucket, number) not in differing
        }
        return {(bucket, common[bucket, number]) for bucket, number in differing}

    def _iter_places(self, message: CheckedMessage) -> Iterator[_Place]:
        """Yield the bucket and key of each input of a job. Raise _UnknownSizeError for one that is not in S3."""
        own_bucket = message.input_bucket if "input_bucket" in self._job_file.shared else self._bucket
        for address in message.inputs:
            if address.startswith("s3://"):
                bucket, _, key = address.removeprefix("s3://").partition("/")
                yield bucket, key
            elif "://" in address:
                raise _UnknownSizeError
            else:
                yield own_bucket, remove_mount_folder(address)

    def _add_uploads(self) -> None:
        """Add the files that will be uploaded first, which may not be in the bucket yet."""
        for folder, prefix in self._job_file.uploads.items():
            for path in _iter_files(folder):
                name = path.relative_to(folder if folder.is_dir() else folder.parent).as_posix()
                self._add_object(self._bucket, f"{prefix.strip('/')}/{name}", path.stat().st_size)

    def _list_objects(self, bucket: str, prefix: str) -> None:
        arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        if self._job_file.shared.get("requester_pays") is True:
            arguments["RequestPayer"] = "requester"
        while self._s3 is not None:
            self._requests += 1
            if self._requests > MAX_REQUESTS or self._now() > self._deadline:
                raise TimeoutError
            page = self._s3.list_objects_v2(**arguments)
            for item in page.get("Contents", []):
                self._add_object(bucket, item["Key"], item["Size"])
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def _add_object(self, bucket: str, key: str, size: int) -> None:
        """Add an object to its own size, and to those of the prefixes that end in a slash and contain it."""
        places = [key, *(key[: end + 1] for end, character in enumerate(key[:-1]) if character == "/"), ""]
        size -= self._sizes.get((bucket, key), 0)  # an uploaded file may be in the bucket already
        for place in places:
            self._sizes[bucket, place] += size

    def _add_up(self, message: CheckedMessage) -> int:
        places = [place for place in self._iter_places(message) if place not in self._constant]
        if any(place not in self._sizes for place in places):
            raise _UnknownSizeError
        return sum(self._sizes[place] for place in places)


def _drop_nested(prefixes: Iterable[_Place]) -> list[_Place]:
    """Return the prefixes that do not begin with another one."""
    kept: list[_Place] = []
    for bucket, prefix in sorted(prefixes):
        if not any(bucket == other and prefix.startswith(shorter) for other, shorter in kept):
            kept.append((bucket, prefix))
    return kept


def _iter_files(folder: Path) -> Iterator[Path]:
    paths = folder.rglob("*") if folder.is_dir() else iter([folder])
    return (path for path in paths if path.is_file())
