"""distributed_something.run.cleanup.find_run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.sqs import find_queue, is_missing_queue_error, observe_queue_counts
from distributed_something.core.errors import AWSError, InputError, translate_aws_errors
from distributed_something.core.monitor_file import (
    MonitorFile,
    build_monitor_file,
    build_monitor_file_key,
    parse_run_start,
)
from distributed_something.observe.resources import ResourceState, iter_tagged_fleets
from distributed_something.run.monitor_file_copy import find_monitor_file_copy

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

QUEUE_COUNT_READS, QUEUE_COUNT_PAUSE_SECONDS = 3, 5.0  # SQS's counts are approximate: the highest of a few is believed
NO_FLEET_ID = "sfr-00000000-0000-0000-0000-000000000000"  # EC2 knows none of this id: for a run that never had one


def recover_monitor_file(settings: Settings, clients: Clients, now: Callable[[], float] = time.time) -> MonitorFile:
    """The app's run where no monitor file is at hand: that of its active fleet, else the newest in the bucket, else
    the config's names without a fleet. Raises CloudError where AWS refuses to tell of fleets."""
    with translate_aws_errors(f"looking for a fleet of {settings.APP_NAME}"):
        fleets = list(iter_tagged_fleets(clients.ec2, settings.APP_NAME))
    active = next((one for one in fleets if one.state is ResourceState.LEFT), None)
    copy = _find_bucket_copy(settings, clients)
    if copy is not None and (active is None or active.id == copy.MONITOR_FLEET_ID):
        return copy
    if active is None:
        return build_monitor_file(settings, NO_FLEET_ID, now())
    return build_monitor_file(settings, active.id, parse_run_start(active.run) or active.made)


def check_cleanup_safety(
    clients: Clients, run: MonitorFile, where: Path | str, sleep: Callable[[float], None], *, yes: bool
) -> None:
    """Raises InputError where a clean-up would end another run than this one, or would lose jobs and `yes` is not
    said. `where`: the file that named the run. Raises CloudError where AWS does not let it look."""
    with translate_aws_errors("looking for another run of this app"):
        others = [
            one for one in iter_tagged_fleets(clients.ec2, run.MONITOR_APP_NAME) if one.state is ResourceState.LEFT
        ]
    other = next((one for one in others if one.id != run.MONITOR_FLEET_ID), None)
    if other is not None and all(one.id != run.MONITOR_FLEET_ID for one in others):
        wrong = f"this run's fleet is not active, but {other.id} of a newer run of {run.MONITOR_APP_NAME} is"
        raise InputError(where, "MONITOR_FLEET_ID", wrong, "type cleanup without this file to end that one")
    jobs = _count_jobs_repeatedly(clients, run, sleep)
    if jobs and not yes:
        wrong = f"{jobs} jobs are still in it, and would be lost"
        right = "let monitor go on until they are through, or add --yes"
        raise InputError(where, f"queue {run.MONITOR_QUEUE_NAME}", wrong, right)


def _count_jobs_repeatedly(clients: Clients, run: MonitorFile, sleep: Callable[[float], None]) -> int:
    most = 0
    for number in range(QUEUE_COUNT_READS):
        if number:
            sleep(QUEUE_COUNT_PAUSE_SECONDS)
        with translate_aws_errors(f"counting the jobs in {run.MONITOR_QUEUE_NAME}"):
            most = max(most, _count_jobs(clients, run.MONITOR_QUEUE_NAME))
        if most:
            break
    return most


def _count_jobs(clients: Clients, name: str) -> int:
    """SQS still gives the URL of a queue that was deleted a minute ago; no job is in that."""
    try:
        url = find_queue(clients.sqs, name)
        return observe_queue_counts(clients.sqs, url).jobs if url else 0
    except ClientError as error:
        if is_missing_queue_error(error):
            return 0
        raise


def _find_bucket_copy(settings: Settings, clients: Clients) -> MonitorFile | None:
    try:
        found = find_monitor_file_copy(clients.s3, settings.AWS_BUCKET, build_monitor_file_key(settings.APP_NAME))
    except (*AWSError, InputError):
        return None  # not to be read: then names and tags must do
    return found if found and found.MONITOR_APP_NAME == settings.APP_NAME else None
