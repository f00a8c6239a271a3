"""boto3 sessions and clients for the local cloud that ignore the user's AWS settings: profiles, files, and proxies.

They change nothing in the environment, so later code in the same process can still reach AWS.
"""

from __future__ import annotations

import os
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from distributed_something.localcloud.base.endpoints import DUMMY_CREDENTIALS, MINISTACK_SERVICES, OWN_ACCESS_KEY
from distributed_something.localcloud.base.layout import CloudState

MAX_ATTEMPTS = 8
"""Attempts per request, including the first. The export sends two requests per object. With LOCALCLOUD_FAULT_RATE=0.1,
about one in 100,000 exports with 1,000 requests fails (1,000 × 0.1 ** 8). With 4 attempts, one export in ten would
fail."""

ENDPOINT_NAMES = {"logs": "CLOUDWATCH_LOGS"}
"""Botocore's names in endpoint variables, for services where they differ from boto3's names."""

IGNORED_SETTINGS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
    "use_fips_endpoint": (None, None, False, None),
    "use_dualstack_endpoint": (None, None, False, None),
}


class LocalSession(boto3.Session):
    """A session whose clients use the local cloud, except a client that is given another server's endpoint."""

    def __init__(
        self, state: CloudState, region: str, access_key: str = DUMMY_CREDENTIALS["AWS_ACCESS_KEY_ID"]
    ) -> None:
        super().__init__(
            aws_access_key_id=access_key,
            aws_secret_access_key=DUMMY_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=region,
            botocore_session=botocore.session.Session(session_vars=IGNORED_SETTINGS),
        )
        self._state = state

    def client(self, service_name: Any, **arguments: Any) -> Any:  # type: ignore[override]  # boto3-stubs: one per service
        if arguments.get("endpoint_url") is None:
            config = arguments.get("config") or Config()
            arguments |= {"endpoint_url": self._find_endpoint(service_name), "config": config.merge(Config(proxies={}))}
        return super().client(service_name, **arguments)

    def _find_endpoint(self, service: str) -> str:
        is_ministack = ENDPOINT_NAMES.get(service, service.upper()) in MINISTACK_SERVICES
        return self._state.ministack if is_ministack else self._state.moto


def build_client(state: CloudState, region: str, service: str, *, connections: int = 10) -> Any:
    """Return a boto3 client for one service that `connections` threads can use at the same time."""
    retries: Any = {"mode": "standard", "total_max_attempts": MAX_ATTEMPTS}
    config = Config(max_pool_connections=connections, retries=retries)
    return LocalSession(state, region, OWN_ACCESS_KEY).client(service, config=config)
