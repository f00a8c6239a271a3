"""Compares one listed result with what is in S3."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from distributed_something.core.errors import get_error_code, is_access_denied, is_missing_object
from distributed_something.results.outcome import read_record
from distributed_something.results.verify.listed_results import ListedResult, list_results
from distributed_something.worker import ResultOwner, RunKeys, StoredResult, compute_object_sha256, read_stored_result

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A worker uploads smaller files in one request, with their SHA-256. If S3 does not have it, the file is read.
MAX_READ_BYTES = 16 * 1024 * 1024
ARCHIVED_CODE = "InvalidObjectState"  # S3's error for reading a file in an archive, such as Glacier


class ResultState(Enum):
    """What is known about a listed result. The values are in the JSON output.

    INTACT: its size and checksum are as listed. SAME_SIZE: its size is, and no checksum can be compared. REPLACED:
    another job, or the same job in a later run, wrote a file with the same key. UNREADABLE: S3 refused the request.
    """

    INTACT = "intact"
    SAME_SIZE = "same size"
    MISSING = "missing"
    CHANGED = "changed"
    REPLACED = "replaced"
    UNREADABLE = "unreadable"


PROBLEM_STATES = (ResultState.MISSING, ResultState.CHANGED, ResultState.UNREADABLE)


@dataclass(frozen=True, slots=True)
class CheckedResult:
    """A listed result and its state.

    `stored`: what is in S3, if anything. `by`: who replaced the result. `error`: AWS's error code.
    """

    listed: ListedResult
    state: ResultState
    stored: StoredResult | None = None
    by: ResultOwner | None = None
    error: str = ""

    @property
    def has_other_size(self) -> bool:
        return self.stored is not None and self.stored.size != self.listed.size


def check_result(s3: S3Client, app_bucket: str, app: str, listed: ListedResult) -> CheckedResult:
    """Return the state of a result, with one request if it is intact and its checksum is listed.

    `app_bucket`: where the records of `app` are. If S3 refuses to read this file, it is UNREADABLE; other errors are
    not caught.
    """
    try:
        stored = read_stored_result(s3, listed.bucket, listed.key)
        if stored is None:
            return CheckedResult(listed, ResultState.MISSING)
        if not listed.checksum_sha256 and stored.owner is not None:
            listed = _find_upload(s3, app_bucket, app, listed, stored.owner)
        state = compare_result(s3, listed, stored)
    except ClientError as error:
        if is_missing_object(error) or get_error_code(error) == "NoSuchBucket":
            return CheckedResult(listed, ResultState.MISSING)
        if not is_access_denied(error) and get_error_code(error) != ARCHIVED_CODE:
            raise
        return CheckedResult(listed, ResultState.UNREADABLE, error=get_error_code(error))
    owner = stored.owner
    if state is ResultState.CHANGED and owner is not None and _is_replacement(s3, app_bucket, app, listed, stored):
        return CheckedResult(listed, ResultState.REPLACED, stored, owner)
    return CheckedResult(listed, state, stored)


def _find_upload(s3: S3Client, app_bucket: str, app: str, listed: ListedResult, owner: ResultOwner) -> ListedResult:
    """Return the result as the record of the job that uploaded it lists it; `listed` itself if that is not known."""
    record = read_record(s3, app_bucket, RunKeys(app, owner.run).record(owner.job))
    place = (listed.bucket, listed.key)
    own = [result for result in list_results(record, owner.run) if (result.bucket, result.key) == place]
    return own[0] if own and own[0].checksum_sha256 else listed


def compare_result(s3: S3Client, listed: ListedResult, stored: StoredResult) -> ResultState:
    """Return INTACT, SAME_SIZE, or CHANGED. AWS errors are not caught.

    S3 has no SHA-256 of a file that was uploaded in parts, but a CRC-32 of the parts' CRC-32. It may also differ after
    a copy with other parts, and other programs upload files with other checksums. Then the file itself is read.
    """
    if stored.size != listed.size:
        return ResultState.CHANGED
    if not listed.checksum_sha256:
        return ResultState.SAME_SIZE
    if listed.checksum_crc32 and listed.checksum_crc32 == stored.checksum_crc32:
        return ResultState.INTACT
    digest = stored.checksum_sha256
    if digest is None:
        is_other = stored.owner is not None and stored.owner != ResultOwner(listed.job, listed.run)
        if not (listed.checksum_crc32 or is_other or listed.size <= MAX_READ_BYTES):
            return ResultState.SAME_SIZE
        digest = compute_object_sha256(s3, listed.bucket, listed.key)
    return ResultState.INTACT if digest == listed.checksum_sha256 else ResultState.CHANGED


def is_result_of(s3: S3Client, other: ListedResult, stored: StoredResult) -> bool:
    """Return whether the file in S3 is certainly what another record lists at its key. AWS errors are not caught."""
    return compare_result(s3, other, stored) is ResultState.INTACT


def _is_replacement(s3: S3Client, app_bucket: str, app: str, listed: ListedResult, stored: StoredResult) -> bool:
    """Return whether the job that the file's metadata names has replaced the listed file in this or a later run.

    If that job's record lists the file, it decides. Another app's record is not known, and that of a job that has not
    ended does not exist yet. An older file, which someone restored, is not a replacement.
    """
    owner = stored.owner
    if owner is None or owner.run < listed.run or owner == ResultOwner(listed.job, listed.run):
        return False
    record = read_record(s3, app_bucket, RunKeys(app, owner.run).record(owner.job))
    place = (listed.bucket, listed.key)
    own = [result for result in list_results(record, owner.run) if (result.bucket, result.key) == place]
    return not own or any(compare_result(s3, result, stored) is not ResultState.CHANGED for result in own)
