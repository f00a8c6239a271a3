"""Each kind of failure to log in to AWS or to reach it has its own advice, chosen by code or exception class."""

from __future__ import annotations

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    InvalidRegionError,
    LoginRefreshRequired,
    NoCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

from distributed_something.core.errors import (
    explain_aws_error,
    fill_in_profile,
    find_remedy,
    is_clock_error,
    is_login_error,
    needs_new_login,
)
from tests.support.fakes import build_client_error

URL = "https://sqs.us-east-1.amazonaws.com"
WRONG_KEY = "The request signature we calculated does not match the signature you provided."
LATE = "Signature expired: 20261129T101500Z is now earlier than 20261129T102000Z (20261129T102500Z - 5 min.)"
EARLY = "Signature not yet current: 20261129T104500Z is still later than 20261129T102000Z (20261129T101500Z + 5 min.)"


def build_error(code: str, message: str = "test error", **response: object) -> ClientError:
    error = {"Code": code, "Message": message} | {key: value for key, value in response.items() if key == "Region"}
    metadata = {"HTTPHeaders": response.get("headers", {})}
    return ClientError({"Error": error, "ResponseMetadata": metadata}, "GetObject")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (UnauthorizedSSOTokenError(), "log in again: aws sso login --profile lab"),
        (SSOTokenLoadError(error_msg="no token"), "log in again: aws sso login --profile lab"),
        (TokenRetrievalError(provider="sso", error_msg="expired"), "log in again: aws sso login --profile lab"),
        (LoginRefreshRequired(), "log in again: aws login --profile lab"),
        (build_error("ExpiredToken"), "log in again (for SSO: aws sso login --profile lab)"),
        (build_error("RequestExpired"), "log in again (for SSO: aws sso login --profile lab); if that does not help"),
        (CredentialRetrievalError(provider="custom-process", error_msg="exit 1"), "log in again; the program or role"),
        (NoCredentialsError(), "log in to AWS and set AWS_PROFILE"),
        (ProfileNotFound(profile="lab"), "set AWS_PROFILE to a profile in ~/.aws/config"),
        (build_error("RequestTimeTooSkewed"), "set this computer's clock"),
        (build_error("SignatureDoesNotMatch", LATE), "set this computer's clock"),
        (build_error("InvalidSignatureException", EARLY), "set this computer's clock"),
        (build_error("SignatureDoesNotMatch", WRONG_KEY), "your secret access key does not belong to"),
        (build_error("AuthorizationHeaderMalformed", Region="eu-west-1"), "the bucket is in eu-west-1: set"),
        (build_error("301", headers={"x-amz-bucket-region": "eu-west-1"}), "the bucket is in eu-west-1: set"),
        (build_error("PermanentRedirect"), "the bucket is in another region than AWS_REGION"),
        (build_error("OptInRequired"), "enable the region for your account"),
        (InvalidRegionError(region_name="us east"), "correct AWS_REGION"),
        (SSLError(endpoint_url=URL, error="certificate verify failed"), "a proxy that inspects traffic needs its own"),
        (ProxyConnectionError(proxy_url="http://proxy:3128"), "the proxy does not answer"),
        (EndpointConnectionError(endpoint_url=URL), "check your network connection"),
        (ConnectTimeoutError(endpoint_url=URL), "check your network connection"),
        (ReadTimeoutError(endpoint_url=URL), "check your network connection"),
        (ResponseParserError("not XML"), "something other than AWS answered"),
        (build_error("ThrottlingException"), "AWS limits how often it can be called"),
        (build_error("SlowDown"), "AWS limits how often it can be called"),
        (build_error("503"), "AWS has a fault that passes"),
        (build_error("KMS.DisabledException"), "the key that encrypts the bucket cannot be used"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_each_failure_has_its_own_advice(error: Exception, advice: str) -> None:
    assert fill_in_profile(find_remedy(error), "lab").startswith(advice)
    assert fill_in_profile(str(explain_aws_error("looking", error)), "lab").count(advice) == 1


@pytest.mark.parametrize(("profile", "command"), [("", "aws sso login"), ("default", "aws sso login"),
                                                  ("my lab", "aws sso login --profile 'my lab'")])  # fmt: skip
def test_the_command_that_logs_in_names_the_profile(profile: str, command: str) -> None:
    assert fill_in_profile(find_remedy(UnauthorizedSSOTokenError()), profile) == f"log in again: {command}"


def test_a_failed_upload_has_the_advice_for_its_cause() -> None:
    try:
        try:
            raise build_error("ExpiredToken", "The provided token has expired.")
        except ClientError as cause:
            raise S3UploadFailedError(f"Failed to upload a to b: {cause}")  # noqa: B904  # as boto3 does
    except S3UploadFailedError as error:
        explained = explain_aws_error("uploading", error)
    assert (explained.code, explained.problem) == ("ExpiredToken", "The provided token has expired.")


@pytest.mark.parametrize(
    "error",
    [UnauthorizedSSOTokenError(), LoginRefreshRequired(), build_client_error("ExpiredTokenException")],
)
def test_an_expired_login_needs_a_new_login(error: Exception) -> None:
    assert is_login_error(error)
    assert needs_new_login(error)


@pytest.mark.parametrize(
    "error",
    [
        build_error("RequestTimeTooSkewed"), build_error("InvalidSignatureException", LATE),
        CredentialRetrievalError(provider="custom-process", error_msg="timeout"),
    ],
)  # fmt: skip
def test_a_clock_or_a_credentials_program_may_recover_without_a_new_login(error: Exception) -> None:
    assert is_login_error(error)
    assert not needs_new_login(error)


def test_a_wrong_key_is_not_a_wrong_clock() -> None:
    assert not is_clock_error(build_error("SignatureDoesNotMatch", WRONG_KEY))
    assert not is_clock_error(build_error("AccessDenied", LATE))
