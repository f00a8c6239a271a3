"""The worker's AWS clients, created on demand, because the few CloudWatch calls do not need a permanent client."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.handlers import add_expect_header
from botocore.utils import parse_timestamp

from distributed_something.worker.responses.foreign_response import reject_foreign_responses
from distributed_something.worker.responses.response_length import reject_truncated_responses
from distributed_something.worker.transfer.crt.transfers import CrtTransfers, build_transfers
from distributed_something.worker.transfer.endpoints.clients import build_endpoint_arguments
from distributed_something.worker.transfer.endpoints.credentials import EndpointCredentials
from distributed_something.worker.transfer.retry import watch_requests
from distributed_something.worker.transfer.s3_file import MAX_PARALLEL_REQUESTS

CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 5.0, 20.0
MAX_TRANSFERS_PER_SLOT = 2 * MAX_PARALLEL_REQUESTS  # one job's inputs are fetched while another's results are sent
# A call that extends a lease times out after a sixth of the lease's duration. The first call starts after a third, so
# two hung calls still leave time for another one.
LEASE_DIVISOR = 6
_UNSIGNED_BODY = Config(s3={"payload_signing_enabled": False})


class Clients:
    """A factory for AWS clients. botocore retries temporary errors up to eight times, with growing pauses.

    The `logs` client retries fewer times and times out earlier: a log is not worth a long wait, especially when the
    container is ending.
    """

    def __init__(self, slots: int, region: str) -> None:
        self._config = Config(
            retries={"mode": "standard", "max_attempts": 8},
            max_pool_connections=MAX_TRANSFERS_PER_SLOT * slots + 10,
            user_agent="distributed-something-worker",  # building botocore's default takes 5% of each call's time
            parameter_validation=False,  # saves a tenth of a call's time; tests validate the requests
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
        )
        self._logs_config = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=10)
        session = botocore.session.get_session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_aws_time)
        self._botocore_session = session
        self._session = boto3.Session(botocore_session=session, region_name=region or None)
        reject_truncated_responses(self._session)
        reject_foreign_responses(self._session)

    def __call__(self, service: str, timeout: float = READ_TIMEOUT_SECONDS) -> Any:
        """Return a new client for `service`. A call without a response after `timeout` seconds is retried."""
        config = self._logs_config if service == "logs" else self._config
        if timeout < READ_TIMEOUT_SECONDS:
            config = config.merge(Config(connect_timeout=min(CONNECT_TIMEOUT_SECONDS, timeout), read_timeout=timeout))
        client = self._session.client(service, config=config)  # type: ignore[call-overload]
        if service == "s3":
            _disable_expect_header(client)
            _omit_body_signatures(client)
            watch_requests(client)
        return client

    def create_endpoint_client(self, endpoint: str, credentials: EndpointCredentials) -> Any:
        """Return an S3 client for a server other than AWS's."""
        client = self._session.client("s3", **build_endpoint_arguments(endpoint, credentials, self._config))
        _disable_expect_header(client)
        watch_requests(client)
        return client

    def create_transfers(self, s3: Any) -> CrtTransfers | None:
        """Return the transfers through awscrt for the places to which `s3` sends its requests, if it is installed."""
        return build_transfers(s3, self._botocore_session)

    def create_lease_client(self, visibility_seconds: float) -> Any:
        """Return an SQS client whose calls time out early enough for another call to extend the lease in time."""
        return self("sqs", timeout=max(1.0, visibility_seconds / LEASE_DIVISOR))


def _disable_expect_header(s3: Any) -> None:
    """Send uploads without `Expect: 100-continue`, which would cost small files a second round trip."""
    s3.meta.events.unregister("before-call.s3", add_expect_header)


def _omit_body_signatures(s3: Any) -> None:
    """Do not sign the SHA-256 of a body whose checksum is a header, which is signed: each byte would be read once more.

    botocore does this by itself only if it has computed the checksum, and only with TLS. Without TLS, there are only
    emulators of AWS, and local ones. Clients of other servers keep their signatures.
    """
    unsigned = s3.meta.config.merge(_UNSIGNED_BODY)

    def omit_signature(request: Any, **_: Any) -> None:
        if any(name.lower().startswith("x-amz-checksum-") for name in request.headers):
            request.context["client_config"] = unsigned

    for operation in ("PutObject", "UploadPart"):
        s3.meta.events.register(f"before-sign.s3.{operation}", omit_signature)


def parse_aws_time(value: Any) -> datetime:
    """Return the time as botocore would, but faster: botocore takes 0.1 ms, and a listing page has 1,000 times."""
    with suppress(TypeError, ValueError):
        if (time := datetime.fromisoformat(value)).tzinfo:
            return time
    return parse_timestamp(value)
