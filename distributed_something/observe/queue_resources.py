"""Lists the queues of one app or of all apps, like `resources.py`, which lists the other kinds of resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from distributed_something.aws.retry import none_if_missing
from distributed_something.aws.sqs import MISSING_QUEUE_CODES, find_queue, list_source_queues, parse_queue_name
from distributed_something.core.names import SHARED_APP, AppNames
from distributed_something.core.text import format_count
from distributed_something.observe.queue import observe_queue_at
from distributed_something.observe.resources import Resource, ResourceKind, ResourceState, choose_ownership_state

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


def iter_named_queue(sqs: SQSClient, app: str, name: str) -> Iterator[Resource]:
    """Yield the queue with exactly this name, whatever its tags."""
    url = find_queue(sqs, name)
    if url is not None:
        yield from _iter_queue(sqs, url, {"app": app}, ResourceState.REMAINING)


def iter_tagged_queues(sqs: SQSClient) -> Iterator[Resource]:
    """Yield all queues with an `app` tag. Makes three calls per queue.

    A dead-letter queue is KEPT if it belongs to no single app, or if another app's queue uses it.
    """
    pages = sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 1000})
    urls = [url for page in pages for url in page.get("QueueUrls", [])]
    responses = {url: none_if_missing(partial(sqs.list_queue_tags, QueueUrl=url), *MISSING_QUEUE_CODES) for url in urls}
    tags_by_url = {url: response.get("Tags", {}) for url, response in responses.items() if response is not None}
    owners = {parse_queue_name(url): tags.get("app", "") for url, tags in tags_by_url.items()}
    for url, tags in tags_by_url.items():
        if "app" in tags:
            for queue in _iter_queue(sqs, url, tags, _choose_queue_state(tags, url)):
                yield _mark_shared_queue(sqs, queue, owners)


def _iter_queue(sqs: SQSClient, url: str, tags: Mapping[str, str], state: ResourceState) -> Iterator[Resource]:
    queue = observe_queue_at(sqs, url)
    if queue is None:
        return
    jobs, is_job_queue = queue.counts.jobs, bool(queue.dead_letter_queue)
    if jobs and not is_job_queue and state is ResourceState.REMAINING:
        state = ResourceState.KEPT  # a dead-letter queue: cleanup keeps failed jobs
    note = f"holds {format_count(jobs, 'job' if is_job_queue else 'failed job')}" if jobs else "empty"
    yield Resource(ResourceKind.QUEUE, queue.name, tags["app"], tags.get("run", ""), note, state, id=url)


def _mark_shared_queue(sqs: SQSClient, queue: Resource, owners: Mapping[str, str]) -> Resource:
    """Return the queue as KEPT if others use it as their dead-letter queue, else unchanged.

    `owners`: the tag `app` ("" if missing) of every queue, keyed by the queue's name. The queue's own app is left out
    unless the queue's name proves the origin, because the tag alone does not.
    """
    urls = none_if_missing(partial(list_source_queues, sqs, queue.id), *MISSING_QUEUE_CODES) or []
    users = {owners.get(parse_queue_name(url), queue.app) for url in urls}  # SQS may still list a deleted queue
    is_shared = queue.app == SHARED_APP
    if not is_shared and users <= {queue.app}:
        return queue
    note = "several apps share it" if is_shared else "other queues use it"
    app = "" if is_shared or queue.state is ResourceState.UNKNOWN else queue.app
    return replace(queue, app=app, note=note, state=ResourceState.KEPT)


def _choose_queue_state(tags: Mapping[str, str], url: str) -> ResourceState:
    names = AppNames(tags["app"])
    own_names = (names.default_queue, names.default_dead_letter_queue)
    return choose_ownership_state(tags, parse_queue_name(url), *own_names)
