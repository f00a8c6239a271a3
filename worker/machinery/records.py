"""The record of a job: one JSON object in S3 with its log beside it. Everything shown later comes from records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from .settings import Settings

DONE, FAILED = "done", "failed"


def key_of(settings: Settings, job: str) -> str:
    """Where the record of the job lies in the app's bucket."""
    return f"{settings.records}{job}.json"


def log_key_of(settings: Settings, job: str) -> str:
    """Where the job's own log lies in the app's bucket."""
    return f"{settings.records}{job}.log.txt"


def read(s3: Any, settings: Settings, job: str) -> dict[str, Any] | None:
    """The record that is there; None without one."""
    try:
        body = s3.get_object(Bucket=settings.aws_bucket, Key=key_of(settings, job))["Body"].read()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
            return None
        raise
    record = json.loads(body)
    return record if isinstance(record, dict) else None


def is_done(record: dict[str, Any] | None) -> bool:
    """Whether the record says that the job's outputs are in S3."""
    return record is not None and record.get("state") == DONE


def write(s3: Any, settings: Settings, record: dict[str, Any], log: Path | None) -> None:
    """Writes log and record. A failed attempt never overwrites the record of one that is done."""
    job = record["job"]
    if record["state"] != DONE and is_done(read(s3, settings, job)):
        return
    if log is not None and log.exists():
        with log.open("rb") as body:
            s3.put_object(
                Bucket=settings.aws_bucket, Key=log_key_of(settings, job), Body=body, ContentType="text/plain"
            )
    body_text = json.dumps(record, indent=1).encode()
    s3.put_object(Bucket=settings.aws_bucket, Key=key_of(settings, job), Body=body_text, ContentType="application/json")
