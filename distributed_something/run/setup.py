"""`run.py setup`: create the queues, log groups, cluster, and task definition, and a service without containers.

None of these resources costs money yet. Each step creates what is missing and corrects what differs from the config, so
setup can be repeated at any time, even while a run is active.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import ensure_log_groups
from distributed_something.aws.ec2_fleet import find_active_fleet
from distributed_something.aws.ecs import (
    describe_cluster,
    describe_service,
    ensure_cluster,
    ensure_service,
    ensure_task_definition,
    find_task_roles,
)
from distributed_something.aws.retry import RETRY_PAUSE_SECONDS, none_if_missing
from distributed_something.aws.s3 import read_s3_time
from distributed_something.aws.sqs import ensure_queues, find_queue
from distributed_something.aws.sts import identify_account, resolve_owner
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.errors import (
    CloudError,
    InputError,
    InputProblems,
    is_access_denied,
    translate_aws_errors,
)
from distributed_something.core.names import EXAMPLE_ACCOUNT_ID
from distributed_something.core.tags import build_tags
from distributed_something.core.text import format_row
from distributed_something.observe.documents.submissions import has_recent_submission, list_queue_submissions
from distributed_something.observe.queue import observe_queue
from distributed_something.observe.service import observe_service
from distributed_something.results.command_line import RUN_COMMANDS

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings
    from distributed_something.results.command_line import CommandLine

MISSING_BUCKET_CODES = ("404", "NoSuchBucket")
# SQS documents that its counts need at least a minute to include all jobs that were just sent.
COUNT_DELAY_SECONDS = 5 * 60.0


@dataclass(frozen=True)
class MissingResource:
    """A resource that does not exist, although the config names it. `kind`: such as "queue"."""

    kind: str
    name: str


@dataclass(frozen=True)
class SetupResources:
    """What a run needs before it starts: the queues' URLs ("" if a queue is missing) and everything that is missing."""

    queue_url: str
    dead_letter_url: str
    missing: tuple[MissingResource, ...]


def list_setup_resources(settings: Settings) -> tuple[MissingResource, ...]:
    """Return what `setup` creates and a run cannot do without."""
    return (
        MissingResource("queue", settings.SQS_QUEUE_NAME),
        MissingResource("dead-letter queue", settings.SQS_DEAD_LETTER_QUEUE),
        MissingResource("cluster", settings.ECS_CLUSTER),
        MissingResource("service", settings.names.service),
    )


def observe_setup_resources(clients: Clients, settings: Settings) -> SetupResources:
    """Look up what `startCluster` needs: the bucket, and what `setup` creates.

    This takes four calls, and a fifth if there is no service. Raise CloudError if AWS reports another error.
    """
    cluster, service = settings.ECS_CLUSTER, settings.names.service
    with translate_aws_errors("looking for what setup creates"):
        head_bucket = partial(clients.s3.head_bucket, Bucket=settings.AWS_BUCKET)
        has_bucket = none_if_missing(head_bucket, *MISSING_BUCKET_CODES) is not None
        url = find_queue(clients.sqs, settings.SQS_QUEUE_NAME)
        dead_letter_url = find_queue(clients.sqs, settings.SQS_DEAD_LETTER_QUEUE)
        has_service = observe_service(clients.ecs, cluster, service) is not None
        described = None if has_service else describe_cluster(clients.ecs, cluster)
    exists = {
        "bucket": has_bucket,
        "queue": url is not None,
        "dead-letter queue": dead_letter_url is not None,
        "cluster": has_service or (described is not None and described["status"] == "ACTIVE"),
        "service": has_service,
    }
    resources = (MissingResource("bucket", settings.AWS_BUCKET), *list_setup_resources(settings))
    missing = tuple(resource for resource in resources if not exists[resource.kind])
    return SetupResources(url or "", dead_letter_url or "", missing)


def build_missing_error(missing: Sequence[MissingResource], source: Path | str, line: CommandLine) -> InputError:
    """Return one error that names all missing resources and the command that creates them. `source`: the config."""
    *firsts, last = [f"the {resource.kind} {resource.name}" for resource in missing]
    names = f"{', '.join(firsts)} and {last}" if firsts else last
    has_bucket = all(resource.kind != "bucket" for resource in missing)
    remedy = "run setup first" if has_bucket else "create the bucket, or correct AWS_BUCKET; then run setup"
    problem = f"{names} {'do' if firsts else 'does'} not exist"
    return InputError(source, "", problem, remedy, commands=[line.format_command("setup")])


def list_remaining_commands(
    clients: Clients, settings: Settings, now: float, *, has_exact_counts: bool
) -> tuple[str, ...]:
    """Return which of RUN_COMMANDS must still be typed before the app's next run ends.

    Arguments as in `is_queue_empty`. Raise CloudError if AWS reports an error.
    """
    if find_active_fleet(clients.ec2, settings.APP_NAME) is not None:
        return RUN_COMMANDS[-1:]
    if observe_setup_resources(clients, settings).missing:
        return RUN_COMMANDS
    is_empty = is_queue_empty(clients, settings, now, has_exact_counts=has_exact_counts)
    return RUN_COMMANDS[1:] if is_empty else RUN_COMMANDS[2:]


def is_queue_empty(clients: Clients, settings: Settings, now: float, *, has_exact_counts: bool) -> bool:
    """Return whether the queue exists and holds no jobs, not even some that SQS does not count yet.

    `now`: seconds since 1970, if S3 does not say what time it is. `has_exact_counts`: whether the queue counts all jobs
    at once, as in the local cloud. Raise CloudError if AWS reports an error.
    """
    with translate_aws_errors(f"looking for jobs in the queue {settings.SQS_QUEUE_NAME}"):
        queue = observe_queue(clients.sqs, settings.SQS_QUEUE_NAME)
        if queue is None or queue.counts.jobs:
            return False
        if has_exact_counts:
            return True
        now = read_s3_time(clients.s3, settings.AWS_BUCKET, now)
        submissions = list_queue_submissions(clients.s3, settings.AWS_BUCKET, settings.APP_NAME, queue, now)
    return not has_recent_submission(submissions, now, COUNT_DELAY_SECONDS)


def require_bucket(clients: Clients, settings: Settings) -> None:
    """Raise InputError if the bucket does not exist, or CloudError if it cannot be used from here.

    Whoever may not list it may still use it, so a missing permission is not an error.
    """
    try:
        with translate_aws_errors(f"looking for the bucket {settings.AWS_BUCKET}"):
            clients.s3.head_bucket(Bucket=settings.AWS_BUCKET)
    except CloudError as error:
        if error.code in MISSING_BUCKET_CODES:
            problem = f"the bucket {settings.AWS_BUCKET} does not exist"
            raise InputError("config", "AWS_BUCKET", problem, "create the bucket, or correct AWS_BUCKET") from error
        if error.__cause__ is None or not is_access_denied(error.__cause__):
            raise


def set_up_run(
    clients: Clients, settings: Settings, print_progress: Callable[[str], None], sleep: Callable[[float], None]
) -> None:
    """Create everything that jobs and machines need.

    Raise CloudError if AWS reports an error, or InputError if a queue belongs to another app or cannot be used.
    """
    _check_accounts(clients, settings)
    roles = find_task_roles(clients.iam, clients.ecs, settings.names.task_family)
    owner = resolve_owner(clients.sts, settings)
    tags = build_tags(settings, owner)
    queues = ensure_queues(clients.sqs, settings, tags, sleep)
    print_progress(format_row("queue", settings.SQS_QUEUE_NAME))
    sharing = " (shared with others; not changed)" if queues.is_dead_letter_queue_shared else ""
    print_progress(format_row("for failed jobs", settings.SQS_DEAD_LETTER_QUEUE) + sharing)
    for name, other_app in ensure_log_groups(clients.logs, settings, tags, sleep).items():
        print_progress(format_row("log group", name) + (f" (shared with the app {other_app})" if other_app else ""))
    ensure_cluster(clients.ecs, settings.ECS_CLUSTER, tags, sleep)
    print_progress(format_row("cluster", settings.ECS_CLUSTER))
    with translate_aws_errors("looking for an active run"):
        run = find_active_run(clients, settings)
    request = build_task_definition(settings, queues, run, owner, roles)
    definition = ensure_task_definition(clients.ecs, request, sleep)
    print_progress(format_row("task definition", definition.rsplit("/", 1)[-1]))
    if not roles and identify_account(clients, settings.AWS_REGION).account_id != EXAMPLE_ACCOUNT_ID:
        print_progress(format_row("role", "none: containers use their machine's role; setupAWS creates their own"))
    print_progress(format_row("image", settings.DOCKERHUB_TAG))
    ensure_service(clients.ecs, settings, definition, tags, sleep)
    print_progress(format_row("service", settings.names.service))
    _wait_until_visible(clients, settings, sleep)


def _wait_until_visible(clients: Clients, settings: Settings, sleep: Callable[[float], None]) -> None:
    """Wait until AWS finds what setup has created, because the next command may follow at once.

    SQS finds a new queue after a second. If AWS needs more than two minutes, the next command reports what is missing.
    """
    created = list_setup_resources(settings)
    for pause in RETRY_PAUSE_SECONDS:
        if not set(created).intersection(observe_setup_resources(clients, settings).missing):
            return
        sleep(pause)


def _check_accounts(clients: Clients, settings: Settings) -> None:
    """Raise InputError if the config names a dead-letter queue or a topic in another account.

    The local cloud has no accounts.
    """
    topic_account = settings.NOTIFY.split(":")[4] if settings.NOTIFY else ""
    if not (settings.dead_letter_account or topic_account):
        return
    account, problems = identify_account(clients, settings.AWS_REGION).account_id, InputProblems()
    for key, noun, owner, remedy in (
        ("SQS_DEAD_LETTER_QUEUE", "queue", settings.dead_letter_account, "SQS moves no messages between accounts"),
        ("NOTIFY", "topic", topic_account, "the policies allow no other one"),
    ):
        if owner and account not in (owner, EXAMPLE_ACCOUNT_ID):
            problem = f"the {noun} is in the account {owner}, but you are logged in to {account}"
            problems.add(InputError("config", key, problem, f"use a {noun} in your account: {remedy}"))
    problems.raise_if_any()


def find_active_run(clients: Clients, settings: Settings) -> str | None:
    """Return the name of the run whose containers the service is running, or None if no run is active.

    A new task definition must keep this name; otherwise, the run's records would be split across two prefixes.
    """
    service = describe_service(clients.ecs, settings.ECS_CLUSTER, settings.names.service)
    if service is None or service["status"] != "ACTIVE" or not service["desiredCount"]:
        return None
    response = clients.ecs.describe_task_definition(taskDefinition=service["taskDefinition"])
    environment = response["taskDefinition"]["containerDefinitions"][0].get("environment", [])
    return next((pair.get("value") for pair in environment if pair.get("name") == "RUN"), None)
