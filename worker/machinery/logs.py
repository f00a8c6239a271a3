"""The container's own log: to standard output, and through watchtower to LOG_GROUP_NAME. Never a reason to fail."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .settings import Settings

SEND_SECONDS = 10


def begin(logs_client: Any, settings: Settings) -> None:
    """Sends what the worker logs to its places."""
    logger = logging.getLogger("worker")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(console)
    if settings.log_group_name:
        _add_cloudwatch(logger, logs_client, settings)


def _add_cloudwatch(logger: logging.Logger, logs_client: Any, settings: Settings) -> None:
    import watchtower

    try:
        logger.addHandler(
            watchtower.CloudWatchLogHandler(
                log_group_name=settings.log_group_name,
                log_stream_name=f"{settings.machine}-{os.getpid()}",
                boto3_client=logs_client,
                create_log_group=False,
                send_interval=SEND_SECONDS,
            )
        )
    except (ClientError, BotoCoreError) as error:
        logger.warning("no log in CloudWatch (%s): it goes to standard output only", error)
