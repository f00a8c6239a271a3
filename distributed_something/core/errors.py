"""The errors that users see: each has an exit code and one line that says what went wrong and what to do next.

Every error meant for a user derives from `UserFacingError`; any other exception that reaches a user is a bug. The
errors contain data; the `format_…` functions turn the data into text when it is printed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
ACCESS_DENIED_REMEDY = "ask your administrator for {permission}"
_UNKNOWN_REMEDY = "try again; if it happens again, look up the code in AWS's documentation"
_PROFILE_OPTION = " --profile PROFILE"  # in remedies; see `fill_in_profile`
_CLOCK_REMEDY = "set this computer's clock: AWS rejects requests whose time is more than a few minutes off"
_OTHER_REGION_REMEDY = "the bucket is in another region than AWS_REGION; correct AWS_BUCKET or AWS_REGION in the config"
THROTTLING_CODES = (
    "BandwidthLimitExceeded", "EC2ThrottledException", "PriorRequestNotComplete", "RequestLimitExceeded",
    "RequestThrottled", "RequestThrottledException", "SlowDown", "ThrottledException", "Throttling",
    "ThrottlingException", "TooManyRequestsException",
)  # fmt: skip
# What to do, and the codes that call for it: AWS's error codes, and the names of botocore's exceptions and their bases.
_REMEDIES: dict[str, tuple[str, ...]] = {
    f"log in again: aws sso login{_PROFILE_OPTION}": (
        "SSOError", "SSOTokenLoadError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
    ),
    f"log in again (for SSO: aws sso login{_PROFILE_OPTION})": (
        "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired",
    ),
    f"log in again (for SSO: aws sso login{_PROFILE_OPTION}); if that does not help, set this computer's clock": (
        "RequestExpired",  # EC2's code for expired credentials, and for a request that is too old
    ),
    f"log in again: aws login{_PROFILE_OPTION}": ("LoginError",),
    "log in again: this profile needs an MFA code, which has expired": ("RefreshWithMFAUnsupportedError",),
    "log in again; the program or role in ~/.aws/config from which your profile takes its credentials failed": (
        "CredentialRetrievalError",
    ),
    "log in to AWS and set AWS_PROFILE to your profile, or add --local to run without AWS": (
        "MissingAuthenticationToken", "NoAuthTokenError", "NoCredentialsError", "PartialCredentialsError",
    ),
    "set AWS_PROFILE to a profile in ~/.aws/config, or add --local to run without AWS": ("ProfileNotFound",),
    "make room on it": ("InsufficientStorage",),  # only from the local cloud
    "correct your profile in ~/.aws/config (aws configure)": (
        "ConfigNotFound", "ConfigParseError", "InfiniteLoopConfigError", "InvalidConfigError",
    ),
    "check AWS_PROFILE in the config and your credentials, and whether your account has enabled the region": (
        "AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException",
    ),
    "your secret access key does not belong to your access key; enter both again (aws configure)": (
        "IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch",
    ),
    "enable the region for your account (AWS console, Account), or correct AWS_REGION": ("OptInRequired",),
    "correct AWS_REGION in the config": (
        "BaseEndpointResolverError", "EndpointResolutionError", "InvalidRegionError", "UnknownRegionError",
    ),
    "log in again, or correct AWS_REGION: S3 does not report which of them is wrong": ("400",),
    "check your network connection and AWS_REGION": (
        "ConnectionClosedError", "ConnectionError", "HTTPClientError", "IncompleteReadError",
    ),
    "a proxy that inspects traffic needs its own certificate: set AWS_CA_BUNDLE to the file that your institution "
    "provides; without a proxy, check this computer's clock": ("SSLError",),
    "the proxy does not answer or refuses to connect to AWS: correct HTTPS_PROXY, or add AWS's hosts to NO_PROXY": (
        "InvalidProxiesConfigError", "ProxyConnectionError",
    ),
    "something other than AWS answered, such as a proxy or the login page of a network; check your connection": (
        "ForeignResponseError", "ResponseParserError",
    ),
    "AWS limits how often it can be called: wait a few minutes, and run the command again": THROTTLING_CODES,
    "AWS has a fault that passes: wait a few minutes, and run the command again": (
        "500", "502", "503", "504", "InternalError", "InternalFailure", "InternalServiceError", "ServerException",
        "ServiceUnavailable", "Unavailable",
    ),
    "it does not exist: create it first, or correct the config": ("404",),
    "ask your administrator for permission to use it, or correct the config": ("403",),
    "create the bucket first, or correct AWS_BUCKET in the config": ("NoSuchBucket",),
    "the key that encrypts the bucket cannot be used: enable it in KMS, or choose another one for the bucket": (
        "KMS.DisabledException", "KMS.KMSInvalidStateException", "KMS.NotFoundException",
    ),
    "run setup first": (
        "AWS.SimpleQueueService.NonExistentQueue", "ClusterNotFoundException", "QueueDoesNotExist",
        "ServiceNotFoundException",
    ),
    "raise MACHINE_PRICE in the config": ("SpotMaxPriceTooLow",),
}  # fmt: skip
_REMEDIES_BY_CODE = {code: remedy for remedy, codes in _REMEDIES.items() for code in codes}


class UserFacingError(Exception):
    """The base class of errors that users see as one line; `run.py` exits with `exit_code`.

    `action`: what the program was doing (a gerund phrase), or "". `remedy`: what the user can do, or "". `commands`:
    what to type, in this order; the remedy introduces them. `run.py` prints them below the line.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "", *, action: str = "", commands: Sequence[str] = ()) -> None:
        super().__init__(problem, remedy, action)
        self.problem, self.remedy, self.action, self.commands = problem, remedy, action, tuple(commands)

    def __str__(self) -> str:
        return format_user_facing_error(self)


class InputError(UserFacingError):
    """An error in something that the user wrote. It is raised before anything is created or sent.

    `key`: the key or position in the file, or "". `others`: further problems in the same input.
    """

    exit_code = 2

    def __init__(
        self, file: Path | str, key: str, problem: str, remedy: str, *, commands: Sequence[str] = (),
        others: Sequence[InputError] = (),
    ) -> None:  # fmt: skip
        super().__init__(problem, remedy, commands=commands)
        self.file, self.key, self.others = file, key, tuple(others)

    @property
    def problems(self) -> list[InputError]:
        """Return one error for each problem, without `others`, in the order in which they were found."""
        first = InputError(self.file, self.key, self.problem, self.remedy, commands=self.commands)
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
    return InputError(first.file, first.key, first.problem, first.remedy, commands=first.commands, others=others)


class CloudError(UserFacingError):
    """An error that AWS returned, or a failure to reach AWS.

    `code`: AWS's error code, or the name of botocore's exception if there was no response; "" if AWS reported success
    but the response is not usable.
    """

    def __init__(
        self, problem: str, remedy: str = "", *, action: str = "", code: str = "", commands: Sequence[str] = ()
    ) -> None:
        super().__init__(problem, remedy, action=action, commands=commands)
        self.code = code

    def __str__(self) -> str:
        return format_cloud_error(self)


def format_user_facing_error(error: UserFacingError) -> str:
    """Return the line that a user reads: what the program was doing, what went wrong, and what to do."""
    return _join_commands(*_split_commands(error))


def format_cloud_error(error: CloudError) -> str:
    """Return the line that a user reads, with AWS's error code before AWS's message."""
    return _join_commands(*_split_commands(error))


def format_input_problems(error: InputError) -> list[str]:
    """Return one line for each of the first MAX_PROBLEMS_SHOWN problems: file, key, what is wrong, how to fix it."""
    return [_join_commands(line, commands) for line, commands in list_error_lines(error)]


def list_error_lines(error: UserFacingError) -> list[tuple[str, tuple[str, ...]]]:
    """Return the error's lines, one for each problem that is shown, each with the commands to print below it."""
    problems = error.problems if isinstance(error, InputError) else [error]
    lines = list(map(_split_commands, problems[:MAX_PROBLEMS_SHOWN]))
    more = [("there are more problems; fix these first", ())] if len(problems) > MAX_PROBLEMS_SHOWN else []
    return [*lines, *more]


def _split_commands(error: UserFacingError) -> tuple[str, tuple[str, ...]]:
    if isinstance(error, InputError):
        where = f"{error.file}: {error.key}" if error.key else f"{error.file}"
        return format_one_line(f"{where}: {error.problem}; {error.remedy}"), error.commands
    code = f"{error.code}: " if isinstance(error, CloudError) and error.code else ""
    prefix, suffix = f"while {error.action}: " if error.action else "", f" — {error.remedy}" if error.remedy else ""
    return format_one_line(f"{prefix}{code}{error.problem}{suffix}"), error.commands


def _join_commands(line: str, commands: Sequence[str]) -> str:
    return f"{line}: {'; then: '.join(commands)}" if commands else line


def get_error_message(error: BaseException) -> str:
    """Return AWS's message, or botocore's if there was no response."""
    return error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)


def find_remedy(error: BaseException) -> str:
    """Return what the user can do about this error. `fill_in_profile` completes the command in it."""
    error = _find_cause(error)
    if is_clock_error(error):
        return _CLOCK_REMEDY
    if get_error_code(error) in _OTHER_REGION_CODES:
        region = _find_bucket_region(error)
        return (
            f"the bucket is in {region}: set AWS_REGION = '{region}' in the config" if region else _OTHER_REGION_REMEDY
        )
    remedy = next((_REMEDIES_BY_CODE[code] for code in _list_codes(error) if code in _REMEDIES_BY_CODE), None)
    if remedy is None and is_access_denied(error):
        is_encoded = get_error_code(error) == "UnauthorizedOperation"
        permission = find_missing_permission(error) if is_encoded else None  # EC2 may not name it in clear text
        return ACCESS_DENIED_REMEDY.format(
            permission=f"the permission {permission}" if permission else "this permission"
        )
    return remedy or _UNKNOWN_REMEDY


def fill_in_profile(text: str, profile: str) -> str:
    """Return the text with the profile's name in each command that logs in; "" and "default" need no option."""
    option = "" if profile in ("", "default") else f" --profile {shlex.quote(profile)}"
    return text.replace(_PROFILE_OPTION, option)


def _find_cause(error: BaseException) -> BaseException:
    """Return AWS's error inside an error of boto3's transfer functions, which only repeat its message."""
    cause = error.__cause__ or error.__context__
    return cause if isinstance(error, Boto3Error) and isinstance(cause, (ClientError, BotoCoreError)) else error


def _find_bucket_region(error: BaseException) -> str:
    """Return the bucket's region, which S3 reports when it rejects a call to another region; "" if it does not."""
    response: Any = error.response if isinstance(error, ClientError) else {}
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")


def explain_aws_error(action: str, error: BaseException) -> CloudError:
    """Return a CloudError that explains `error` to the user; `action`: what the program was doing."""
    cause = _find_cause(error)
    problem = get_error_message(cause) or "no reason given"
    return CloudError(problem, find_remedy(cause), action=action, code=get_error_code(cause))


@contextmanager
def translate_aws_errors(action: str) -> Iterator[None]:
    """Turn AWS errors inside the block into a CloudError; `action`: what the program is doing."""
    try:
        yield
    except AWSError as error:
        raise explain_aws_error(action, error) from error


# S3's codes for a bucket in another region. The response to HEAD contains only the HTTP status.
_OTHER_REGION_CODES = {
    "301", "307", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect",
    "TemporaryRedirect",
}  # fmt: skip
_CLOCK_CODES = {"RequestInTheFuture", "RequestTimeTooSkewed"}
# Most services report a wrong clock as a wrong signature; only the message tells the two apart.
_SIGNATURE_CODES = {"InvalidSignatureException", "SignatureDoesNotMatch"}
_CLOCK_PHRASES = ("Signature expired", "Signature not yet current")
_UNSTABLE_LOGIN_CODES = {"CredentialRetrievalError"}  # the program that provides credentials may need the network
_LOGIN_ERROR_CODES = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "UnauthorizedSSOTokenError", "SSOTokenLoadError", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
    "UnrecognizedClientException", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException",
    "IncompleteSignature", "InvalidAccessKeyId", "RequestExpired", "InvalidToken", "TokenRefreshRequired",
    "MissingAuthenticationToken", "NoAuthTokenError", "SSOError", "LoginError", "RefreshWithMFAUnsupportedError",
    "ProfileNotFound",
} | _CLOCK_CODES  # fmt: skip
_FOREIGN_RESPONSE_CODES = {"ForeignResponseError", "ResponseParserError"}
_SETTINGS_ERROR_CODES = {
    "BaseEndpointResolverError", "ConfigNotFound", "ConfigParseError", "EndpointResolutionError",
    "InfiniteLoopConfigError", "InvalidConfigError", "InvalidProxiesConfigError", "InvalidRegionError", "OptInRequired",
    "ProfileNotFound", "ProxyConnectionError", "SSLError", "UnknownRegionError",
} | _OTHER_REGION_CODES  # fmt: skip
_PERMISSIONS_BY_CALL = {  # calls whose permission has a different name
    "HeadBucket": "s3:ListBucket", "HeadObject": "s3:GetObject", "ListObjectsV2": "s3:ListBucket",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration", "CreateMultipartUpload": "s3:PutObject",
}  # fmt: skip
_CALLS_BY_SERVICE = {  # to find a call's service if AWS does not name the permission
    "sts": ("GetCallerIdentity",), "kms": ("DescribeKey",), "servicequotas": ("GetServiceQuota",),
    "s3": ("GetBucketPolicy", "AbortMultipartUpload", "GetObject", "PutObject"),
    "iam": ("GetRole", "GetRolePolicy", "GetInstanceProfile", "SimulatePrincipalPolicy"),
    "sqs": ("GetQueueUrl", "GetQueueAttributes", "ListQueueTags"),
    "ecs": ("DescribeClusters", "DescribeServices", "ListContainerInstances", "DescribeContainerInstances",
            "ListTasks", "DescribeTasks"),
    "ecr": ("BatchGetImage", "GetDownloadUrlForLayer"),
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
    """Return whether AWS rejects the caller's credentials or clock, so that no call can succeed."""
    return not _LOGIN_ERROR_CODES.isdisjoint(_list_codes(error))


def is_settings_error(error: BaseException) -> bool:
    """Return whether the call fails until the user changes a setting: of TLS, a proxy, the profile, or the region."""
    return not _SETTINGS_ERROR_CODES.isdisjoint(_list_codes(_find_cause(error)))


def is_foreign_response(error: BaseException) -> bool:
    """Return whether something other than AWS answered. This often passes, such as after a login to the network."""
    return not _FOREIGN_RESPONSE_CODES.isdisjoint(_list_codes(error))


def _list_codes(error: BaseException) -> list[str]:
    """Return AWS's error code; if there was no response, the names of the exception's class and its bases."""
    return [get_error_code(error)] if isinstance(error, ClientError) else [cls.__name__ for cls in type(error).__mro__]


def is_clock_error(error: BaseException) -> bool:
    """Return whether AWS rejected the request because this computer's clock is wrong."""
    code, message = get_error_code(error), get_error_message(error)
    return code in _CLOCK_CODES or (code in _SIGNATURE_CODES and message.startswith(_CLOCK_PHRASES))


def needs_new_login(error: BaseException) -> bool:
    """Return whether only the user can help, by logging in again; a wrong clock is often right soon after a sleep."""
    is_unstable = get_error_code(error) in _UNSTABLE_LOGIN_CODES
    return is_login_error(error) and not is_clock_error(error) and not is_unstable


def format_lookup_error(error: BaseException) -> str:
    """Return why a lookup failed: the missing permission, or AWS's code and message."""
    permission = find_missing_permission(error)
    if permission:
        return f"needs {permission}"
    return format_one_line(f"{get_error_code(error)}: {get_error_message(error)}")


def explain_lookup_error(error: BaseException) -> str:
    """Return why a lookup failed and, if no permission is missing, what to do."""
    reason = format_lookup_error(error)
    return reason if find_missing_permission(error) else f"{reason} — {find_remedy(error)}"
