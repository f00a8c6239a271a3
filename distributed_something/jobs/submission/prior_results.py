"""Counts the jobs that have results already, so that `submitJob` can say that workers will skip them.

The count is a hint: it takes at most MAX_REQUESTS requests and a few seconds. If it would take more, if a request
fails, or if only the worker knows where the results are, there is no hint.
"""

from __future__ import annotations

import ast
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.core.errors import AWSError
from distributed_something.jobs.job_file import CheckedMessage, JobFile
from distributed_something.worker import AppKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.config_settings import Settings

MAX_REQUESTS = 100
MAX_SECONDS = 5.0
READER_THREADS = 16
# Arguments of job_from_message that change where the results of a job are, or how many files it needs.
_PLACE_ARGUMENTS = {
    "id", "output_bucket", "output_location", "output_endpoint", "expected_files", "upload_arguments",
    "upload_results", None,
}  # fmt: skip


@dataclass
class ResultPlaces:
    """Where the results of a job file's jobs will be.

    `is_shared`: whether several jobs share a location, so a document says whether a job is done. `hashes`: Python's
    hash of each job's location, or of its ID if `is_shared`; a million texts would need too much memory. `prefix`: the
    text with which all locations begin. `bucket`: the bucket for all results. `is_known`: False if only the worker
    knows the locations, or if there are several buckets or they are not in AWS.
    """

    is_shared: bool = False
    hashes: array[int] = field(default_factory=lambda: array("q"))
    prefix: str = ""
    bucket: str = ""
    is_known: bool = True

    def add_job(self, message: CheckedMessage) -> None:
        location = message.output_location
        if not self.hashes:
            self.prefix, self.bucket = location, message.output_bucket
        if not location.startswith(self.prefix):
            self.prefix = os.path.commonprefix([self.prefix, location])  # noqa: RUF071 - a prefix of keys, not a folder
        self.is_known = self.is_known and location != "" and message.output_bucket == self.bucket
        self.hashes.append(hash(message.id if self.is_shared else location))


def build_result_places(job_file: JobFile) -> ResultPlaces:
    """Return the places of the job file's results, without any jobs yet."""
    shared = job_file.shared
    is_known = "output_location" in shared and not shared.get("output_endpoint")  # only AWS is asked
    return ResultPlaces(is_shared=shared.get("shared_location") is True, is_known=is_known)


class PriorResultCounter:
    """Counts the jobs in a job file that have results, by the same rule as the worker.

    A job with its own location has results if it has enough files that count as results (see CHECK_IF_DONE_BOOL).
    `now`: a clock in seconds.
    """

    def __init__(self, s3: S3Client, settings: Settings, job_file: JobFile, now: Callable[[], float]) -> None:
        self._s3, self._settings, self._job_file, self._now = s3, settings, job_file, now
        self._deadline = now() + MAX_SECONDS
        shared = job_file.shared
        self._bucket = settings.AWS_BUCKET if "output_bucket" not in shared else ""
        self._expected = shared.get("expected_files") or settings.EXPECTED_NUMBER_FILES

    def count_jobs(self, places: ResultPlaces) -> int | None:
        """Return how many jobs have results; None if this is unknown or takes too many requests."""
        if not self._settings.CHECK_IF_DONE_BOOL or not places.is_known:
            return None
        if not places.is_shared and not self._expected:
            return None  # the worker does not look at the files either
        bucket = self._settings.AWS_BUCKET if places.is_shared else self._bucket or places.bucket
        try:
            if len(places.hashes) <= MAX_REQUESTS:
                return self._count_by_job(bucket, places)
            return self._count_by_prefix(bucket, places)
        except (*AWSError, TimeoutError):
            return None

    def _count_by_job(self, bucket: str, places: ResultPlaces) -> int:
        """Make one request per job."""
        keys = AppKeys(self._settings.APP_NAME)
        prefixes = [
            keys.done(message.id) if places.is_shared else f"{message.output_location}/"
            for message in self._job_file.iter_checked_messages()
        ]
        minimum = 1 if places.is_shared else self._expected
        pages = [self._list_page(bucket, prefixes[0])]  # alone, so that only one call waits if S3 cannot be reached
        with ThreadPoolExecutor(READER_THREADS) as pool:
            pages += pool.map(lambda prefix: self._list_page(bucket, prefix), prefixes[1:])
        return sum(len(self._list_results(page, places)) >= minimum for page in pages)

    def _count_by_prefix(self, bucket: str, places: ResultPlaces) -> int | None:
        """List the prefix that all jobs share. Return None if it has too many objects."""
        prefix = AppKeys(self._settings.APP_NAME).done("").removesuffix(".json") if places.is_shared else places.prefix
        counts: Counter[str] = Counter()
        page: Any = {}
        for _ in range(MAX_REQUESTS):
            page = self._list_page(bucket, prefix, page.get("NextContinuationToken"))
            for key in self._list_results(page, places):
                if places.is_shared:
                    counts[key.removeprefix(prefix).removesuffix(".json")] += 1
                else:
                    counts.update(_iter_folders(key, len(places.prefix)))
            if not page.get("IsTruncated"):
                break
        else:
            return None
        minimum = 1 if places.is_shared else self._expected
        done = {hash(text) for text, count in counts.items() if count >= minimum}
        return sum(number in done for number in places.hashes)

    def _list_page(self, bucket: str, prefix: str, token: str | None = None) -> Any:
        if self._now() > self._deadline:
            raise TimeoutError
        more: Any = {"ContinuationToken": token} if token else {}
        return self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix, **more)

    def _list_results(self, page: Any, places: ResultPlaces) -> list[str]:
        """Return the keys of the objects that count as results, or of all objects if they are documents."""
        minimum, text = self._settings.MIN_FILE_SIZE_BYTES, self._settings.NECESSARY_STRING
        return [
            item["Key"]
            for item in page.get("Contents", [])
            if places.is_shared or (item["Size"] >= minimum and text in item["Key"])
        ]


def is_location_in_job_file(worker: Path) -> bool:
    """Return whether a project's generic-worker.py takes the output location from the job file.

    Return False if its `make_job` does more than call `job_from_message`, or gives it another location.
    """
    try:
        tree = ast.parse(worker.read_bytes())
    except FileNotFoundError:
        return True  # the local cloud uses the worker that comes with the package
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "make_job"]
    if len(functions) != 1:
        return False
    body = functions[0].body[1:] if ast.get_docstring(functions[0]) else functions[0].body
    call = body[0].value if len(body) == 1 and isinstance(body[0], ast.Return) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "job_from_message"
        and _PLACE_ARGUMENTS.isdisjoint(keyword.arg for keyword in call.keywords)
    )


def _iter_folders(key: str, start: int) -> Iterator[str]:
    """Yield each folder that contains the key and has at least `start` characters."""
    end = key.find("/", start)
    while end != -1:
        yield key[:end]
        end = key.find("/", end + 1)
