"""`run.py startCluster`: check everything, then request machines, which cost money from then on.

The order of the steps ensures that every machine can be traced to its run: the fleet is tagged with the app's name from
the beginning, and the monitor file is written as soon as EC2 responds. If the monitor file cannot be written or the
containers cannot be started, the fleet is canceled.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import Clients
from distributed_something.aws.ec2_fleet import (
    ActiveFleet,
    cancel_new_fleet,
    create_fleet,
    find_active_fleet,
    format_fleet_problem,
    observe_fleet,
    observe_fleet_problems,
)
from distributed_something.aws.ecs import ensure_task_definition, find_task_roles, start_tasks
from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.sts import identify_account, resolve_owner
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, InputError, UserFacingError, translate_aws_errors
from distributed_something.core.monitor_file import (
    MonitorFile,
    build_monitor_file,
    build_monitor_file_path,
    build_run_name,
    load_monitor_file,
)
from distributed_something.core.names import AwsAccount
from distributed_something.core.tags import build_tags
from distributed_something.core.text import format_row, format_wrapped_row
from distributed_something.fleet.fleet_file import check_fleet_file
from distributed_something.fleet.launch_plan import LaunchPlan, build_launch_plan
from distributed_something.fleet.launch_template import create_run_template, load_template_data
from distributed_something.fleet.request import build_fleet_request
from distributed_something.observe.documents.run_start import observe_run_start
from distributed_something.observe.service import observe_service
from distributed_something.results.command_line import describe_command_line
from distributed_something.run.monitor.history import open_history
from distributed_something.run.monitor_file_copy import save_monitor_file
from distributed_something.run.schedule import check_auto_monitor, ensure_monitor_rule
from distributed_something.run.setup import build_missing_error, observe_setup_resources

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings
    from distributed_something.run.run_context import RunContext


def start_run(
    context: RunContext, fleet_file: Path, content: dict[str, Any], project: Path, *,
    cheapest: bool = False, check_account: Callable[[], None] = lambda: None,
    confirm_start: Callable[[], None] = lambda: None,
) -> MonitorFile:  # fmt: skip
    """Request the fleet, write the monitor file, and start the containers; return the monitor file.

    `content`: the content of the Fleet file. `check_account`: called after the Fleet file is checked and before
    anything is created; it can raise an error to stop the start. So can `confirm_start`, which is called after all
    other checks. Raise InputError if the Fleet file is invalid, a run is already active, or setup is incomplete, or
    CloudError if AWS reports an error.
    """
    settings, clients = context.settings, context.clients
    check_fleet_file(clients.ec2, settings, content, fleet_file)
    check_account()
    path = build_monitor_file_path(project, settings.APP_NAME)
    unfinished = _find_unfinished_start(context, path)
    queues = _find_queues(context)
    account = _find_auto_monitor(context)
    confirm_start()
    start = unfinished.start if unfinished else context.clock.now()
    run, owner = build_run_name(start), resolve_owner(clients.sts, settings)
    tags = build_tags(settings, owner, run)
    template_data = None if unfinished else load_template_data(clients.ec2, settings, content, fleet_file)
    plan = build_launch_plan(clients.ec2, settings, content, tags, template_data)
    roles = find_task_roles(clients.iam, clients.ecs, settings.names.task_family)
    task_definition = build_task_definition(settings, queues, run, owner, roles)
    definition = ensure_task_definition(clients.ecs, task_definition, context.clock.sleep)
    fleet_id = unfinished.id if unfinished else _request_fleet(context, content, plan, start)
    monitor_file = build_monitor_file(settings, fleet_id, start, cheapest=cheapest)
    monitor_file = replace(monitor_file, **describe_command_line(context.command_line, fleet_file))
    with _cancel_fleet_on_error(context, fleet_id):
        _save_run_start(context, monitor_file, path)
        start_tasks(clients.ecs, settings, definition, settings.CLUSTER_MACHINES * settings.TASKS_PER_MACHINE)
        if account is not None:
            ensure_monitor_rule(clients, monitor_file, account, tags, context.clock.sleep)
    return monitor_file


def _request_fleet(context: RunContext, content: dict[str, Any], plan: LaunchPlan, start: float) -> str:
    """Request the fleet with a launch template for this run; return the fleet's id."""
    ec2, sleep = context.clients.ec2, context.clock.sleep
    request = build_fleet_request(context.settings, content, plan, datetime.fromtimestamp(start, UTC))
    with create_run_template(ec2, plan, sleep):
        return create_fleet(ec2, request, sleep)


@contextmanager
def _cancel_fleet_on_error(context: RunContext, fleet_id: str) -> Iterator[None]:
    """Cancel the fleet if the `with` block fails, because its machines would cost money without doing any work."""
    try:
        yield
    except (OSError, UserFacingError) as error:
        with translate_aws_errors(
            f"canceling the fleet {fleet_id}, WHICH COSTS MONEY UNTIL YOU CANCEL IT, after this error: {error}"
        ):
            cancel_new_fleet(context.clients.ec2, fleet_id, context.clock.sleep)
        raise


def _save_run_start(context: RunContext, monitor_file: MonitorFile, path: Path) -> None:
    """Write the monitor file and begin the run's history.

    Raise OSError if the file cannot be written, or CloudError if AWS reports an error.
    """
    clients = context.clients
    save_monitor_file(clients.s3, monitor_file, path)
    with translate_aws_errors("saving what the queue holds at the start of the run"):
        open_history(
            clients.s3, monitor_file, partial(observe_run_start, clients, monitor_file, context.settling_seconds)
        )


def _find_auto_monitor(context: RunContext) -> AwsAccount | None:
    """Return the account that the auto-monitor runs in, or None if the run does not use the auto-monitor.

    Raise CloudError if setupAWS has not created the auto-monitor.
    """
    clients, settings = context.clients, context.settings
    if not settings.AUTO_MONITOR:
        return None
    account = identify_account(clients, settings.AWS_REGION)
    check_auto_monitor(clients, account, context.command_line)
    return account


def watch_machine_arrivals(
    clients: Clients, settings: Settings, monitor_file: MonitorFile, clock: Clock, *, wait_minutes: float,
    pause: float, print_progress: Callable[[str], None],
) -> None:  # fmt: skip
    """Print how many machines have started, until all have started or `wait_minutes` have passed.

    AWS errors are ignored.
    """
    deadline, last_count = clock.now() + wait_minutes * 60, -1
    printed_causes: set[Hashable] = set()
    fleet_id, start = monitor_file.MONITOR_FLEET_ID, monitor_file.MONITOR_START_TIME / 1000
    while True:
        count = _count_machines(clients, monitor_file, last_count)
        if count != last_count:
            print_progress(format_row("machines", f"{count} of {settings.CLUSTER_MACHINES}"))
            last_count = count
        for problem in observe_fleet_problems(clients.ec2, fleet_id, start, clock.now()):
            if problem.cause not in printed_causes:
                print_progress(format_wrapped_row("fleet", format_fleet_problem(problem)))
                printed_causes.add(problem.cause)
        if count >= settings.CLUSTER_MACHINES:
            return
        if clock.now() >= deadline:
            print_progress("not all machines have started; more may start while monitor runs")
            return
        clock.sleep(pause)


def _count_machines(clients: Clients, monitor_file: MonitorFile, last_count: int) -> int:
    try:
        fleet = observe_fleet(clients.ec2, monitor_file.MONITOR_FLEET_ID)
    except AWSError:
        return last_count
    return 0 if fleet is None else len(fleet.machines)


def _find_queues(context: RunContext) -> QueueUrls:
    """Return the URLs of the queues.

    Raise InputError with everything that is missing, if the bucket or a resource that setup creates does not exist.
    """
    resources = observe_setup_resources(context.clients, context.settings)
    if resources.missing:
        raise build_missing_error(resources.missing, "config", context.command_line)
    return QueueUrls(resources.queue_url, resources.dead_letter_url)


def _find_unfinished_start(context: RunContext, path: Path) -> ActiveFleet | None:
    """Return the fleet of a start that was killed before it started the containers, or None if no fleet is active.

    Such a fleet has a target above 0, but the service's task count is 0. (A monitor that scales down lowers both to 0.)
    Raise InputError if a run is already active, because an app can have only one fleet: a second fleet would cost
    money without being watched. If the active run's monitor file is missing, it is written again.
    """
    clients, settings, line = context.clients, context.settings, context.command_line
    fleet = find_active_fleet(clients.ec2, settings.APP_NAME)
    if fleet is None:
        return None
    with translate_aws_errors(f"looking for the service {settings.names.service}"):
        service = observe_service(clients.ecs, settings.ECS_CLUSTER, settings.names.service)
    if service is not None and service.desired == 0 and fleet.target > 0:
        return fleet
    if not path.exists() or fleet.id != load_monitor_file(path).MONITOR_FLEET_ID:
        save_monitor_file(clients.s3, build_monitor_file(settings, fleet.id, fleet.start), path)
    problem = f"the fleet {fleet.id} of {settings.APP_NAME} is already running"
    watch, end = (line.format_command(name, line.monitor_file) for name in ("monitor", "cleanup"))
    raise InputError(path, "MONITOR_FLEET_ID", problem, f"to watch it, type: {watch}; or to end it: {end}")
