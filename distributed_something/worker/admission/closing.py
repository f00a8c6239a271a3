"""Checks whether the monitor has closed the run because of MAX_COST. Workers then start no more jobs."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import is_missing_object
from distributed_something.worker.job.run_keys import RunKeys


def is_run_closed(s3: Any, bucket: str, keys: RunKeys) -> bool:
    """Return whether the monitor has closed the run. AWS errors are not caught."""
    try:
        s3.head_object(Bucket=bucket, Key=keys.closed)
    except ClientError as error:
        if is_missing_object(error):
            return False
        raise
    return True
