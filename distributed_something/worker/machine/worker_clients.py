"""The worker's clients of AWS. Made when first asked for: a machine's few calls to EC2 need no client all day long."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.handlers import add_expect_header
from botocore.utils import parse_timestamp

from distributed_something.worker.transfer.s3_file import MAX_PARALLEL_REQUESTS

CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 5.0, 20.0  # a connection that says nothing for so long is given up
MAX_TRANSFERS_PER_SLOT = 2 * MAX_PARALLEL_REQUESTS  # a job is fetched while another is uploaded
LEASE_DIVISOR = 6  # of a lease, for one call that extends it: begun after a third, it can hang twice


class Clients:
    """Calls that fail for a passing reason are repeated by botocore, eight times, with growing pauses.

    Not so those of `logs`: a log is not worth waiting for, least of all at a container's end.
    """

    def __init__(self, slots: int, region: str) -> None:
        self._config = Config(
            retries={"mode": "standard", "max_attempts": 8},
            max_pool_connections=MAX_TRANSFERS_PER_SLOT * slots + 10,
            user_agent="distributed-something-worker",  # botocore's own is put together anew for each call: 5 % of it
            parameter_validation=False,  # a tenth of a call's time; the requests are tested against the model
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
        )
        self._brief = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=10)
        session = botocore.session.get_session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_aws_time)
        self._session = boto3.Session(botocore_session=session, region_name=region or None)

    def __call__(self, service: str, patience: float = READ_TIMEOUT_SECONDS) -> Any:
        """A new client of `service`. `patience`: seconds after which a call that hangs is made anew, if not later."""
        config = self._brief if service == "logs" else self._config
        if patience < READ_TIMEOUT_SECONDS:
            config = config.merge(Config(connect_timeout=min(CONNECT_TIMEOUT_SECONDS, patience), read_timeout=patience))
        client = self._session.client(service, config=config)  # type: ignore[call-overload]
        if service == "s3":
            _disable_expect_header(client)
        return client

    def create_lease_client(self, visibility_seconds: float) -> Any:
        """A client of SQS whose calls are given up early enough that another one can still extend the lease."""
        return self("sqs", patience=max(1.0, visibility_seconds / LEASE_DIVISOR))


def _disable_expect_header(s3: Any) -> None:
    """Uploads do not ask for leave first (`Expect: 100-continue`): for a small file that is a second round trip."""
    s3.meta.events.unregister("before-call.s3", add_expect_header)


def parse_aws_time(value: Any) -> datetime:
    """As botocore reads times, which takes 0.1 ms each: a page of a listing has a thousand."""
    with suppress(TypeError, ValueError):
        if (found := datetime.fromisoformat(value)).tzinfo:
            return found
    return parse_timestamp(value)
