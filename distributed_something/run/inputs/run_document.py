"""The document `run.json`: what a run was started with.

`startCluster` writes it after the machines are requested, and `submitJob` and `retry` add the jobs that they send
during the run. A run works without it, so no error here ends a command.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.s3 import read_s3_time
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import (
    AWSError,
    UserFacingError,
    format_lookup_error,
    get_error_code,
    is_missing_object,
)
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.core.submission import SubmissionDocument
from distributed_something.observe.documents.submissions import list_queue_submissions
from distributed_something.observe.queue import observe_queue
from distributed_something.worker import VERSION, AppKeys, RunKeys, mask_secrets

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_SUBMISSIONS = 1000  # that the document lists; the newest ones
_UPDATE_ATTEMPTS = 5  # of two commands that add jobs at the same time
_CHANGED_CODES = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


@dataclass(frozen=True)
class RunFiles:
    """The files and code that a run starts with. `git_commit`: of the project's folder, or None.

    `find_image_digest`: returns the digest that the image's name stands for now, or None if that cannot be looked up.
    """

    config: Path
    fleet_file: Path
    git_commit: str | None
    find_image_digest: Callable[[], str | None] = lambda: None


def record_run_inputs(
    clients: Clients, settings: Settings, run: MonitorFile, files: RunFiles, now: float
) -> str | None:
    """Write the run's document. Return None, or the reason if it cannot be written."""
    try:
        document = build_run_document(settings, run, files)
        document["owner"], document["user"] = _identify_user(clients, settings)
        document["job_files"] = _list_job_files(clients, settings, now)
        key = run.keys.run_document
        clients.s3.put_object(
            Bucket=run.MONITOR_BUCKET_NAME, Key=key, Body=_encode(document), ContentType="application/json"
        )
    except AWSError as error:
        return format_lookup_error(error)
    except Exception as error:  # even a bug must not end startCluster here: its machines run; it prints the reason
        return str(error) or type(error).__name__
    return None


def record_submissions(clients: Clients, settings: Settings, run: str, now: float) -> None:
    """Add the jobs that were sent during a run to its document. Nothing happens if it has none, or if AWS refuses."""
    key = RunKeys(settings.APP_NAME, run).run_document
    try:
        for _ in range(_UPDATE_ATTEMPTS):
            if _update_job_files(clients, settings, key, now):
                return
    except (*AWSError, UserFacingError, ValueError):  # the jobs were sent; their submission's document has the same
        return


def build_run_document(settings: Settings, run: MonitorFile, files: RunFiles) -> dict[str, Any]:
    """Return the part of the document that needs no AWS. `config` has all values, also those that are defaults."""
    started = datetime.fromtimestamp(run.MONITOR_START_TIME / 1000, UTC).isoformat(timespec="seconds")
    values = settings.model_dump(mode="json", exclude={"own", "dead_letter_account"}) | settings.own
    return {
        "app": run.MONITOR_APP_NAME,
        "run": run.run,
        "started": started.replace("+00:00", "Z"),
        "git_commit": files.git_commit,
        "versions": {
            "distributed_something": VERSION, "boto3": boto3.__version__, "python": platform.python_version(),
        },
        "image": {"name": settings.DOCKERHUB_TAG, "digest": files.find_image_digest()},
        "config": _describe_file(files.config) | {"values": mask_secrets(values)},
        "fleet_file": _describe_file(files.fleet_file) | {"values": mask_secrets(_read_json(files.fleet_file))},
    }  # fmt: skip


def _describe_file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes().decode("utf-8-sig"))


def _identify_user(clients: Clients, settings: Settings) -> tuple[str, str | None]:
    """Return the owner, as in the tags of the run's resources, and the ARN of the user; None if that is unknown."""
    try:
        arn = clients.sts.get_caller_identity()["Arn"]
    except AWSError:
        return settings.OWNER, None
    return settings.OWNER or arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1], arn


def _list_job_files(clients: Clients, settings: Settings, now: float) -> list[dict[str, Any]]:
    """Return the submissions whose jobs may be in the queue, or were: those since the queue was created or emptied."""
    queue = observe_queue(clients.sqs, settings.SQS_QUEUE_NAME)
    if queue is None:
        return []
    s3, bucket = clients.s3, settings.AWS_BUCKET
    submissions = list_queue_submissions(s3, bucket, settings.APP_NAME, queue, read_s3_time(s3, bucket, now))
    first = max((number for number, document in enumerate(submissions) if document.replaced), default=0)
    keys = AppKeys(settings.APP_NAME)
    return [_describe_submission(keys, document) for document in submissions[first:][-MAX_SUBMISSIONS:]]


def _describe_submission(keys: AppKeys, document: SubmissionDocument) -> dict[str, Any]:
    files = {path: {"sha256": digest, "key": keys.input_file(digest, path)} for path, digest in document.files.items()}
    return {
        "path": document.job_file_path,
        "files": files,
        "jobs": document.sent,
        "submission": keys.submission(document.time),
        "git_commit": document.git_commit,
        "retry_of": document.retry_of,
    }


def _update_job_files(clients: Clients, settings: Settings, key: str, now: float) -> bool:
    """Write the document with the current list. Return False if another command has changed it meanwhile."""
    bucket = settings.AWS_BUCKET
    found = _find_document(clients.s3, bucket, key)
    if found is None:
        return True
    document, etag = found
    document["job_files"] = _list_job_files(clients, settings, now)
    try:
        clients.s3.put_object(
            Bucket=bucket, Key=key, Body=_encode(document), ContentType="application/json", IfMatch=etag
        )
    except ClientError as error:
        if get_error_code(error) in _CHANGED_CODES:
            return False
        raise
    return True


def _find_document(s3: S3Client, bucket: str, key: str) -> tuple[dict[str, Any], str] | None:
    try:
        response = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_missing_object(error):
            return None
        raise
    return json.loads(response["Body"].read()), response["ETag"]


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode(errors="backslashreplace")
