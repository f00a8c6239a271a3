"""The errors that users see: each has an exit code and one line that says what went wrong and what to do next.

Every error meant for a user derives from `UserFacingError`; any other exception that reaches a user is a bug. The
errors contain data; the `format_…` functions turn the data into text when it is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

# ResponseParserError: the response did not come from AWS, but from something like a proxy.
AWSError = (ClientError, BotoCoreError, Boto3Error, ResponseParserError)

MAX_PROBLEMS_SHOWN = 20  # lines printed about one file; more would scroll off the screen
ACCESS_DENIED_REMEDY = "ask your administrator for this permission"
_REMEDIES_BY_CODE = {
    "ExpiredToken": "log in again (for SSO: aws sso login)",
    "ExpiredTokenException": "log in again (for SSO: aws sso login)",
    "InvalidClientTokenId": "check AWS_PROFILE in the config and your credentials",
    "UnrecognizedClientException": "check AWS_PROFILE in the config and your credentials",
    "AuthFailure": "check AWS_PROFILE in the config and your credentials",
    "NoCredentialsError": "log in to AWS and set AWS_PROFILE to your profile, or add --local to run without AWS",
    "ProfileNotFound": "set AWS_PROFILE to a profile in ~/.aws/config, or add --local to run without AWS",
    "EndpointConnectionError": "check your network connection and AWS_REGION",
    "404": "it does not exist: create it first, or correct the config",
    "403": "ask your administrator for permission to use it, or correct the config",
    "NoSuchBucket": "create the bucket first, or correct AWS_BUCKET in the config",
    "AWS.SimpleQueueService.NonExistentQueue": "run setup first",
    "QueueDoesNotExist": "run setup first",
    "ServiceNotFoundException": "run setup first",
    "ClusterNotFoundException": "run setup first",
    "SpotMaxPriceTooLow": "raise MACHINE_PRICE in the config",
}


class UserFacingError(Exception):
    """The base class of errors that users see as one line; `run.py` exits with `exit_code`.

    `action`: what the program was doing (a gerund phrase), or "". `remedy`: what the user can do, or "".
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "", *, action: str = "") -> None:
        super().__init__(problem, remedy, action)
        self.problem, self.remedy, self.action = problem, remedy, action

    def __str__(self) -> str:
        return format_user_facing_error(self)


class InputError(UserFacingError):
    """An error in something that the user wrote. It is raised before anything is created or sent.

    `key`: the key or position in the file, or "". `others`: further problems in the same input.
    """

    exit_code = 2

    def __init__(
        self, file: Path | str, key: str, problem: str, remedy: str, *, others: Sequence[InputError] = ()
    ) -> None:
        super().__init__(problem, remedy)
        self.file, self.key, self.others = file, key, tuple(others)

    @property
    def problems(self) -> list[InputError]:
        """Return one error for each problem, without `others`, in the order in which they were found."""
        first = InputError(self.file, self.key, self.problem, self.remedy)
        return [first, *(problem for other in self.others for problem in other.problems)]

    def __str__(self) -> str:
        return "\n".join(format_input_problems(self))


class InputProblems:
    """The problems in one input, collected so that the user sees all of them at once instead of one per attempt."""

    def __init__(self) -> None:
        self._errors: list[InputError] = []

    def add(self, error: InputError) -> None:
        self._errors.append(error)

    @property
    def has_any(self) -> bool:
        """Return whether any problem has been collected."""
        return bool(self._errors)

    @property
    def is_full(self) -> bool:
        """Return whether no further problems would be shown, so the rest of a long input need not be read."""
        return len(self._errors) > MAX_PROBLEMS_SHOWN

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Catch an InputError raised inside the block and continue after it."""
        try:
            yield
        except InputError as error:
            self.add(error)

    def list_problems(self) -> list[InputError]:
        """Return one error for each problem collected so far."""
        return [problem for error in self._errors for problem in error.problems]

    def raise_if_any(self) -> None:
        """Raise one InputError that contains all problems collected so far, if there are any."""
        if self._errors:
            raise merge_input_errors(self._errors)


def merge_input_errors(errors: Iterable[InputError]) -> InputError:
    """Return one error that contains the problems of all `errors`, which must not be empty."""
    first, *others = (problem for error in errors for problem in error.problems)
    return InputError(first.file, first.key, first.problem, first.remedy, others=others)


class CloudError(UserFacingError):
    """An error that AWS returned, or a failure to reach AWS.

    `code`: AWS's error code, or the name of botocore's exception if there was no response; "" if AWS reported success
    but the response is not usable.
    """

    def __init__(self, problem: str, remedy: str = "", *, action: str = "", code: str = "") -> None:
        super().__init__(problem, remedy, action=action)
        self.code = code

    def __str__(self) -> str:
        return format_cloud_error(self)


def format_user_facing_error(error: UserFacingError) -> str:
    """Return the line that a user reads: what the program was doing, what went wrong, and what to do."""
    return _format_error_line(error.action, error.problem, error.remedy)


def format_cloud_error(error: CloudError) -> str:
    """Return the line that a user reads, with AWS's error code before AWS's message."""
    code = f"{error.code}: " if error.code else ""
    return _format_error_line(error.action, f"{code}{error.problem}", error.remedy)


def format_input_problems(error: InputError) -> list[str]:
    """Return one line for each of the first MAX_PROBLEMS_SHOWN problems: file, key, what is wrong, how to fix it."""
    problems = error.problems
    lines = [_format_input_problem(problem) for problem in problems[:MAX_PROBLEMS_SHOWN]]
    return [*lines, "there are more problems; fix these first"] if len(problems) > MAX_PROBLEMS_SHOWN else lines


def _format_input_problem(error: InputError) -> str:
    where = f"{error.file}: {error.key}" if error.key else f"{error.file}"
    return format_one_line(f"{where}: {error.problem}; {error.remedy}")


def _format_error_line(action: str, problem: str, remedy: str) -> str:
    prefix, suffix = f"while {action}: " if action else "", f" — {remedy}" if remedy else ""
    return format_one_line(f"{prefix}{problem}{suffix}")


def get_error_message(error: BaseException) -> str:
    """Return AWS's message, or botocore's if there was no response."""
    return error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)


def find_remedy(error: BaseException) -> str:
    """Return what the user can do about this error."""
    remedy = _REMEDIES_BY_CODE.get(get_error_code(error))
    if remedy is None and is_access_denied(error):
        return ACCESS_DENIED_REMEDY
    return remedy or "try again; if it happens again, look up the code in AWS's documentation"


def explain_aws_error(action: str, error: BaseException) -> CloudError:
    """Return a CloudError that explains `error` to the user; `action`: what the program was doing."""
    problem = get_error_message(error) or "no reason given"
    return CloudError(problem, find_remedy(error), action=action, code=get_error_code(error))


@contextmanager
def translate_aws_errors(action: str) -> Iterator[None]:
    """Turn AWS errors inside the block into a CloudError; `action`: what the program is doing."""
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
_PERMISSIONS_BY_CALL = {  # calls whose permission has a different name
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
}
_CALLS_BY_SERVICE = {  # to find a call's service if AWS does not name the permission
    "sts": ("GetCallerIdentity",),
    "s3": ("GetBucketPolicy", "AbortMultipartUpload", "GetObject", "PutObject"),
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
    """Return the permission that a denied call needs, as it is written in a policy.

    Return None if the call failed for another reason.
    """
    if not isinstance(error, ClientError) or not is_access_denied(error):
        return None
    call = error.operation_name
    return (
        find_named_permission(error) or _PERMISSIONS_BY_CALL.get(call) or f"{_SERVICES_BY_CALL.get(call, 'ec2')}:{call}"
    )


def is_login_error(error: BaseException) -> bool:
    """Return whether AWS rejected the caller's credentials, so that no call can succeed."""
    return get_error_code(error) in _LOGIN_ERROR_CODES


def format_lookup_error(error: BaseException) -> str:
    """Return why a lookup failed: the missing permission, or AWS's code and message."""
    permission = find_missing_permission(error)
    if permission:
        return f"needs {permission}"
    return format_one_line(f"{get_error_code(error)}: {get_error_message(error)}")
