"""What can go wrong, as a user reads it: one line, an exit code, and what to do next.

Every error that is meant for a user derives from `UserFacingError`; anything else that escapes is a bug. The data stay
on the error; its text is made where it is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from distributed_something.core.text import format_one_line
from distributed_something.worker import find_named_permission
from distributed_something.worker import get_error_code as get_error_code
from distributed_something.worker import is_access_denied as is_access_denied
from distributed_something.worker import is_missing_object as is_missing_object

AWSError = (
    ClientError,
    BotoCoreError,
    Boto3Error,
    ResponseParserError,
)  # the last: an answer that is no answer of AWS's

ACCESS_DENIED_REMEDY = "ask your administrator for this right"
_REMEDIES_BY_CODE = {
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


class UserFacingError(Exception):
    """Base of all that a user is told in one line; `exit_code` is what `run.py` ends with.

    `action`: what was being done, or "" if `problem` says it all. `remedy`: what to try, if anything.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "", *, action: str = "") -> None:
        super().__init__(problem, remedy, action)
        self.problem, self.remedy, self.action = problem, remedy, action

    def __str__(self) -> str:
        return format_user_facing_error(self)


class InputError(UserFacingError):
    """Something that the user wrote is wrong. Nothing was created or sent.

    `key`: where in the file, or "". `others`: how many more things are wrong in it.
    """

    exit_code = 2

    def __init__(self, file: Path | str, key: str, problem: str, remedy: str, *, others: int = 0) -> None:
        super().__init__(problem, remedy)
        self.file, self.key, self.others = file, key, others

    def __str__(self) -> str:
        return format_input_error(self)


class CloudError(UserFacingError):
    """AWS refused or failed.

    `code`: AWS's code, or the kind of error where no answer came; "" where AWS answered and the answer does not do.
    """

    def __init__(self, problem: str, remedy: str = "", *, action: str = "", code: str = "") -> None:
        super().__init__(problem, remedy, action=action)
        self.code = code

    def __str__(self) -> str:
        return format_cloud_error(self)


def format_user_facing_error(error: UserFacingError) -> str:
    """Return the one line that a user reads: what was being done, what went wrong, what to try."""
    return _format_error_line(error.action, error.problem, error.remedy)


def format_cloud_error(error: CloudError) -> str:
    """Return the one line that a user reads; AWS's code stands before its words."""
    code = f"{error.code}: " if error.code else ""
    return _format_error_line(error.action, f"{code}{error.problem}", error.remedy)


def format_input_error(error: InputError) -> str:
    """Return the one line that a user reads: file, key, what is wrong, how to fix it."""
    where = f"{error.file}: {error.key}" if error.key else f"{error.file}"
    others = f" (and {error.others} more)" if error.others else ""
    return format_one_line(f"{where}: {error.problem}; {error.remedy}{others}")


def _format_error_line(action: str, problem: str, remedy: str) -> str:
    doing, then = f"while {action}: " if action else "", f" — {remedy}" if remedy else ""
    return format_one_line(f"{doing}{problem}{then}")


def get_error_message(error: BaseException) -> str:
    """Return AWS's own words, or botocore's where no answer came."""
    return error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)


def find_remedy(error: BaseException) -> str:
    """Return what to try after this refusal."""
    remedy = _REMEDIES_BY_CODE.get(get_error_code(error))
    if remedy is None and is_access_denied(error):
        return ACCESS_DENIED_REMEDY
    return remedy or "try again; if it stays so, look the code up in AWS's documentation"


def explain_aws_error(action: str, error: BaseException) -> CloudError:
    """Return `error` as one that a user can read; `action`: what was being done."""
    problem = get_error_message(error) or "no reason given"
    return CloudError(problem, find_remedy(error), action=action, code=get_error_code(error))


@contextmanager
def translate_aws_errors(action: str) -> Iterator[None]:
    """Turn what AWS refuses inside the block into a CloudError; `action`: what is being done."""
    try:
        yield
    except AWSError as error:
        raise explain_aws_error(action, error) from error


_LOGIN_ERROR_CODES = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "UnauthorizedSSOTokenError", "SSOTokenLoadError", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
    "UnrecognizedClientException", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException",
    "IncompleteSignature", "InvalidAccessKeyId", "RequestExpired",
}  # fmt: skip
_PERMISSIONS_BY_CALL = {  # calls whose right has another name than the call
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
}
_CALLS_BY_SERVICE = {  # the service of a call, where AWS does not name the right
    "sts": ("GetCallerIdentity",),
    "s3": ("GetBucketPolicy", "AbortMultipartUpload", "GetObject"),
    "iam": ("GetRole", "GetInstanceProfile"),
    "sqs": ("GetQueueUrl", "GetQueueAttributes", "ListQueueTags"),
    "ecs": ("DescribeClusters", "DescribeServices", "ListContainerInstances", "DescribeContainerInstances",
            "ListTasks", "DescribeTasks"),
    "ecr": ("BatchGetImage", "GetDownloadUrlForLayer"),
    "servicequotas": ("GetServiceQuota",),
    "logs": ("DescribeLogStreams", "GetLogEvents"),
}  # fmt: skip
_SERVICES_BY_CALL = {call: service for service, calls in _CALLS_BY_SERVICE.items() for call in calls}


def find_missing_permission(error: BaseException) -> str | None:
    """The right that the refused call needs, as a policy names it; None where the call failed for another reason."""
    if not isinstance(error, ClientError) or not is_access_denied(error):
        return None
    call = error.operation_name
    return (
        find_named_permission(error) or _PERMISSIONS_BY_CALL.get(call) or f"{_SERVICES_BY_CALL.get(call, 'ec2')}:{call}"
    )


def is_login_error(error: BaseException) -> bool:
    """Whether no call can succeed, because AWS does not know who calls."""
    return get_error_code(error) in _LOGIN_ERROR_CODES


def format_lookup_error(error: BaseException) -> str:
    """Why something could not be looked up: the right that it needs, or AWS's words."""
    right = find_missing_permission(error)
    if right:
        return f"needs {right}"
    return format_one_line(f"{get_error_code(error)}: {get_error_message(error)}")
