"""Checks the job queue and the dead-letter queue."""

from __future__ import annotations

from collections.abc import Iterator

from distributed_something.core.text import format_count
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups, QueueFacts


def check_job_queues(lookups: Lookups) -> Iterator[Finding]:
    """Check that the queues exist, how many jobs they contain, and that failed jobs go to the dead-letter queue."""
    settings = lookups.settings
    machines = settings.CLUSTER_MACHINES
    yield from judge_job_queue(settings.SQS_QUEUE_NAME, lookups.job_queue.value, machines, settings.slots // machines)
    name = settings.SQS_DEAD_LETTER_QUEUE
    if lookups.job_queue.value and lookups.job_queue.value.dead_letter_queue != name:
        actual_name = lookups.job_queue.value.dead_letter_queue or "no dead-letter queue"
        yield build_warning_finding(
            "queue",
            f"failed jobs should go to {name}, but they go to {actual_name}",
            "run setup, which corrects it",
        )
    yield from judge_dead_letter_queue(name, lookups.dead_letter_queue.value, settings.APP_NAME)


def judge_job_queue(name: str, queue: QueueFacts | None, machines: int, slots: int) -> Iterator[Finding]:
    """Check that the queue exists and has enough jobs to keep every machine busy (`slots`: slots per machine)."""
    if queue is None:
        yield build_wrong_finding("queue", f"there is no queue {name}", "run setup first")
        return
    counts = queue.counts
    details = {"waiting": counts.waiting, "running": counts.running}
    message = f"{format_count(counts.waiting, 'waiting job')} in {name}, {counts.running:,} leased by workers"
    if counts.jobs == 0:
        yield build_warning_finding(
            "queue", f"{name} has no jobs, so the machines would be idle", "run submitJob first", details=details
        )
    elif counts.jobs <= (machines - 1) * slots:
        yield build_warning_finding(
            "queue",
            f"{message}, but {machines * slots:,} could run at once, so some machines would be idle",
            f"lower CLUSTER_MACHINES to {-(-counts.jobs // slots)}, unless you will submit more jobs",
            details=details,
        )
    else:
        yield build_ok_finding("queue", message, details=details)


def judge_dead_letter_queue(name: str, queue: QueueFacts | None, app: str) -> Iterator[Finding]:
    """Check that the dead-letter queue exists, and mention messages from earlier runs if it is the app's own."""
    if queue is None:
        yield build_wrong_finding("queue", f"there is no dead-letter queue {name}", "run setup first")
    elif queue.counts.jobs and queue.tags.get("app") in (app, None):
        yield build_ok_finding(
            "queue",
            f"{format_count(queue.counts.jobs, 'message')} of failed jobs of earlier runs in {name}; they are not"
            " counted, but cleanup keeps a queue that contains them",
            "cleanup --failed-too deletes them",
            details={"dead": queue.counts.jobs},
        )
