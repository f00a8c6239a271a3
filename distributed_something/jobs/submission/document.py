"""Writes a submission's document to the bucket: at its beginning, every few seconds, and at its end."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from distributed_something.core.clock import Clock
from distributed_something.core.errors import (
    AWSError,
    format_lookup_error,
    get_error_code,
    is_missing_object,
    translate_aws_errors,
)
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.worker import AppKeys, build_replacement_document

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPDATE_SECONDS = 10.0  # a killed process leaves a count that is at most this old
GIT_TIMEOUT_SECONDS = 10.0
_OCCUPIED_CODES = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


class DocumentWriter:
    """Writes one submission's document to `bucket`. Only `begin` raises errors; the others return them as text.

    `clock_offset`: seconds to add to the local clock to get AWS's time.
    """

    def __init__(self, s3: S3Client, bucket: str, clock: Clock, clock_offset: float) -> None:
        self._s3, self._bucket, self._clock, self._offset = s3, bucket, clock, clock_offset
        self._written_at = 0.0

    @property
    def now(self) -> float:
        """AWS's time, in seconds since 1970."""
        return self._clock.now() + self._offset

    def begin(self, draft: SubmissionDocument) -> SubmissionDocument:
        """Write a new document at the first free key from `draft.time` on, and return it.

        Raise CloudError if it cannot be written.
        """
        document = draft
        with translate_aws_errors(f"writing the submission to s3://{self._bucket}/{_build_key(document)}"):
            while not self._create(document):  # another submission began in the same millisecond
                document = replace(document, time=build_submission_time(document.began + 0.001))
        self._written_at = self._clock.now()
        return document

    def update(self, document: SubmissionDocument, count: int) -> None:
        """Write the document with this count unless it was written in the last few seconds. An error is ignored."""
        if self._clock.now() - self._written_at >= UPDATE_SECONDS:
            self.write(replace(document, count=count))

    def write(self, document: SubmissionDocument) -> str | None:
        """Write the document. Return None, or the reason if it cannot be written."""
        self._written_at = self._clock.now()
        try:
            self._put(document)
        except AWSError as error:
            return format_lookup_error(error)
        return None

    def write_replacement(self, document: SubmissionDocument) -> str | None:
        """Tell the containers that the waiting jobs were removed. Return None, or the reason if that is not possible.

        Paused ones then take jobs again, and replaced jobs that fail are not tried again.
        """
        key = AppKeys(document.app).replacement(document.queue)
        body = build_replacement_document(document.time, document.replaced_at or document.time)
        try:
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")
        except AWSError as error:
            return format_lookup_error(error)
        return None

    def _create(self, document: SubmissionDocument) -> bool:
        try:
            self._put(document, IfNoneMatch="*")
        except ClientError as error:
            if get_error_code(error) not in _OCCUPIED_CODES:
                raise
            return self._is_stored(document)  # true if S3's response to this request was lost, and botocore repeated it
        return True

    def _is_stored(self, document: SubmissionDocument) -> bool:
        try:
            response = self._s3.get_object(Bucket=self._bucket, Key=_build_key(document))
        except ClientError as error:
            if is_missing_object(error):  # the other request is not finished yet
                return False
            raise
        return response["Body"].read() == build_submission(document)

    def _put(self, document: SubmissionDocument, **condition: str) -> None:
        self._s3.put_object(
            Bucket=self._bucket, Key=_build_key(document), Body=build_submission(document),
            ContentType="application/json", **condition,  # type: ignore[arg-type]
        )  # fmt: skip


def find_git_commit(folder: Path) -> str | None:
    """Return the commit of the folder's git repository, followed by `-dirty` if its files have changed since.

    Return None if the folder is not in a repository or git is not installed.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_SECONDS
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return process.stdout.strip() or None


def _build_key(document: SubmissionDocument) -> str:
    return AppKeys(document.app).submission(document.time)
