"""`run.py check [FLEET]`: everything that can be looked at before a cent is spent, in one list.

Each check is a function of the `Lookups`; it asks for what it needs and judges it by a pure function beside it. One
check never stops another: what AWS refuses to tell becomes a warning with the right that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.clients import Clients
from distributed_something.core.errors import AWSError, InputError, find_missing_permission, format_lookup_error
from distributed_something.diagnose.check.account import (
    MISSING_RIGHT_REMEDY,
    check_bucket,
    check_fleet_role,
    check_instance_profiles,
    check_log_export,
    check_login,
    check_name_owners,
    check_same_account,
)
from distributed_something.diagnose.check.cost import check_bid, check_cost, check_ecs_limits, check_spot_quota
from distributed_something.diagnose.check.findings import (
    Finding,
    FindingLevel,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
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
from distributed_something.diagnose.check.queue_and_image import check_container_image, check_job_queues
from distributed_something.fleet.fleet_file import check_fleet_file

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


CheckFunction = Callable[[Lookups], Iterable[Finding]]
FLEET_FILE_TOPIC = "fleet file"
CHECKS: tuple[tuple[str, CheckFunction | None], ...] = (
    ("account", check_login),
    ("bucket", check_bucket),
    ("fleet role", check_fleet_role),
    ("profile", check_instance_profiles),
    ("roles", check_same_account),
    ("image", check_container_image),
    ("queue", check_job_queues),
    (FLEET_FILE_TOPIC, None),  # looked at first, told here
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
    ("spot quota", check_spot_quota),
    ("bid", check_bid),
    ("cost", check_cost),
    ("log export", check_log_export),
    ("names", check_name_owners),
)
TRY_AGAIN_REMEDY = "try again; if it stays so, look the code up in AWS's documentation"


def run_preflight_checks(
    settings: Settings, clients: Clients, path: Path | None, content: Mapping[str, Any] | None, now: datetime
) -> list[Finding]:
    """Looks at everything; never raises for what it finds. `path`, `content`: the Fleet file, None without one.

    Nothing is made or changed in AWS, and nothing costs anything.
    """
    first, fleet = judge_fleet_file(settings, clients, path, content)
    facts = Lookups(settings, clients, now, fleet)
    checks = [(FLEET_FILE_TOPIC, lambda _: [first]) if one is None else (topic, one) for topic, one in CHECKS]
    return list(iter_findings(checks, facts))


def judge_fleet_file(
    settings: Settings, clients: Clients, path: Path | None, content: Mapping[str, Any] | None
) -> tuple[Finding, dict[str, Any] | None]:
    """The Fleet file against the config, without a call, and its content; None where there is no file, or where it is
    wrong: then what is in it is not looked up."""
    if path is None or content is None:
        return build_ok_finding(
            FLEET_FILE_TOPIC, "none was given: its subnets, image, roles and disks are not checked"
        ), None
    try:
        check_fleet_file(dict(content), path, settings, clients.ec2)
        return build_ok_finding(FLEET_FILE_TOPIC, f"{path.name} fits the config"), dict(content)
    except InputError as error:
        said = f"{error.key}: {error.problem}" if error.key else error.problem
        return build_wrong_finding(FLEET_FILE_TOPIC, said, error.remedy, by_user=True), None


def iter_findings(checks: Iterable[tuple[str, CheckFunction]], facts: Lookups) -> Iterator[Finding]:
    """The findings of these checks in order. Where AWS does not know who asks, no more is asked."""
    unasked: list[str] = []
    stranger = False
    for topic, one in checks:
        if stranger and topic != FLEET_FILE_TOPIC:
            unasked.append(topic)
            continue
        try:
            for finding in one(facts):
                stranger = stranger or (topic == "account" and finding.level is FindingLevel.WRONG)
                yield finding
        except AWSError as error:
            yield build_lookup_warning(topic, error)
    if unasked:
        yield build_warning_finding("not checked", ", ".join(unasked), "log in first, then check again")


def build_lookup_warning(topic: str, error: BaseException) -> Finding:
    """A warning that names the right that a look-up needs, or AWS's words."""
    right = find_missing_permission(error)
    remedy = MISSING_RIGHT_REMEDY if right else TRY_AGAIN_REMEDY
    return build_warning_finding(
        topic, f"could not be looked up: {format_lookup_error(error)}", remedy, details={"right": right}
    )
