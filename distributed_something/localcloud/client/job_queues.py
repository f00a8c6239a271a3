"""The job queues of a local cloud and the jobs in them, which `stop` loses.

Queues are in memory. Dead-letter queues do not count: their jobs have failed, and the bucket contains their records.
After cleanup has deleted the job queue, nothing refers to a dead-letter queue. But `setup` tags both queues, and only
the job queue gets a dead-letter queue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from distributed_something.localcloud.base.errors import LocalCloudError

WAITING_ATTRIBUTES = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
RUNNING_ATTRIBUTE = "ApproximateNumberOfMessagesNotVisible"
APP_TAG = "app"  # of queues that `setup` created
MAX_DESCRIBED_SERVICES = 10  # ECS limit for one DescribeServices call


@dataclass(frozen=True)
class QueueRun:
    """A run whose workers take the jobs of a queue: its name, its app, and the bucket with its documents."""

    name: str
    app: str
    bucket: str


@dataclass(frozen=True)
class JobQueue:
    """A queue: how many jobs wait in it, how many a worker has leased, and the run that takes its jobs (None: none)."""

    name: str
    waiting: int
    running: int
    run: QueueRun | None

    @property
    def jobs(self) -> int:
        return self.waiting + self.running


def list_job_queues(build_client: Callable[..., Any], regions: Iterable[str]) -> list[JobQueue]:
    """Return the queues in all `regions`, except dead-letter queues. Raise LocalCloudError if an emulator fails.

    `build_client` takes `service` and `region`.
    """
    try:
        return [queue for region in regions for queue in _iter_region_queues(partial(build_client, region=region))]
    except (BotoCoreError, ClientError) as error:
        raise LocalCloudError(f"the emulated AWS does not respond: {error}") from error


def _iter_region_queues(build_client: Callable[..., Any]) -> Iterator[JobQueue]:
    sqs = build_client(service="sqs")
    pages = sqs.get_paginator("list_queues").paginate()
    urls = [url for page in pages for url in page.get("QueueUrls", [])]
    attributes = {url: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in urls}
    dead_letter_arns = {
        json.loads(values["RedrivePolicy"])["deadLetterTargetArn"]
        for values in attributes.values()
        if "RedrivePolicy" in values
    }
    runs = _find_runs(build_client(service="ecs")) if urls else {}
    for url, values in attributes.items():
        if values["QueueArn"] not in dead_letter_arns and ("RedrivePolicy" in values or not _has_app_tag(sqs, url)):
            waiting = sum(int(values.get(name, 0)) for name in WAITING_ATTRIBUTES)
            yield JobQueue(url.rsplit("/", 1)[-1], waiting, int(values.get(RUNNING_ATTRIBUTE, 0)), runs.get(url))


def _has_app_tag(sqs: Any, url: str) -> bool:
    return APP_TAG in sqs.list_queue_tags(QueueUrl=url).get("Tags", {})


def _find_runs(ecs: Any) -> dict[str, QueueRun]:
    """Return the runs, keyed by the address of the queue from which their workers take jobs."""
    runs = {}
    for service in _iter_services(ecs):
        definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        for container in definition["containerDefinitions"]:
            variables = {pair["name"]: pair["value"] for pair in container.get("environment", [])}
            if "SQS_QUEUE_URL" in variables and "RUN" in variables:
                place = variables.get("APP_NAME", ""), variables.get("AWS_BUCKET", "")
                runs[variables["SQS_QUEUE_URL"]] = QueueRun(variables["RUN"], *place)
    return runs


def _iter_services(ecs: Any) -> Iterator[dict[str, Any]]:
    """Yield the description of each active service in all clusters."""
    for cluster in ecs.list_clusters()["clusterArns"]:
        arns = ecs.list_services(cluster=cluster)["serviceArns"]
        for start in range(0, len(arns), MAX_DESCRIBED_SERVICES):
            described = ecs.describe_services(cluster=cluster, services=arns[start : start + MAX_DESCRIBED_SERVICES])
            yield from (service for service in described["services"] if service["status"] == "ACTIVE")
