"""Documents that say which jobs are done, for jobs whose output location cannot show it.

Such a job shares its location with other jobs, or its files cannot be counted. The document is written after the
results are verified, and it outlives the run: later runs of the same app read it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.context import WorkerContext
from distributed_something.worker.hooks.delivery import Delivery, read_delivery
from distributed_something.worker.job.failures import is_access_denied, is_missing_object
from distributed_something.worker.job.job import Job
from distributed_something.worker.job.run_keys import AppKeys
from distributed_something.worker.machine.times import build_utc_timestamp
from distributed_something.worker.transfer.results import ResultFile
from distributed_something.worker.transfer.s3_file import MAX_PARALLEL_REQUESTS
from distributed_something.worker.transfer.stored_result import read_stored_result

MAX_CHECKED_RESULTS = 50  # result files that are looked up before a job counts as done


@dataclass(frozen=True)
class DoneDocument:
    """The results of a job, the run that produced them, and when they were verified (a UTC timestamp).

    `delivered`: the files that the hook `deliver` sent elsewhere. `endpoint`: the S3 server of the results ("": AWS).
    """

    run: str
    time: str
    results: list[ResultFile]
    delivered: list[Delivery] = field(default_factory=list)
    endpoint: str = ""


def write_done_document(context: WorkerContext, attempt: Attempt) -> None:
    """Write the document for the attempt, whose results must already be verified."""
    settings = context.settings
    document = {
        "job": attempt.name,
        "run": settings.run,
        "time": build_utc_timestamp(context.clock.now()),
        "results": [output.build_record_entry() for output in attempt.outputs],
        "delivered": [file.build_record_entry() for file in attempt.delivered],
        "output_endpoint": attempt.job.output_endpoint if attempt.job else "",
    }
    context.s3.put_object(
        Bucket=settings.aws_bucket,
        Key=AppKeys(settings.app_name).done(attempt.name),
        Body=json.dumps(document, indent=1).encode(),
        ContentType="application/json",
    )


def read_done_document(context: WorkerContext, job: str) -> DoneDocument | None:
    """Return the job's document, or None if it does not exist or no worker wrote it."""
    settings = context.settings
    try:
        response = context.s3.get_object(Bucket=settings.aws_bucket, Key=AppKeys(settings.app_name).done(job))
        content: Any = json.loads(response["Body"].read())
        results = [
            ResultFile(
                str(entry["bucket"]),
                str(entry["key"]),
                int(entry["size"]),
                str(entry["checksum_sha256"]),
                checksum_crc32=str(entry.get("checksum_crc32", "")),
            )
            for entry in content["results"]
        ]
        delivered = [read_delivery(entry) for entry in content.get("delivered", ())]
        endpoint = str(content.get("output_endpoint", ""))
        return DoneDocument(str(content["run"]), str(content["time"]), results, delivered, endpoint)
    except ClientError as error:
        if is_missing_object(error):
            return None
        raise
    except (ValueError, LookupError, TypeError):
        return None


def do_results_exist(context: WorkerContext, job: Job, results: list[ResultFile]) -> bool:
    """Return whether the result files are still in S3 and still this job's. At most MAX_CHECKED_RESULTS are looked up.

    A file that may not be read counts as existing.
    """
    step = -(-len(results) // MAX_CHECKED_RESULTS) or 1
    with ThreadPoolExecutor(MAX_PARALLEL_REQUESTS) as pool:
        return all(pool.map(lambda result: _does_result_exist(context, job, result), results[::step]))


def _does_result_exist(context: WorkerContext, job: Job, result: ResultFile) -> bool:
    try:
        s3 = context.get_s3(job.output_endpoint)
        stored = read_stored_result(s3, result.bucket, result.key, job.upload_arguments)
    except ClientError as error:
        if is_access_denied(error):
            return True
        raise
    if stored is None:
        return False
    if job.may_replace:
        return stored.size >= context.settings.min_file_size_bytes  # another job may have replaced the file
    if stored.size != result.size:
        return False
    if stored.checksum_sha256 is not None:
        return stored.checksum_sha256 == result.checksum_sha256
    if stored.checksum_crc32 and result.checksum_crc32:  # of a file that was uploaded in parts
        return stored.checksum_crc32 == result.checksum_crc32
    return stored.owner is None or stored.owner.job == job.id
