"""Launch templates in EC2: the one that a Fleet file may name, which is only read, and the one that each run creates.

The run's launch template is named APP_NAME-RUN. It has tags, and one version for each launch specification
(`launch_plan.py`). Cleanup deletes it.
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
from distributed_something.fleet.user_data import LATEST_END, UserDataError, extend_user_data

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings


def find_template_data(ec2: EC2Client, fleet: JsonObject) -> JsonObject | None:
    """Return the content of the launch template that the Fleet file names, or None if the template does not exist.

    Other AWS errors are not caught.
    """
    template = dict(fleet[LAUNCH_TEMPLATE_CONFIGS_KEY][0]["LaunchTemplateSpecification"])
    version = template.pop("Version", "$Default")
    try:
        versions: Any = ec2.describe_launch_template_versions(**template, Versions=[version])["LaunchTemplateVersions"]
    except ClientError as error:
        if get_error_code(error).startswith("InvalidLaunchTemplate"):
            return None
        raise
    return dict(versions[0]["LaunchTemplateData"]) if versions else None


def format_template_name(fleet: JsonObject) -> str:
    """Return a description of the launch template that the Fleet file names, such as "lt-1 version 3"."""
    template = fleet[LAUNCH_TEMPLATE_CONFIGS_KEY][0]["LaunchTemplateSpecification"]
    name = template.get("LaunchTemplateId") or template["LaunchTemplateName"]
    return f"{name} version {template.get('Version', '$Default')}"


def load_template_data(ec2: EC2Client, settings: Settings, fleet: JsonObject, path: Path) -> JsonObject | None:
    """Return the checked content of the launch template that the Fleet file names, or None if the file names none.

    Raise InputError for the Fleet file `path` if the template does not exist or cannot be used. Raise CloudError if EC2
    returns an error.
    """
    if LAUNCH_TEMPLATE_CONFIGS_KEY not in fleet:
        return None
    with translate_aws_errors(f"reading the launch template {format_template_name(fleet)}"):
        content = find_template_data(ec2, fleet)
    if content is None:
        problem = f"there is no launch template {format_template_name(fleet)}"
        raise InputError(path, LAUNCH_TEMPLATE_CONFIGS_KEY, problem, "specify one that exists in this region")
    fault = find_template_fault(settings, content)
    if fault is not None:
        problem = f"the launch template {format_template_name(fleet)}: {fault.problem}"
        raise InputError(path, LAUNCH_TEMPLATE_CONFIGS_KEY, problem, fault.remedy)
    return content


def find_template_fault(settings: Settings, content: JsonObject) -> TemplateFault | None:
    """Return why a run cannot use a launch template with this content, or None if it can."""
    interfaces = content.get("NetworkInterfaces", [])
    if content.get("SecurityGroups") and not interfaces:
        problem = "it lists security groups by name, and EC2 does not combine these with ASSIGN_IP"
        return TemplateFault(problem, "list them by ID in the template")
    try:
        extend_user_data(settings, content.get("UserData", ""), LATEST_END if settings.ON_DEMAND_MACHINES else None)
    except UserDataError as error:
        return TemplateFault(error.problem, error.remedy)
    return find_interface_fault(interfaces, settings)


@contextmanager
def create_run_template(ec2: EC2Client, plan: LaunchPlan, sleep: Callable[[float], None]) -> Iterator[None]:
    """Create the run's launch template with the plan's versions.

    Delete the template again if EC2 rejects a version or a request inside the block. Raise CloudError if a call to EC2
    fails.
    """
    first, *others = plan.versions
    template = _create_first_version(ec2, plan, first)
    try:
        for version in others:
            _create_next_version(ec2, template, plan, version, sleep)
        yield
    except CloudError as error:
        # If AWS did not respond, the fleet may exist and need the template.
        if isinstance(error.__cause__, ClientError):
            with suppress(*AWSError):  # the template costs nothing, and cleanup finds it
                ec2.delete_launch_template(LaunchTemplateId=template)
        raise


def _create_first_version(ec2: EC2Client, plan: LaunchPlan, version: TemplateVersion) -> str:
    """Create the launch template and return its ID."""
    data: Any = version.data
    tags: Any = build_tag_specifications((), ["launch-template"], plan.tags)
    with translate_aws_errors(f"creating the launch template {plan.name}"):
        response = ec2.create_launch_template(
            LaunchTemplateName=plan.name, ClientToken=plan.name, LaunchTemplateData=data, TagSpecifications=tags
        )
    return response["LaunchTemplate"]["LaunchTemplateId"]


def _create_next_version(
    ec2: EC2Client, template: str, plan: LaunchPlan, version: TemplateVersion, sleep: Callable[[float], None]
) -> None:
    token, data = f"{plan.name}-{version.number}", version.data
    request: Any = {"LaunchTemplateId": template, "ClientToken": token, "LaunchTemplateData": data}
    with translate_aws_errors(f"creating version {version.number} of the launch template {plan.name}"):
        retry_until_consistent(
            lambda: ec2.create_launch_template_version(**request),
            *TEMPLATE_NOT_READY_CODES,
            until_allowed=True,
            sleep=sleep,  # the permission depends on the template's tag
        )
