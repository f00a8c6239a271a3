"""A run that has cost what it may: the monitor writes so, and workers begin no job any more."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import is_missing_object
from distributed_something.worker.job.run_keys import RunKeys


def is_run_closed(s3: Any, bucket: str, keys: RunKeys) -> bool:
    """Whether the monitor has closed the run. Raises AWS's errors."""
    try:
        s3.head_object(Bucket=bucket, Key=keys.closed)
    except ClientError as error:
        if is_missing_object(error):
            return False
        raise
    return True
