"""How an attempt can end other than well, each with the class that its record names."""

from __future__ import annotations

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

# The last two: an answer that is none of AWS's, and a connection that is cut in an answer; botocore wraps neither.
AWS_ERRORS = (ClientError, BotoCoreError, Boto3Error, ResponseParserError, HTTPError)


class Failed(Exception):
    """The attempt failed; the job is tried again, or goes to the dead-letter queue after the last try."""

    reason_class = "program"

    def __init__(self, reason: str, reason_class: str | None = None) -> None:
        super().__init__(reason)
        self.reason_class = reason_class or self.reason_class


class MissingInput(Failed):
    reason_class = "missing input"


class UploadFailed(Failed):
    reason_class = "upload"


class AlreadyDone(Exception):
    """The job's outputs are in S3 and verified: by an earlier run, or by another worker that got the same message."""


class Interrupted(Exception):
    """The worker is told to stop: not the job's fault, so it goes back to the queue at once."""


class LostLease(Exception):
    """Another worker may have the job by now: whatever this one did is dropped."""


class TooOld(Exception):
    """SQS would end the lease before the job's time limit: the message must be sent again as new."""
