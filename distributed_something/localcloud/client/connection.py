"""boto3 clients for the local cloud that ignore the user's AWS settings: profiles, files, proxies, and CA bundle."""

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
    "ca_bundle": (None, None, None, None),
}


def build_client(state: CloudState, region: str, service: str, *, connections: int = 10) -> Any:
    """Return a boto3 client for one service that `connections` threads can use at the same time."""
    session: Any = boto3.Session(botocore_session=botocore.session.Session(session_vars=IGNORED_SETTINGS))
    is_ministack = ENDPOINT_NAMES.get(service, service.upper()) in MINISTACK_SERVICES
    return session.client(
        service,
        region_name=region,
        endpoint_url=state.ministack if is_ministack else state.moto,
        aws_access_key_id=OWN_ACCESS_KEY,
        aws_secret_access_key=DUMMY_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(
            proxies={},
            max_pool_connections=connections,
            retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        ),
    )
