"""Uploads a job's results to an output location that several jobs share.

The location may contain very many objects, so it is never listed. A file is created on the condition that no object
exists at its key. If S3 rejects that, the object's metadata says which job wrote it, and in which run:

- A file from an earlier run, or from this job's earlier attempt, is replaced.
- A file from another job of this run is kept. So is an older file that is the result of a job which was skipped in this
  run, because it is already done. The attempt fails unless the content is the same. Only if the rules allow
  it is the file replaced, and the replacement is recorded.

Whoever replaces a file reserves it first (see reservations.py), so two jobs never lose a file to each other unnoticed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import Failed, LostLease, UploadError, is_missing_object
from distributed_something.worker.job.upload_flags import NO_ARGUMENTS, S3Arguments
from distributed_something.worker.transfer.reservations import Reservation, Reservations
from distributed_something.worker.transfer.result_files import list_result_files
from distributed_something.worker.transfer.results import (
    MAX_SINGLE_PUT_BYTES,
    ResultDestination,
    ResultFile,
    ResultUpload,
    upload_with_retries,
)
from distributed_something.worker.transfer.s3_file import (
    UploadedFile,
    build_write_condition,
    compute_object_sha256,
    create_transfer_pool,
    is_precondition_error,
)
from distributed_something.worker.transfer.stored_result import ResultOwner, StoredResult, read_stored_result

MAX_SEND_ATTEMPTS = 20  # per file; each one that fails means that another job changed the file at the same moment
SHARED_FILE_CLASS = "shared file"


@dataclass(frozen=True)
class SharingRules:
    """What a job may do to the files of other jobs.

    `claim` is called before a file from an earlier attempt at the same job is replaced; it raises an exception if that
    attempt has finished. `is_current_result` is called with another job's ID and a key; it returns whether the file is
    one of that job's results in this run, even if an earlier run wrote it. `record_overwrite` is called with the key
    and the other job's ID after another job's file was replaced, which happens only if `may_replace` is set.
    """

    reservations: Reservations
    may_replace: bool
    claim: Callable[[], None]
    is_current_result: Callable[[str, str], bool]
    record_overwrite: Callable[[str, str], None]


def upload_shared_results(
    s3: Any, folder: Path, destination: ResultDestination, rules: SharingRules, *, leave_out: Sequence[str] = (),
    check: Callable[[], None] = lambda: None, sleep: Callable[[float], None] = time.sleep,
) -> list[ResultFile]:  # fmt: skip
    """Upload and verify the files in `folder` that match no pattern in `leave_out`, and return the uploaded files.

    `destination.owner` must be set. Raise Failed with the reason class SHARED_FILE_CLASS if another job of the same run
    wrote one of the files with other content and `rules` do not allow replacing it. The other errors are those of
    `upload_results`.
    """
    assert destination.owner is not None
    files = list_result_files(folder, destination.location, leave_out)
    return upload_with_retries(_SharedUpload(s3, destination, files, check, destination.owner, rules), sleep)


class _SharedUpload(ResultUpload):
    """One upload to a shared location, with its retries."""

    def __init__(
        self, s3: Any, destination: ResultDestination, files: dict[str, Path], check: Callable[[], None],
        owner: ResultOwner, rules: SharingRules,
    ) -> None:  # fmt: skip
        super().__init__(s3, replace(destination, replaceable={}), files, check)
        self._owner, self._rules = owner, rules

    def _send_file(self, key: str, size: int, upload: Callable[..., UploadedFile]) -> None:
        etag: str | None = None
        replaced_jobs: set[str] = set()
        for attempt in range(MAX_SEND_ATTEMPTS):
            # For a large file, this request is cheaper than sending all parts only to have the last step rejected.
            if attempt or size > MAX_SINGLE_PUT_BYTES:
                self.check()
                stored = self._read_stored_result(key)
                if stored is not None and self._keep_or_reserve(key, size, stored, replaced_jobs):
                    return
                etag = stored.etag if stored else None
            if self._try_upload(key, size, etag, upload):
                for job in replaced_jobs:
                    self._rules.record_overwrite(key, job)
                return
        raise UploadError(f"other jobs keep replacing {key}")

    def _try_upload(self, key: str, size: int, etag: str | None, upload: Callable[..., UploadedFile]) -> bool:
        """Upload the file if the object at its key still has `etag` (None: if none exists), and return whether it was.

        If a response is lost, S3 rejects the repeated request; the object is then found to be this job's own.
        """
        condition = build_write_condition(etag)
        try:
            sent = upload(
                self._s3, self.files[key], self._bucket, key, self.check, arguments=self._arguments, **condition
            )
        except ClientError as error:
            if not is_precondition_error(error) and not is_missing_object(error):
                raise
            return False
        self.uploaded[key] = ResultFile(self._bucket, key, sent.size, sent.sha256, sent.etag, sent.crc32)
        return True

    def _keep_or_reserve(self, key: str, size: int, stored: StoredResult, replaced_jobs: set[str]) -> bool:
        """Return whether the stored file has this job's content and is kept. If not, reserve the file for replacement.

        Add the other jobs whose files the replacement overwrites to `replaced_jobs`. Raise Failed if it is not allowed.
        """
        digest = _compute_file_sha256(self.files[key])
        is_own, other = stored.owner == self._owner, self._find_other_job(stored) or self._find_skipped_job(key, stored)
        is_same = (is_own or other is not None) and self._has_content(key, stored, size, digest)
        if is_own and not is_same:
            self._rules.claim()
        elif other is not None and not is_same and not self._rules.may_replace:
            raise self._build_conflict(key, other)
        # A reservation is necessary to replace a file that no other job of this run wrote, and to rely on one's file.
        if is_same == (other is not None):
            blocker = self._reserve_file(key, digest, other)
            # If the other job is about to replace its file, relying on the file is not enough.
            other, is_same = blocker or other, is_same and blocker is None
        if is_same:
            self.uploaded[key] = ResultFile(self._bucket, key, size, digest, stored.etag)
        elif other is not None:
            replaced_jobs.add(other)
        return is_same

    def _reserve_file(self, key: str, digest: str, other: str | None) -> str | None:
        """Reserve the file for content with this SHA-256, and return the job whose reservation this replaces, if any.

        `other`: the other job of this run that wrote the file, on whose file this job then relies.
        """
        job, may_replace = self._owner.job, self._rules.may_replace
        wanted = Reservation(other, digest, job) if other else Reservation(job, digest)
        blocker = self._rules.reservations.reserve_file(self._bucket, key, wanted, may_replace=may_replace)
        if blocker is not None and not may_replace:
            raise self._build_conflict(key, blocker)
        return blocker

    def verify_files(self) -> None:
        """Check that each uploaded file exists and is unchanged.

        Raise UploadError if files are missing or were replaced; the next retry sends these files again. Raise LostLease
        if another attempt at this job has replaced a file.
        """
        bad_keys = [key for key, is_intact in self._map_files(self._verify_file) if not is_intact]
        for key in bad_keys:
            del self.uploaded[key]
        if bad_keys:
            count = f"{len(bad_keys)} of {len(self.files)} files"
            raise UploadError(f"{count} are missing or were replaced in S3, such as {bad_keys[0]}")

    def _verify_file(self, key: str) -> bool:
        stored, uploaded = self._read_stored_result(key), self.uploaded[key]
        if stored is None:
            return False
        if (stored.etag, stored.size) == (uploaded.etag, uploaded.size):
            return True
        if self._rules.may_replace and self._find_other_job(stored) is not None:
            return True  # the other job has recorded that it replaced this file
        if self._has_content(key, stored, uploaded.size, uploaded.checksum_sha256):
            self.uploaded[key] = replace(uploaded, etag=stored.etag)
            return True
        if stored.owner == self._owner:
            raise LostLease
        return False

    def _map_files(self, call: Callable[[str], bool]) -> list[tuple[str, bool]]:
        if len(self.files) == 1:
            return [(key, call(key)) for key in self.files]
        with create_transfer_pool() as pool:
            return list(zip(self.files, pool.map(call, self.files), strict=True))

    def _find_other_job(self, stored: StoredResult) -> str | None:
        """Return the job that wrote the file, if it is another job of this run, else None."""
        owner = stored.owner
        is_current = owner is not None and owner.run == self._owner.run
        return owner.job if owner is not None and is_current and owner.job != self._owner.job else None

    def _find_skipped_job(self, key: str, stored: StoredResult) -> str | None:
        """Return the other job that wrote the file in an earlier run and still relies on it, if any."""
        owner = stored.owner
        if owner is None or owner.job == self._owner.job or not self._rules.is_current_result(owner.job, key):
            return None
        return owner.job

    def _has_content(self, key: str, stored: StoredResult, size: int, digest: str) -> bool:
        if stored.size != size:
            return False
        stored_digest = stored.checksum_sha256 or compute_object_sha256(self._s3, self._bucket, key, self._arguments)
        return stored_digest == digest

    def _read_stored_result(self, key: str) -> StoredResult | None:
        return read_stored_result(self._s3, self._bucket, key, self._arguments)

    def _build_conflict(self, key: str, other: str) -> Failed:
        reason = f"s3://{self._bucket}/{key} has other content from the job {other}"
        remedy = "let the program use file names that differ between jobs, or give each job its own location"
        return Failed(f"{reason}, so the job {self._owner.job} cannot replace it; {remedy}", SHARED_FILE_CLASS)


def has_unchanged_shared_results(s3: Any, outputs: list[ResultFile], arguments: S3Arguments = NO_ARGUMENTS) -> bool:
    """Return whether all `outputs` still exist and are unchanged since they were verified, with a request for each."""
    for output in outputs:
        stored = read_stored_result(s3, output.bucket, output.key, arguments)
        if stored is None or stored.etag != output.etag:
            return False
    return bool(outputs)


def _compute_file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
