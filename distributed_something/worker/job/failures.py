"""How an attempt can end other than well, each with the class that its record names."""

from __future__ import annotations

import re

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

# The last two: an answer that is none of AWS's, and a connection that is cut in an answer; botocore wraps neither.
AWS_ERRORS = (ClientError, BotoCoreError, Boto3Error, ResponseParserError, HTTPError)


# What AWS's services call a missing right; S3 answers some calls with the HTTP status alone.
_DENIED_CODES = {
    "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403", "Forbidden",
}  # fmt: skip
_PERMISSION_PATTERN = re.compile(r"perform:? ([a-z0-9-]+:[A-Za-z]+)")
_NOT_FOUND_CODES = {"404", "NoSuchKey"}


def get_error_code(error: BaseException) -> str:
    """Return AWS's code of a refused call, or the kind of error where no answer came."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def is_access_denied(error: BaseException) -> bool:
    """Whether AWS refused the call because a right is missing."""
    return isinstance(error, ClientError) and get_error_code(error) in _DENIED_CODES


def find_named_permission(error: ClientError) -> str | None:
    """Return the right that AWS's own words name, such as `sqs:SendMessage`: «… is not authorized to perform: …»."""
    named = _PERMISSION_PATTERN.search(str(error.response.get("Error", {}).get("Message", "")))
    return named[1] if named else None


def is_missing_object(error: BaseException) -> bool:
    """Whether S3 says that there is no such object."""
    return isinstance(error, ClientError) and get_error_code(error) in _NOT_FOUND_CODES


class Failed(Exception):
    """The attempt failed; the job is tried again, or goes to the dead-letter queue after the last try."""

    reason_class = "program"

    def __init__(self, reason: str, reason_class: str | None = None) -> None:
        super().__init__(reason)
        self.reason_class = reason_class or self.reason_class


class MissingInput(Failed):
    reason_class = "missing input"


class UploadError(Failed):
    reason_class = "upload"


class JobAlreadyDone(Exception):
    """The job's outputs are in S3 and verified: by an earlier run, or by another worker that got the same message."""


class Interruption(Exception):
    """The worker is told to stop: not the job's fault, so it goes back to the queue at once."""


class LostLease(Exception):
    """Another worker may have the job by now: whatever this one did is dropped."""


class StaleMessage(Exception):
    """SQS would end the lease before the job's time limit: the message must be sent again as new."""
