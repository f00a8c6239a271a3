"""A run that has cost what it may: the monitor writes so, and workers begin no job any more."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError


def key_of(app_name: str, run: str) -> str:
    """Where the monitor's word lies in the app's bucket."""
    return f"runs/{app_name}/{run}/closed.json"


def is_closed(s3: Any, bucket: str, key: str) -> bool:
    """Whether it is there. Raises AWS's errors."""
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
            return False
        raise
    return True
