"""Which run a clean-up is of, where no monitor file says so, and whether it would lose jobs or end another run."""

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
from distributed_something.observe.queue import count_jobs
from distributed_something.observe.resources import ResourceState, iter_tagged_fleets
from distributed_something.run.monitor_file_copy import find_monitor_file_copy

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

QUEUE_COUNT_READS, QUEUE_COUNT_PAUSE_SECONDS = 3, 5.0  # SQS's counts are approximate: the highest of a few is believed
NO_FLEET_ID = "sfr-00000000-0000-0000-0000-000000000000"  # EC2 knows none of this id: for a run that never had one


def recover_monitor_file(settings: Settings, clients: Clients, now: Callable[[], float]) -> MonitorFile:
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
    clients: Clients, run: MonitorFile, where: Path | str, clock: Clock, *, yes: bool,
    pause: float = QUEUE_COUNT_PAUSE_SECONDS,
) -> None:  # fmt: skip
    """Raise InputError where a clean-up would end another run than this one, or would lose jobs and `yes` is not
    said. `where`: the file that named the run. `pause`: seconds between two counts. Raises CloudError where AWS does
    not let it look."""
    with translate_aws_errors("looking for another run of this app"):
        others = [
            one for one in iter_tagged_fleets(clients.ec2, run.MONITOR_APP_NAME) if one.state is ResourceState.LEFT
        ]
    other = next((one for one in others if one.id != run.MONITOR_FLEET_ID), None)
    if other is not None and all(one.id != run.MONITOR_FLEET_ID for one in others):
        wrong = f"this run's fleet is not active, but {other.id} of a newer run of {run.MONITOR_APP_NAME} is"
        raise InputError(where, "MONITOR_FLEET_ID", wrong, "type cleanup without this file to end that one")
    jobs = _count_jobs_repeatedly(clients, run, clock, pause)
    if jobs and not yes:
        wrong = f"{jobs} jobs are still in it, and would be lost"
        right = "let monitor go on until they are through, or add --yes"
        raise InputError(where, f"queue {run.MONITOR_QUEUE_NAME}", wrong, right)


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


def _find_bucket_copy(settings: Settings, clients: Clients) -> MonitorFile | None:
    try:
        found = find_monitor_file_copy(clients.s3, settings.AWS_BUCKET, build_monitor_file_key(settings.APP_NAME))
    except (*AWSError, InputError):
        return None  # not to be read: then names and tags must do
    return found if found and found.MONITOR_APP_NAME == settings.APP_NAME else None
