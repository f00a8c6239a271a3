"""`run.py check [FLEET]`: one list of findings about the config, the Fleet file, and the AWS account.

Each `check_…` function reads what it needs from the `Lookups` and passes it to a pure `judge_…` function. A failed
lookup does not stop the other checks; it becomes a warning that shows the missing permission.

To add a check, write both functions in the module for its subject, add the `check_…` function to `CHECKS` with a topic
of at most 15 characters, and describe the topic in docs/commands.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import Clients
from distributed_something.core.errors import (
    AWSError,
    InputError,
    fill_in_profile,
    find_missing_permission,
    find_remedy,
    format_lookup_error,
    is_settings_error,
)
from distributed_something.diagnose.check.account import (
    MISSING_PERMISSION_REMEDY,
    check_bucket,
    check_fleet_role,
    check_instance_profiles,
    check_log_export,
    check_login,
    check_name_owners,
    check_same_account,
)
from distributed_something.diagnose.check.config_constants import NOTIFICATION_TOPIC, check_constants, check_topic
from distributed_something.diagnose.check.container_image.check_image import check_container_image
from distributed_something.diagnose.check.container_image.http import Fetch
from distributed_something.diagnose.check.cost import check_bid, check_cost
from distributed_something.diagnose.check.findings import (
    Finding,
    FindingLevel,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.job_queues import check_job_queues
from distributed_something.diagnose.check.limits import (
    check_ecs_limits,
    check_large_run_limits,
    check_on_demand_quota,
    check_spot_quota,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.diagnose.check.machine_images import check_disks, check_machine_images
from distributed_something.diagnose.check.machine_types import check_machine_capacity, check_machine_types
from distributed_something.diagnose.check.network import (
    check_internet_routes,
    check_key_pairs,
    check_launch_template,
    check_security_groups,
    check_subnets,
)
from distributed_something.diagnose.check.permissions.launch import TOPIC as MACHINE_START_TOPIC
from distributed_something.diagnose.check.permissions.launch import check_machine_start
from distributed_something.diagnose.check.permissions.roles import TOPIC as ROLE_RIGHTS_TOPIC
from distributed_something.diagnose.check.permissions.roles import check_role_permissions
from distributed_something.diagnose.check.prices.check_next_run import TOPIC as NEXT_RUN_TOPIC
from distributed_something.diagnose.check.prices.check_next_run import check_next_run
from distributed_something.fleet.fleet_file import check_fleet_file

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


SKIPPED_REMEDY = "correct the account's problem, which is shown above, then run check again"
CheckFunction = Callable[[Lookups], Iterable[Finding]]
FLEET_FILE_TOPIC = "fleet file"
CHECKS: tuple[tuple[str, CheckFunction | None], ...] = (
    ("config", check_constants),
    ("account", check_login),
    ("bucket", check_bucket),
    ("fleet role", check_fleet_role),
    ("profile", check_instance_profiles),
    ("roles", check_same_account),
    ("image", check_container_image),
    ("queue", check_job_queues),
    (FLEET_FILE_TOPIC, None),  # runs before all other checks; its findings are listed here
    ("template", check_launch_template),
    ("subnets", check_subnets),
    ("groups", check_security_groups),
    ("key pair", check_key_pairs),
    ("way to AWS", check_internet_routes),
    ("AMI", check_machine_images),
    ("disk", check_disks),
    ("types", check_machine_types),
    ("room", check_machine_capacity),
    ("ECS limits", check_ecs_limits),
    ("limits", check_large_run_limits),
    ("on-demand quota", check_on_demand_quota),
    ("spot quota", check_spot_quota),
    (MACHINE_START_TOPIC, check_machine_start),
    (ROLE_RIGHTS_TOPIC, check_role_permissions),
    ("bid", check_bid),
    ("cost", check_cost),
    (NEXT_RUN_TOPIC, check_next_run),
    ("log export", check_log_export),
    (NOTIFICATION_TOPIC, check_topic),
    ("names", check_name_owners),
)


def run_preflight_checks(
    clients: Clients,
    settings: Settings,
    path: Path | None,
    content: Mapping[str, Any] | None,
    now: datetime,
    fetch: Fetch | None = None,
    *,
    is_local: bool = False,
) -> list[Finding]:
    """Return the findings of all checks, in the order of `CHECKS`.

    `path` and `content` belong to the Fleet file; both are None if there is no Fleet file. `fetch`: reads the
    container image's registry; None leaves the image out. `is_local`: leave out what the local cloud cannot answer.
    AWS errors become findings. The checks create and change nothing in AWS, and they cost nothing.
    """
    fleet_file_findings, fleet = judge_fleet_file(clients, settings, path, content)
    lookups = Lookups(settings, clients, now, fleet, fetch, is_local)
    checks = [(topic, check_function or (lambda _: fleet_file_findings)) for topic, check_function in CHECKS]
    return list(iter_findings(checks, lookups))


def judge_fleet_file(
    clients: Clients, settings: Settings, path: Path | None, content: Mapping[str, Any] | None
) -> tuple[list[Finding], dict[str, Any] | None]:
    """Check the Fleet file against the config without calling AWS; return the findings and the file's content.

    The content is None if there is no file, or if the file has an error and its values therefore cannot be looked up.
    """
    if path is None or content is None:
        message = "none given: subnets, image, roles, and disks are not checked"
        return [build_ok_finding(FLEET_FILE_TOPIC, message)], None
    try:
        check_fleet_file(clients.ec2, settings, dict(content), path)
        return [build_ok_finding(FLEET_FILE_TOPIC, f"{path.name} matches the config")], dict(content)
    except InputError as error:
        return [_build_problem_finding(problem) for problem in error.problems], None


def _build_problem_finding(problem: InputError) -> Finding:
    message = f"{problem.key}: {problem.problem}" if problem.key else problem.problem
    return build_wrong_finding(FLEET_FILE_TOPIC, message, problem.remedy, is_user_error=True)


def iter_findings(checks: Iterable[tuple[str, CheckFunction]], lookups: Lookups) -> Iterator[Finding]:
    """Yield the findings of these checks in order. Skip those that call AWS if it rejects or cannot get any call."""
    skipped_topics: list[str] = []
    has_login_failed = False
    for topic, check_function in checks:
        if has_login_failed and topic != FLEET_FILE_TOPIC:
            skipped_topics.append(topic)
            continue
        try:
            for finding in check_function(lookups):
                has_login_failed = has_login_failed or (topic == "account" and finding.level is FindingLevel.WRONG)
                yield finding
        except AWSError as error:
            yield build_lookup_finding(topic, error, lookups.settings.AWS_PROFILE)
    if skipped_topics:
        yield build_warning_finding("not checked", ", ".join(skipped_topics), SKIPPED_REMEDY)


def build_lookup_finding(topic: str, error: BaseException, profile: str) -> Finding:
    """Return a finding with the permission that the lookup needs or, for other errors, AWS's error code and message.

    It is a warning, except for an error that every command meets until the user changes a setting.
    """
    permission = find_missing_permission(error)
    remedy = MISSING_PERMISSION_REMEDY if permission else fill_in_profile(find_remedy(error), profile)
    build_finding = build_wrong_finding if is_settings_error(error) else build_warning_finding
    message = f"could not be looked up: {format_lookup_error(error)}"
    return build_finding(topic, message, remedy, details={"right": permission})
