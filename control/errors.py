"""What can go wrong, as a user reads it: one line, an exit code, and what to do next.

Every error that is meant for a user derives from `Problem`; anything else that escapes is a fault of this project.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

AWSError = (
    ClientError,
    BotoCoreError,
    Boto3Error,
    ResponseParserError,
)  # the last: an answer that is no answer of AWS's

LONGEST_SHOWN = 60  # characters of a wrong value that a line repeats

_REMEDIES = {
    "AccessDenied": "ask your administrator for this right",
    "AccessDeniedException": "ask your administrator for this right",
    "UnauthorizedOperation": "ask your administrator for this right",
    "ExpiredToken": "log in again (for SSO: aws sso login)",
    "ExpiredTokenException": "log in again (for SSO: aws sso login)",
    "InvalidClientTokenId": "check AWS_PROFILE in the config and your credentials",
    "UnrecognizedClientException": "check AWS_PROFILE in the config and your credentials",
    "AuthFailure": "check AWS_PROFILE in the config and your credentials",
    "NoCredentialsError": "log in to AWS and name your profile in AWS_PROFILE, or add --local to run without AWS",
    "ProfileNotFound": "name a profile of ~/.aws/config in AWS_PROFILE, or add --local to run without AWS",
    "EndpointConnectionError": "check the network and AWS_REGION",
    "404": "it does not exist: make it first, or correct the config",
    "403": "ask your administrator for the right to use it, or correct the config",
    "NoSuchBucket": "make the bucket first, or correct AWS_BUCKET in the config",
    "AWS.SimpleQueueService.NonExistentQueue": "run setup first",
    "QueueDoesNotExist": "run setup first",
    "ServiceNotFoundException": "run setup first",
    "ClusterNotFoundException": "run setup first",
    "SpotMaxPriceTooLow": "raise MACHINE_PRICE in the config",
}


class Problem(Exception):
    """Base of all that a user is told in one line; `exit_code` is what `run.py` ends with."""

    exit_code = 1


class InputError(Problem):
    """Something that the user wrote is wrong. Nothing was created or sent."""

    exit_code = 2

    def __init__(self, file: Path | str, key: str, wrong: str, right: str) -> None:
        where = f"{file}: {key}" if key else f"{file}"
        super().__init__(one_line(f"{where}: {wrong}; {right}"))


class CloudError(Problem):
    """AWS refused or failed: what was being done, AWS's code and message, what to try."""


def one_line(text: str) -> str:
    """`text` with every run of white space (line ends too) as one space, and what a terminal cannot show escaped."""
    spaced = " ".join(text.split())
    return spaced if spaced.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in spaced)


def shown(value: object) -> str:
    """`value` as it would be written in a file, cut to what fits in a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more than 4,300 digits, for one
        text = f"this {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def code_of(error: BaseException) -> str:
    """AWS's code of a refused call, or the kind of error where no answer came."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def explain(doing: str, error: BaseException) -> CloudError:
    """`error` as the line that a user reads."""
    code = code_of(error)
    remedy = _REMEDIES.get(code, "try again; if it stays so, look the code up in AWS's documentation")
    message = error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)
    return CloudError(one_line(f"while {doing}: {code}: {message or 'no reason given'} — {remedy}"))


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Turns what AWS refuses inside the block into a `CloudError` that begins «while WHAT»."""
    try:
        yield
    except AWSError as error:
        raise explain(what, error) from error
