"""Reads a job's record from S3."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import is_missing_object


def read_stored_record(s3: Any, bucket: str, key: str) -> tuple[dict[str, Any] | None, str | None]:
    """Return the record and its ETag. The record is None if it does not exist or is not a JSON object.

    Other AWS errors are not caught.
    """
    try:
        response = s3.get_object(Bucket=bucket, Key=key)
        body = response["Body"].read()
    except ClientError as error:
        if is_missing_object(error):
            return None, None
        raise
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        record = None  # workers write only complete records, so no worker wrote this
    return record if isinstance(record, dict) else None, response.get("ETag")
