"""Removes everything that a test run created, and checks that nothing is left.

The machines come first. The documents in the bucket and the log streams come last, because workers write to them until
they end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.aws.cloudwatch_logs import (
    build_log_group_names,
    delete_log_group,
    delete_log_streams,
    list_log_groups,
    list_log_streams,
)
from distributed_something.aws.s3 import delete_objects, iter_bucket_objects
from distributed_something.aws.sqs import find_queue
from distributed_something.cli.context import shorten_path
from distributed_something.cli.test_run.lock import TestRunLock
from distributed_something.cli.test_run.plan import build_test_plan
from distributed_something.core.errors import (
    AWSError,
    CloudError,
    explain_aws_error,
    get_error_code,
    translate_aws_errors,
)
from distributed_something.core.monitor_file import build_monitor_file, build_monitor_file_key
from distributed_something.core.text import format_row
from distributed_something.observe.machines import iter_instances
from distributed_something.run.cleanup.find_run import NO_FLEET_ID
from distributed_something.run.cleanup.inventory import RunNames, format_inventory, wait_for_removal
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.cli.test_run.plan import PlannedTest
    from distributed_something.core.clock import Clock
    from distributed_something.results.command_line import CommandLine
    from distributed_something.run.run_context import RunContext

# The second one removes a fleet that EC2 did not list yet when Ctrl-C came right after the request.
REMOVAL_ROUNDS = 2


@dataclass(frozen=True)
class Traces:
    """What a test run leaves besides its resources.

    `machines`: those that have log streams in the app's groups, as far as they are known. `new_log_groups`: groups that
    it created.
    """

    machines: Sequence[str] = ()
    new_log_groups: Sequence[str] = ()


def list_missing_log_groups(clients: Clients, plan: PlannedTest) -> list[str]:
    """Return which of the app's log groups do not exist. AWS errors are not caught."""
    names = build_log_group_names(plan.settings.LOG_GROUP_NAME)
    existing = list_log_groups(clients.logs, plan.settings.LOG_GROUP_NAME)
    return [name for name in names if name not in existing]


def remove_test_run(
    clients: Clients, plan: PlannedTest, traces: Traces, monitor_file: Path, clock: Clock, pause: float
) -> list[str]:
    """Remove everything, check that nothing is left, and return lines about what is; none if nothing is.

    `monitor_file`: the file on this computer, which is deleted only then. AWS errors become lines.
    """
    lines = _remove_resources(clients, plan, clock, pause)
    if lines:
        return lines  # workers may still write to the rest
    lines = [*_remove_objects(clients, plan), *_remove_logs(clients, plan, traces)]
    if not lines:
        monitor_file.unlink(missing_ok=True)
    return lines


def _remove_resources(clients: Clients, plan: PlannedTest, clock: Clock, pause: float) -> list[str]:
    """Remove everything that has the test run's name or tag, whichever step created it."""
    file = build_monitor_file(plan.settings, NO_FLEET_ID, clock.now())
    names = RunNames(file, plan.settings.SQS_DEAD_LETTER_QUEUE)
    request = CleanupRequest(file, names.dead_letter_queue, pause=pause, whole_app=True, failed_too=True)
    lines: list[str] = []
    for _ in range(REMOVAL_ROUNDS):
        report = delete_run_resources(clients, request, clock.sleep)
        lines = [format_row("NOT REMOVED", f"{failure.label}: {failure.error}") for failure in report.failed]
        try:
            inventory = wait_for_removal(clients, names, clock.sleep, pause=pause)
        except CloudError as error:  # the user must log in again
            return [*lines, format_row("NOT CHECKED", error)]
        if report.is_complete and inventory.is_clean:
            return []
        lines += format_inventory(inventory).splitlines() if not inventory.is_clean else []
    return lines


def _remove_objects(clients: Clients, plan: PlannedTest) -> list[str]:
    bucket = plan.settings.AWS_BUCKET
    prefixes = (plan.keys.prefix, build_monitor_file_key(plan.settings.APP_NAME))

    def list_remaining() -> Iterator[str]:
        for prefix in prefixes:
            delete_objects(clients.s3, bucket, prefix)
            yield from (item["Key"] for item in iter_bucket_objects(clients.s3, bucket, prefix))

    return _report_remaining(f"objects in s3://{bucket}/{plan.keys.prefix}", list_remaining)


def _remove_logs(clients: Clients, plan: PlannedTest, traces: Traces) -> list[str]:
    """Delete the test run's streams, and the groups that it created if no real run has begun to use them."""
    logs, app = clients.logs, plan.settings.APP_NAME
    groups = build_log_group_names(plan.settings.LOG_GROUP_NAME)
    prefixes = {f"{app}/", *traces.machines, *plan.list_jobs()}

    def list_streams(group: str) -> list[str]:
        # Without a prefix, CloudWatch would list the streams of real runs too.
        return [stream for prefix in filter(None, prefixes) for stream in list_log_streams(logs, group, prefix)]

    def list_remaining() -> Iterator[str]:
        # EC2 lists a machine for about an hour after its end. This also finds those of a test run that was killed.
        tagged = iter_instances(clients.ec2, [{"Name": "tag:app", "Values": [app]}])
        prefixes.update(instance["InstanceId"] for instance in tagged)
        for group in groups:
            delete_log_streams(logs, group, list_streams(group))
            yield from list_streams(group)
        if find_queue(clients.sqs, plan.project_settings.SQS_QUEUE_NAME) is None:
            for group in groups:
                # Only the app's: `new_log_groups` may come from the lock, which others can write.
                if group in traces.new_log_groups and not list_log_streams(logs, group):
                    delete_log_group(logs, group)

    return _report_remaining(f"log streams in {groups[0]}", list_remaining)


def release_lock(lock: TestRunLock, now: float) -> list[str]:
    """Release the lock if this test run has it. Return lines about what is left. AWS errors become lines."""

    def release() -> list[str]:
        lock.release(now)
        return []

    return _report_remaining(lock.address, release)


def build_removal_command(line: CommandLine, monitor_file: Path) -> str:
    """Return the command that removes a test run that was killed. Its monitor file need not exist."""
    return line.format_command("cleanup", str(shorten_path(monitor_file)), "--yes")


def remove_killed_test_run(context: RunContext, monitor_file: Path, *, yes: bool) -> list[str]:
    """Remove what a test run of this app left because it was killed; return lines about what is left.

    Raise InputError if one may be in progress, unless `yes` is given. Raise CloudError if AWS reports an error.
    """
    clients, settings, clock = context.clients, context.settings, context.clock
    plan = build_test_plan(settings, monitor_file, {}, settings.MACHINE_TYPE[0])
    lock = TestRunLock(clients.s3, plan.settings, build_removal_command(context.command_line, monitor_file))
    with translate_aws_errors(f"reading {lock.address}"):
        holder = lock.find_holder(clock.now())
    if holder is not None and not yes:
        raise lock.build_error(holder)
    traces = Traces(new_log_groups=holder.new_log_groups if holder else ())
    lines = remove_test_run(clients, plan, traces, monitor_file, clock, context.pause)
    if not lines:
        with translate_aws_errors(f"deleting {lock.address}"):
            lock.delete()
    return lines


def _report_remaining(label: str, remove: Callable[[], Iterable[str]]) -> list[str]:
    """Call `remove`, which yields what is left, and return a line about it. AWS errors become lines."""
    try:
        return [format_row("REMAINING", f"{label}: {name}") for name in remove()]
    except AWSError as error:
        if get_error_code(error) == "NoSuchBucket":  # and nothing in it
            return []
        return [format_row("NOT REMOVED", f"{label}: {explain_aws_error('removing them', error)}")]
