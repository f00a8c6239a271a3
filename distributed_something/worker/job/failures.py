"""Exceptions for attempts that end without success, and functions that classify AWS errors.

Each failure has a reason class, which is written to the job's record.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

# botocore does not wrap the last two: a response that it cannot parse, which does not come from AWS itself, and a
# connection that breaks in the middle of a response.
AWS_ERRORS = (ClientError, BotoCoreError, Boto3Error, ResponseParserError, HTTPError)
# The error codes that AWS services return for a missing permission. For some calls, S3 returns only the HTTP status.
_DENIED_CODES = {
    "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403", "Forbidden",
}  # fmt: skip
_PERMISSION_PATTERN = re.compile(r"perform:? ([a-z0-9-]+:[A-Za-z]+)")
_NOT_FOUND_CODES = {"404", "NoSuchKey"}
BAD_DATA_CLASS = "bad data"
# The disk refuses the name or the place of a file, whatever the machine: the name or path is too long or invalid, or a
# file is where a folder must be, or the other way round.
_NAME_ERRNOS = {
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ, errno.ELOOP,
}  # fmt: skip
_MISSING_QUEUE_CODES = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


def get_error_code(error: BaseException) -> str:
    """Return the AWS error code, or the name of the exception class if AWS sent no response."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def is_access_denied(error: BaseException) -> bool:
    """Return whether AWS denied the call because a permission is missing."""
    return isinstance(error, ClientError) and get_error_code(error) in _DENIED_CODES


def find_named_permission(error: ClientError) -> str | None:
    """Return the missing permission that the AWS message mentions, such as `sqs:SendMessage`, or None.

    Such a message reads "… is not authorized to perform: sqs:SendMessage …".
    """
    return find_permission_in_text(str(error.response.get("Error", {}).get("Message", "")))


def find_permission_in_text(text: str) -> str | None:
    """Return the missing permission that an AWS message mentions, which may be part of a log line, or None."""
    match = _PERMISSION_PATTERN.search(text)
    return match[1] if match else None


def is_missing_object(error: BaseException) -> bool:
    """Return whether S3 reports that the object does not exist."""
    return isinstance(error, ClientError) and get_error_code(error) in _NOT_FOUND_CODES


def is_missing_queue(error: BaseException) -> bool:
    """Return whether SQS reports that the queue does not exist."""
    return isinstance(error, ClientError) and get_error_code(error) in _MISSING_QUEUE_CODES


def is_name_error(error: OSError) -> bool:
    """Return whether the disk refuses a file's name or path, so that the same would happen on every machine."""
    return error.errno in _NAME_ERRNOS


def describe_outside_folder(output_dir: Path) -> str:
    """Return what is wrong with an output folder that is not in its job's folder."""
    return f"`output_dir` is {str(output_dir)!r}, which is outside the job's folder; use a folder below folders.root"


def describe_input_folder(output_dir: Path) -> str:
    """Return what is wrong with an output folder that contains inputs, which would be uploaded as results."""
    remedy = "use a folder of its own below folders.root"
    return f"`output_dir` is {str(output_dir)!r}, whose inputs would be uploaded as results; {remedy}"


class Failed(Exception):
    """Raised when an attempt fails. The job is retried; after its last attempt it is moved to the dead-letter queue.

    `missing_input`: the address in S3 to which an upload would correct the failure, if there is one.
    """

    reason_class = "program"
    missing_input: str | None = None

    def __init__(self, reason: str, reason_class: str | None = None) -> None:
        super().__init__(reason)
        self.reason_class = reason_class or self.reason_class


class ProgramNotStarted(Failed):
    """Raised if the program cannot be started. `start_error`: the name of the error, such as ENOENT."""

    def __init__(self, reason: str, reason_class: str, start_error: str) -> None:
        super().__init__(reason, reason_class)
        self.start_error = start_error


class MissingInput(Failed):
    """Raised if an input does not exist. `missing_input`: its address, if it could be in S3; a folder's ends in `/`."""

    reason_class = "missing input"

    def __init__(self, reason: str, missing_input: str | None = None) -> None:
        super().__init__(reason)
        self.missing_input = missing_input


class BadData(Failed):
    """Raised for data that no attempt on any machine could use, such as an archived input or a name that is too long.

    The job's data or its Job file is the cause, so the job is not retried.
    """

    reason_class = BAD_DATA_CLASS


class UploadError(Failed):
    reason_class = "upload"


class JobAlreadyDone(Exception):
    """Raised to end an attempt if verified results are already in S3, from an earlier run or from another worker that
    received the same message."""


class JobAlreadyFailed(Exception):
    """Raised to end an attempt if the job has failed for good, but the worker was lost before it moved the message."""


class Interruption(Exception):
    """Raised to end an attempt if the worker must stop. The job did not fail and is returned to the queue at once."""


class LostLease(Exception):
    """Raised to end an attempt whose lease is lost. Another worker may have the job, so nothing is published.

    Also raised if another attempt at the same job has written its results, although this attempt still has its lease.
    """


class SharedByOtherJob(Exception):
    """Raised if another job has written to a location that should be the job's own."""


class StaleMessage(Exception):
    """Raised for a message whose lease SQS would end before the job's time limit. It must be sent as a new message."""
