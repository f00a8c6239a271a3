"""`run.py startCluster`: from here on it costs money. All that can be checked is checked before the first request.

The order is chosen so that no machine is ever without a name: the fleet carries the app's tag from its first moment,
and its monitor file is written as soon as EC2 has answered; if that or the start of the tasks fails, the fleet is
cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import Clients
from distributed_something.aws.ec2_fleet import (
    ActiveFleet,
    create_fleet,
    find_active_fleet,
    observe_fleet,
    observe_fleet_problems,
)
from distributed_something.aws.ecs import ensure_task_definition, find_task_roles, start_tasks
from distributed_something.aws.sqs import QueueUrls, find_queue, require_job_queue
from distributed_something.aws.sts import identify_account, resolve_owner
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.aws_errors import format_fleet_problem
from distributed_something.core.clock import Clock
from distributed_something.core.errors import AWSError, CloudError, InputError, UserFacingError, translate_aws_errors
from distributed_something.core.monitor_file import (
    MonitorFile,
    build_monitor_file,
    build_monitor_file_path,
    build_run_name,
    load_monitor_file,
)
from distributed_something.core.names import AwsAccount
from distributed_something.core.tags import build_tags
from distributed_something.core.text import format_row
from distributed_something.fleet.fleet_file import check_fleet_file
from distributed_something.fleet.launch_plan import LaunchPlan, build_launch_plan
from distributed_something.fleet.launch_template import create_run_template, load_template_data
from distributed_something.fleet.request import build_fleet_request
from distributed_something.observe.service import observe_service
from distributed_something.run.monitor.history import reopen_history
from distributed_something.run.monitor_file_copy import save_monitor_file
from distributed_something.run.schedule import check_auto_monitor, ensure_monitor_rule

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings
    from distributed_something.run.run_context import RunContext


def start_run(
    context: RunContext, fleet_file: Path, content: dict[str, Any], project: Path, *,
    cheapest: bool = False, check_account: Callable[[], None] = lambda: None,
) -> MonitorFile:  # fmt: skip
    """Requests the fleet, writes the monitor file, raises the service; raises InputError or CloudError.

    `content`: of the Fleet file. `check_account`: called once the file is right and before anything is made; it ends
    the start by raising.
    """
    settings, clients = context.settings, context.clients
    check_fleet_file(content, fleet_file, settings, clients.ec2)
    check_account()
    path = build_monitor_file_path(project, settings.APP_NAME)
    half_done = _find_unfinished_start(settings, clients, path)
    queues = _check_setup_resources(settings, clients)
    place = _find_auto_monitor(settings, clients)
    start = half_done.start if half_done else context.clock.now()
    run, owner = build_run_name(start), resolve_owner(settings, clients.sts)
    tags = build_tags(settings, owner, run)
    theirs = None if half_done else load_template_data(content, fleet_file, settings, clients.ec2)
    plan = build_launch_plan(content, settings, tags, clients.ec2, theirs)
    wanted = build_task_definition(settings, queues, run, owner, find_task_roles(clients.iam))
    definition = ensure_task_definition(clients.ecs, wanted)
    fleet_id = half_done.id if half_done else _request_fleet(context, content, plan, start)
    monitor_file = build_monitor_file(settings, fleet_id, start, cheapest=cheapest)
    with _cancel_fleet_on_error(clients, fleet_id):
        _save_monitor_file(clients, monitor_file, path, again=half_done is not None)
        start_tasks(clients.ecs, settings, definition, settings.CLUSTER_MACHINES * settings.TASKS_PER_MACHINE)
        if place is not None:
            ensure_monitor_rule(clients, monitor_file, place, tags)
    return monitor_file


def _request_fleet(context: RunContext, content: dict[str, Any], plan: LaunchPlan, start: float) -> str:
    """Asks for the fleet, of a launch template of the run's own; its id."""
    ec2, sleep = context.clients.ec2, context.clock.sleep
    request = build_fleet_request(content, context.settings, plan, datetime.fromtimestamp(start, UTC))
    with create_run_template(plan, ec2, sleep):
        return create_fleet(ec2, request, sleep)


@contextmanager
def _cancel_fleet_on_error(clients: Clients, fleet_id: str) -> Iterator[None]:
    """Cancels the fleet if what the block does fails: else its machines would idle, paid for."""
    try:
        yield
    except (OSError, UserFacingError) as error:
        with translate_aws_errors(
            f"cancelling the fleet {fleet_id}, WHICH COSTS MONEY UNTIL YOU CANCEL IT, because of: {error}"
        ):
            clients.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
        raise


def _save_monitor_file(clients: Clients, monitor_file: MonitorFile, path: Path, *, again: bool) -> None:
    """Writes the monitor file; `again`: a start goes on with the run. Raises OSError or CloudError."""
    save_monitor_file(monitor_file, path, clients.s3)
    if again:
        with translate_aws_errors("looking at what monitor saw of this run"):
            reopen_history(clients.s3, monitor_file)


def _find_auto_monitor(settings: Settings, clients: Clients) -> AwsAccount | None:
    """Where the auto-monitor is, if it is asked for. Raises CloudError where setupAWS has not made it."""
    if not settings.AUTO_MONITOR:
        return None
    place = identify_account(clients, settings.AWS_REGION)
    check_auto_monitor(clients, place)
    return place


def watch_machine_arrivals(
    settings: Settings, clients: Clients, monitor_file: MonitorFile, clock: Clock, *, wait_minutes: float,
    pause: float, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Says when machines come, until all are there or `wait_minutes` are over. An error of AWS here ends nothing."""
    until, shown = clock.now() + wait_minutes * 60, -1
    told: set[Hashable] = set()
    fleet_id, start = monitor_file.MONITOR_FLEET_ID, monitor_file.MONITOR_START_TIME / 1000
    while True:
        there = _count_machines(clients, monitor_file, shown)
        if there != shown:
            say(format_row("machines", f"{there} of {settings.CLUSTER_MACHINES}"))
            shown = there
        for problem in observe_fleet_problems(clients.ec2, fleet_id, start, clock.now()):
            if problem.cause not in told:
                say(format_row("fleet", format_fleet_problem(problem)))
                told.add(problem.cause)
        if there >= settings.CLUSTER_MACHINES:
            return
        if clock.now() >= until:
            say("not every machine is there yet; more may come while monitor runs")
            return
        clock.sleep(pause)


def _count_machines(clients: Clients, monitor_file: MonitorFile, otherwise: int) -> int:
    try:
        found = observe_fleet(clients.ec2, monitor_file.MONITOR_FLEET_ID)
    except AWSError:
        return otherwise
    return 0 if found is None else len(found.machines)


def _check_setup_resources(settings: Settings, clients: Clients) -> QueueUrls:
    with translate_aws_errors(f"looking at the bucket {settings.AWS_BUCKET}"):
        clients.s3.head_bucket(Bucket=settings.AWS_BUCKET)
    url = require_job_queue(settings, clients)
    dead = find_queue(clients.sqs, settings.SQS_DEAD_LETTER_QUEUE)
    if dead is None:
        raise CloudError(f"the queue {settings.SQS_DEAD_LETTER_QUEUE} does not exist: run setup first")
    if observe_service(clients.ecs, settings.ECS_CLUSTER, settings.names.service) is None:
        raise CloudError(f"the service {settings.names.service} does not exist: run setup first")
    return QueueUrls(url, dead)


def _find_unfinished_start(settings: Settings, clients: Clients, path: Path) -> ActiveFleet | None:
    """A fleet whose start was killed before its service was raised: it is gone on with. Where the fleet is to have no
    machine either, it is a monitor that has lowered both.

    One fleet an app: a second would be paid for and watched by nobody, so a run under way is refused (InputError). If
    its monitor file is lost, that is written anew.
    """
    found = find_active_fleet(clients.ec2, settings.APP_NAME)
    if found is None:
        return None
    with translate_aws_errors(f"looking at the service {settings.names.service}"):
        service = observe_service(clients.ecs, settings.ECS_CLUSTER, settings.names.service)
    if service is not None and service.desired == 0 and found.target > 0:
        return found
    if not path.exists() or found.id != load_monitor_file(path).MONITOR_FLEET_ID:
        save_monitor_file(build_monitor_file(settings, found.id, found.start), path, clients.s3)
    wrong = f"the fleet {found.id} of {settings.APP_NAME} runs already"
    raise InputError(path, "MONITOR_FLEET_ID", wrong, "use monitor with this file")
