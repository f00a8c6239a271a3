"""Decides before a cleanup which run to clean up if the user gave no monitor file, and whether jobs would be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, InputError, translate_aws_errors
from distributed_something.core.monitor_file import (
    MonitorFile,
    build_monitor_file,
    build_monitor_file_key,
    parse_run_start,
)
from distributed_something.core.text import format_count
from distributed_something.observe.queue import count_jobs
from distributed_something.observe.resources import ResourceState, iter_tagged_fleets
from distributed_something.run.monitor_file_copy import find_monitor_file_copy

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

# SQS's counts are approximate, so the highest of several counts is used.
QUEUE_COUNT_READS, QUEUE_COUNT_PAUSE_SECONDS = 3, 5.0
NO_FLEET_ID = "sfr-00000000-0000-0000-0000-000000000000"  # for a run without a fleet; EC2 has no fleet with this id


def recover_monitor_file(clients: Clients, settings: Settings, now: Callable[[], float]) -> MonitorFile:
    """Return a monitor file for the app if the user did not provide one.

    This is a file for the app's active fleet, or else the newest copy in the bucket, or else a file with the names from
    the config and no fleet. Raise CloudError if fleets cannot be listed.
    """
    with translate_aws_errors(f"looking for a fleet of {settings.APP_NAME}"):
        fleets = list(iter_tagged_fleets(clients.ec2, settings.APP_NAME))
    active = next((fleet for fleet in fleets if fleet.state is ResourceState.REMAINING), None)
    copy = _find_bucket_copy(clients, settings)
    if copy is not None and (active is None or active.id == copy.MONITOR_FLEET_ID):
        return copy
    if active is None:
        return build_monitor_file(settings, NO_FLEET_ID, now())
    return build_monitor_file(settings, active.id, parse_run_start(active.run) or active.requested_at)


def check_cleanup_safety(
    clients: Clients, run: MonitorFile, source: Path | str, clock: Clock, *, yes: bool,
    pause: float = QUEUE_COUNT_PAUSE_SECONDS,
) -> None:  # fmt: skip
    """Raise InputError if a cleanup would end a newer run, or if it would lose jobs and `yes` is False.

    `source`: the file named in error messages. `pause`: seconds between two job counts. Raise CloudError if fleets
    cannot be listed or jobs cannot be counted.
    """
    with translate_aws_errors("looking for another run of this app"):
        fleets = list(iter_tagged_fleets(clients.ec2, run.MONITOR_APP_NAME))
    active_ids = [fleet.id for fleet in fleets if fleet.state is ResourceState.REMAINING]
    if active_ids and run.MONITOR_FLEET_ID not in active_ids:
        problem = (
            f"{run.MONITOR_FLEET_ID} is not active, but {active_ids[0]}, which belongs to a newer run of"
            f" {run.MONITOR_APP_NAME}, is"
        )
        raise InputError(source, "MONITOR_FLEET_ID", problem, "to end the newer run, run cleanup without this file")
    jobs = _count_jobs_repeatedly(clients, run, clock, pause)
    if jobs and not yes:
        problem = f"it still holds {format_count(jobs, 'job')}, which would be lost"
        remedy = "let monitor finish the run, or add --yes to discard the jobs"
        raise InputError(source, f"queue {run.MONITOR_QUEUE_NAME}", problem, remedy)


def _count_jobs_repeatedly(clients: Clients, run: MonitorFile, clock: Clock, pause: float) -> int:
    most = 0
    for number in range(QUEUE_COUNT_READS):
        if number:
            clock.sleep(pause)
        with translate_aws_errors(f"counting the jobs in {run.MONITOR_QUEUE_NAME}"):
            most = max(most, count_jobs(clients.sqs, run.MONITOR_QUEUE_NAME))
        if most:
            break
    return most


def _find_bucket_copy(clients: Clients, settings: Settings) -> MonitorFile | None:
    try:
        copy = find_monitor_file_copy(clients.s3, settings.AWS_BUCKET, build_monitor_file_key(settings.APP_NAME))
    except (*AWSError, InputError):
        return None  # without a readable copy, the names in the config and the tags are used
    return copy if copy and copy.MONITOR_APP_NAME == settings.APP_NAME else None
