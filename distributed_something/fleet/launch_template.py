"""Launch templates in EC2: the one that a Fleet file may name, which is only read, and the run's own, which is created.

The run's is named APP_NAME-RUN and tagged, has a version for each kind of machine (`launch_plan.py`), and is deleted by
clean-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.ec2_fleet import TEMPLATE_NOT_READY_CODES
from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import AWSError, CloudError, InputError, get_error_code, translate_aws_errors
from distributed_something.core.tags import build_tag_specifications
from distributed_something.fleet.launch_plan import LaunchPlan, TemplateVersion
from distributed_something.fleet.launch_specs import (
    LAUNCH_TEMPLATE_CONFIGS_KEY,
    JsonObject,
    TemplateFault,
    find_interface_fault,
)
from distributed_something.fleet.user_data import UserDataError, extend_user_data

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


def find_template_data(fleet: JsonObject, ec2: EC2Client) -> JsonObject | None:
    """The content of the launch template that the Fleet file names; None where there is none. Raises AWS's errors."""
    named = dict(fleet[LAUNCH_TEMPLATE_CONFIGS_KEY][0]["LaunchTemplateSpecification"])
    version = named.pop("Version", "$Default")
    try:
        found: Any = ec2.describe_launch_template_versions(**named, Versions=[version])["LaunchTemplateVersions"]
    except ClientError as error:
        if get_error_code(error).startswith("InvalidLaunchTemplate"):
            return None
        raise
    return dict(found[0]["LaunchTemplateData"]) if found else None


def format_template_name(fleet: JsonObject) -> str:
    """Which launch template the Fleet file names, in one text: «lt-1 version 3»."""
    named = fleet[LAUNCH_TEMPLATE_CONFIGS_KEY][0]["LaunchTemplateSpecification"]
    name = named.get("LaunchTemplateId") or named["LaunchTemplateName"]
    return f"{name} version {named.get('Version', '$Default')}"


def load_template_data(fleet: JsonObject, path: Path, settings: Settings, ec2: EC2Client) -> JsonObject | None:
    """The content of the template that the Fleet file names, checked; None where it names none.

    Raises InputError for a template that cannot be used (`path`: the Fleet file), CloudError where EC2 refuses.
    """
    if LAUNCH_TEMPLATE_CONFIGS_KEY not in fleet:
        return None
    with translate_aws_errors(f"reading the launch template {format_template_name(fleet)}"):
        content = find_template_data(fleet, ec2)
    if content is None:
        raise InputError(
            path,
            LAUNCH_TEMPLATE_CONFIGS_KEY,
            f"there is no launch template {format_template_name(fleet)}",
            "name another",
        )
    fault = find_template_fault(content, settings)
    if fault is not None:
        problem = f"the launch template {format_template_name(fleet)}: {fault.problem}"
        raise InputError(path, LAUNCH_TEMPLATE_CONFIGS_KEY, problem, fault.remedy)
    return content


def find_template_fault(content: JsonObject, settings: Settings) -> TemplateFault | None:
    """Return why a template of this content cannot be used; None where it can."""
    interfaces = content.get("NetworkInterfaces", [])
    if content.get("SecurityGroups") and not interfaces:
        problem = "it names security groups by name, with which EC2 takes no ASSIGN_IP"
        return TemplateFault(problem, "name them by id there")
    try:
        extend_user_data(content.get("UserData", ""), settings)
    except UserDataError as error:
        return TemplateFault(error.problem, error.remedy)
    return find_interface_fault(interfaces, public=settings.ASSIGN_IP)


@contextmanager
def create_run_template(plan: LaunchPlan, ec2: EC2Client, sleep: Callable[[float], None]) -> Iterator[None]:
    """Create the run's launch template with the versions of the plan, and delete it again if EC2 refuses one of them or
    what the block asks for. Raises CloudError."""
    first, *others = plan.versions
    template = _create_first_version(plan, first, ec2)
    try:
        for version in others:
            _create_next_version(plan, version, template, ec2, sleep)
        yield
    except CloudError as error:
        if isinstance(error.__cause__, ClientError):  # else an answer may be lost, and the fleet be there
            with suppress(*AWSError):  # it costs nothing, and clean-up finds it
                ec2.delete_launch_template(LaunchTemplateId=template)
        raise


def _create_first_version(plan: LaunchPlan, version: TemplateVersion, ec2: EC2Client) -> str:
    """Return the template's id."""
    data: Any = version.data
    specified: Any = build_tag_specifications((), ["launch-template"], plan.tags)
    with translate_aws_errors(f"making the launch template {plan.name}"):
        answer = ec2.create_launch_template(
            LaunchTemplateName=plan.name, ClientToken=plan.name, LaunchTemplateData=data, TagSpecifications=specified
        )
    return answer["LaunchTemplate"]["LaunchTemplateId"]


def _create_next_version(
    plan: LaunchPlan, version: TemplateVersion, template: str, ec2: EC2Client, sleep: Callable[[float], None]
) -> None:
    token, data = f"{plan.name}-{version.number}", version.data
    request: Any = {"LaunchTemplateId": template, "ClientToken": token, "LaunchTemplateData": data}
    with translate_aws_errors(f"making version {version.number} of the launch template {plan.name}"):
        retry_until_consistent(
            lambda: ec2.create_launch_template_version(**request), *TEMPLATE_NOT_READY_CODES, sleep=sleep
        )
