"""Uploads a job's results; what went up is verified before anybody says that a job is done."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import LostLease, UploadError
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments
from distributed_something.worker.program.processors import use_all_processors
from distributed_something.worker.transfer.result_files import list_result_files
from distributed_something.worker.transfer.retry import (
    RETRY_PAUSES_SECONDS,
    TRANSFER_ERRORS,
    is_transient_error,
    sleep_with_checks,
)
from distributed_something.worker.transfer.s3_file import (
    MAX_PARALLEL_REQUESTS,
    build_write_condition,
    compute_object_sha256,
    is_precondition_error,
    upload_file_parts,
    upload_whole_file,
)
from distributed_something.worker.transfer.s3_listing import ListedObject, list_s3_objects

MAX_INLINE_BYTES = 1024 * 1024  # a single file up to here is sent without a thread of its own
MAX_SINGLE_PUT_BYTES = 16 * 1024 * 1024  # larger files go up in parts, several at once
FILE_COUNT_KEY = "job-files"  # in an object's metadata: of how many outputs it is one


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file that is in S3. `etag`: as it was when it was verified; not told, since S3's way to make it may change."""

    bucket: str
    key: str
    size: int
    checksum_sha256: str
    etag: str = field(default="", compare=False)

    def build_record_entry(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {"bucket": self.bucket, "key": self.key, "size": self.size, "checksum_sha256": self.checksum_sha256}


@dataclass(frozen=True)
class ResultDestination:
    """Where a job's results go: below the prefix `location` of `bucket`.

    `arguments`: what S3's calls shall say beside, such as `ACL`. `replaceable`: what lay there when it was last known
    that no other attempt was done (None: it is listed when the upload begins). Only that is replaced.
    """

    bucket: str
    location: str
    arguments: S3Arguments = field(default_factory=dict)
    replaceable: dict[str, ListedObject] | None = None


def upload_results(
    s3: Any, folder: Path, destination: ResultDestination, *, leave_out: Sequence[str] = (),
    check: Callable[[], None] = lambda: None, sleep: Callable[[float], None] = time.sleep,
) -> list[ResultFile]:  # fmt: skip
    """Upload all files of `folder`, but for those like a pattern of `leave_out`, and verify them: only then they count.

    Each of several says how many they are, so that the files of an upload that came to no end are known for what they
    are. Where something else than what is replaceable lies at the destination by now, another worker has the job, and
    LostLease is raised, unless the bytes are the same.

    What failed is tried again, with pauses that grow, and nothing else. Raises UploadError after the last try, Failed
    for a file that cannot be an object, and what `check`, called while bytes go up, raises: then nothing more is sent.
    """
    bucket, location = destination.bucket, destination.location
    files = list_result_files(folder, location, leave_out)
    upload = _ResultUpload(s3, _add_file_count(destination, len(files)), files, check)
    reason = ""
    for pause in (0, *RETRY_PAUSES_SECONDS):
        sleep_with_checks(pause, check, sleep)
        try:
            check()
            upload.send_missing_files()
            upload.verify_files()
            return [upload.uploaded[key] for key in files]
        except (*TRANSFER_ERRORS, UploadError) as error:
            check()  # botocore wraps what a body raises: it may be check's own
            reason = str(error)
            if not is_transient_error(error):
                break
        except OSError as error:
            raise UploadError(f"an output cannot be read: {error}") from None
    raise UploadError(f"the outputs could not be uploaded to s3://{bucket}/{location}: {reason}")


def _add_file_count(destination: ResultDestination, count: int) -> ResultDestination:
    """One file is there or it is not; of several each says how many they are."""
    if count < 2:
        return destination
    metadata: Any = destination.arguments.get("Metadata", {})
    arguments = {**destination.arguments, "Metadata": {**metadata, FILE_COUNT_KEY: str(count)}}
    return replace(destination, arguments=arguments)


class _ResultUpload:
    """What all tries of one upload share; `uploaded`: by key, the files that it has brought to S3."""

    def __init__(
        self, s3: Any, destination: ResultDestination, files: dict[str, Path], check: Callable[[], None]
    ) -> None:
        self._s3, self._files, self._check = s3, files, check
        self._bucket, self._arguments = destination.bucket, destination.arguments
        self._prefix, self._replaceable = f"{destination.location}/", destination.replaceable
        self.uploaded: dict[str, ResultFile] = {}

    def send_missing_files(self) -> None:
        """Sends what is not there; the first that fails ends this try."""
        if self._replaceable is None:
            self._replaceable = self._list_destination()
        todo = {key: path.stat().st_size for key, path in self._files.items() if key not in self.uploaded}
        small = [key for key, size in todo.items() if size <= MAX_SINGLE_PUT_BYTES]
        if len(todo) == 1 and sum(todo.values()) <= MAX_INLINE_BYTES:  # as most jobs write
            self._send_file(small[0], todo[small[0]], upload_whole_file)
            return
        with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS, initializer=use_all_processors) as pool:
            for _ in pool.map(lambda key: self._send_file(key, todo[key], upload_whole_file), small):
                pass
            for key in todo.keys() - set(small):
                self._send_file(key, todo[key], partial(upload_file_parts, pool=pool))

    def _send_file(self, key: str, size: int, upload: Callable[..., tuple[str, str]]) -> None:
        path, before = self._files[key], (self._replaceable or {}).get(key)
        condition = build_write_condition(before.etag if before else None)
        try:
            digest, etag = upload(
                self._s3, path, self._bucket, key, self._check, arguments=self._arguments, **condition
            )
        except ClientError as error:
            if not is_precondition_error(error):
                raise
            digest, etag = self._check_same_content(key, path), ""
        self.uploaded[key] = ResultFile(self._bucket, key, size, digest, etag)

    def _check_same_content(self, key: str, path: Path) -> str:
        """The SHA-256 of what came in between, if it is this very file: sent by a try whose answer was lost, or by
        another worker. Raises LostLease if it is another worker's own."""
        with path.open("rb") as file:
            ours = hashlib.file_digest(file, "sha256").hexdigest()
        if compute_object_sha256(self._s3, self._bucket, key, self._arguments) != ours:
            raise LostLease
        return ours

    def verify_files(self) -> None:
        """Forgets, and tells, what a listing does not show in its size. Raises LostLease where it shows another's."""
        now = self._list_destination() if self._files else {}
        for key, path in self._files.items():
            if key in now and now[key].etag != self.uploaded[key].etag:
                self._check_same_content(key, path)
        wrong = [key for key in self._files if key not in now or now[key].size != self.uploaded[key].size]
        for key in self._files.keys() - set(wrong):
            self.uploaded[key] = replace(self.uploaded[key], etag=now[key].etag)
        for key in wrong:
            del self.uploaded[key]
            self._replaceable = {**(self._replaceable or {}), **({key: now[key]} if key in now else {})}
        if wrong:
            count = f"{len(wrong)} of {len(self._files)} files"
            raise UploadError(f"{count} are not there or incomplete, such as {wrong[0]}")

    def _list_destination(self) -> dict[str, ListedObject]:
        return list_s3_objects(self._s3, self._bucket, self._prefix, self._arguments)


def has_unchanged_results(
    s3: Any, location: str, outputs: list[ResultFile], arguments: S3Arguments = NO_ARGUMENTS
) -> bool:
    """Whether just these outputs, as they were verified, are what lies below `location` now."""
    if not outputs:
        return False
    now = list_s3_objects(s3, outputs[0].bucket, f"{location}/", arguments)
    return all(file.key in now and now[file.key].etag == file.etag for file in outputs)
