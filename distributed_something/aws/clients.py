"""The AWS clients that a command uses. Each client is created when it is first used.

Only `run.py` creates a session. botocore itself retries throttled and failed calls.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from distributed_something.worker import (
    EndpointCredentials,
    build_endpoint_arguments,
    reject_foreign_responses,
    reject_truncated_responses,
)

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient


# With a round trip of 30 ms, more threads do not send faster (measured: 4,500 messages/s).
SENDER_THREADS = 16
# Without paging, EC2 calls that return many instances or volumes time out. This is EC2's largest page size.
EC2_PAGINATION: Any = {"PageSize": 1000}
_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 6},
    max_pool_connections=SENDER_THREADS + 4,
    connect_timeout=10,
    read_timeout=60,
)
# submitJob sends up to a million jobs, ten a call. The tests validate the requests (tests/support/fakes.py).
_SQS_CLIENT_CONFIG = _CLIENT_CONFIG.merge(
    Config(
        user_agent="distributed-something",  # building botocore's default takes a twentieth of a call's time
        parameter_validation=False,  # saves a tenth of a call's time
    )
)
_IMPATIENT_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=SENDER_THREADS + 4,
    connect_timeout=2,
    read_timeout=5,
)


class Clients:
    """One client for each AWS service, all from the same session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        reject_truncated_responses(session)
        reject_foreign_responses(session)

    def credentials(self) -> dict[str, str]:
        """Return the session's credentials as environment variables for a child process; empty if it has none.

        The credentials are never stored.
        """
        credentials = self._session.get_credentials()
        if credentials is None:
            return {}
        frozen = credentials.get_frozen_credentials()
        variables = {
            "AWS_ACCESS_KEY_ID": frozen.access_key,
            "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
            "AWS_SESSION_TOKEN": frozen.token,
        }
        return {name: value for name, value in variables.items() if value}

    @cached_property
    def sqs(self) -> SQSClient:
        return self._session.client("sqs", config=_SQS_CLIENT_CONFIG)

    @cached_property
    def ecs(self) -> ECSClient:
        return self._session.client("ecs", config=_CLIENT_CONFIG)

    @cached_property
    def ec2(self) -> EC2Client:
        return self._session.client("ec2", config=_CLIENT_CONFIG)

    @cached_property
    def s3(self) -> S3Client:
        return self._session.client("s3", config=_CLIENT_CONFIG)

    @cached_property
    def impatient_s3(self) -> S3Client:
        """A client that gives up at once, for requests that only lead to a hint."""
        return self._session.client("s3", config=_IMPATIENT_CLIENT_CONFIG)

    def create_impatient_endpoint_s3(self, endpoint: str, credentials: EndpointCredentials) -> S3Client:
        """Return a client like `impatient_s3` for a server other than AWS's."""
        arguments = build_endpoint_arguments(endpoint, credentials, _IMPATIENT_CLIENT_CONFIG)
        client: S3Client = self._session.client("s3", **arguments)
        return client

    @cached_property
    def sns(self) -> Any:
        return self._session.client("sns", config=_CLIENT_CONFIG)

    @cached_property
    def impatient_sns(self) -> Any:
        """A client that gives up at once, for notifications, which must not delay a run."""
        return self._session.client("sns", config=_IMPATIENT_CLIENT_CONFIG)

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        return self._session.client("logs", config=_CLIENT_CONFIG)

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        return self._session.client("cloudwatch", config=_CLIENT_CONFIG)

    @cached_property
    def iam(self) -> IAMClient:
        return self._session.client("iam", config=_CLIENT_CONFIG)

    @cached_property
    def kms(self) -> Any:
        return self._session.client("kms", config=_CLIENT_CONFIG)

    @cached_property
    def sts(self) -> STSClient:
        return self._session.client("sts", config=_CLIENT_CONFIG)

    @cached_property
    def ecr(self) -> Any:
        return self._session.client("ecr", config=_CLIENT_CONFIG)

    @cached_property
    def service_quotas(self) -> Any:
        return self._session.client("service-quotas", config=_CLIENT_CONFIG)

    @cached_property
    def ssm(self) -> SSMClient:
        return self._session.client("ssm", config=_CLIENT_CONFIG)

    @cached_property
    def lambda_(self) -> Any:
        return self._session.client("lambda", config=_CLIENT_CONFIG)

    @cached_property
    def events(self) -> Any:
        return self._session.client("events", config=_CLIENT_CONFIG)
