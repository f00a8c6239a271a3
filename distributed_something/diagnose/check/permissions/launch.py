"""Asks EC2 whether it would start the run's machines for this user, without starting any.

The run's launch template is created only when the run starts, so the request has the template's content. EC2 checks the
permissions for everything in it, rules of the organization, and most values.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import (
    find_missing_permission,
    format_lookup_error,
    get_error_code,
    is_access_denied,
    is_login_error,
)
from distributed_something.core.monitor_file import build_run_name
from distributed_something.core.tags import build_tags
from distributed_something.diagnose.check.findings import Finding, build_ok_finding, build_warning_finding
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.fleet.launch_plan import TemplateVersion, build_launch_plan, drop_unknown_keys
from distributed_something.fleet.launch_specs import LAUNCH_TEMPLATE_CONFIGS_KEY
from distributed_something.fleet.launch_template import find_template_fault

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

TOPIC = "machine start"
_WOULD_START = "DryRunOperation"  # the code of the error that EC2 returns if it would start the machine
DENIED_REMEDY = (
    "attach the policies for users that setupAWS --policies prints; if they are attached, a rule of your organization "
    "may forbid it"
)


def check_machine_start(lookups: Lookups) -> Iterator[Finding]:
    """Ask EC2 about each launch specification. The local cloud, which checks no permissions, is not asked."""
    fleet, template = lookups.fleet, lookups.template.result
    if fleet is None or lookups.is_local:
        return
    if LAUNCH_TEMPLATE_CONFIGS_KEY in fleet and (
        template is None or find_template_fault(lookups.settings, template) is not None
    ):
        return  # check_launch_template reports it
    ec2, settings = lookups.clients.ec2, lookups.settings
    tags = build_tags(settings, run=build_run_name(lookups.now.timestamp()))
    plan = build_launch_plan(ec2, settings, fleet, tags, template)
    requests = [build_trial_request(ec2, version, spot=not settings.ON_DEMAND_MACHINES) for version in plan.versions]
    findings = [judge_trial(request, _try_launch(ec2, request)) for request in requests]
    yield from {(finding.level, finding.message): finding for finding in findings}.values()


def build_trial_request(ec2: EC2Client, version: TemplateVersion, *, spot: bool) -> dict[str, Any]:
    """Return a RunInstances request for one machine of the version's first type, in its first subnet.

    `spot`: ask for a spot machine. A run that also has on-demand machines has one template for both, with which EC2 can
    start only on-demand machines in this way.
    """
    override: Mapping[str, Any] = version.overrides[0] if version.overrides else {}
    content = dict(version.data)
    # The template contains the user data in base64, and boto3 encodes them again.
    content["UserData"] = base64.b64decode(content.get("UserData", "")).decode(errors="replace")
    if "SubnetId" in override:  # EC2 refuses a subnet outside the interfaces if there are any
        first, *others = content["NetworkInterfaces"]
        content["NetworkInterfaces"] = [{**first, "SubnetId": override["SubnetId"]}, *others]
    if "InstanceType" in override:
        content["InstanceType"] = override["InstanceType"]
    if spot:
        content["InstanceMarketOptions"] = {"MarketType": "spot"}
    request: dict[str, Any] = drop_unknown_keys(content, ec2.meta.service_model.shape_for("RunInstancesRequest"))
    return request | {"MinCount": 1, "MaxCount": 1, "DryRun": True}


def _try_launch(ec2: EC2Client, request: dict[str, Any]) -> ClientError | None:
    """Return why EC2 would not start the machine, or None if it would. Raise ClientError if the login is invalid."""
    try:
        ec2.run_instances(**request)
    except ClientError as error:
        if is_login_error(error):
            raise
        return None if get_error_code(error) == _WOULD_START else error
    return None


def judge_trial(request: Mapping[str, Any], error: ClientError | None) -> Finding:
    """Return the finding about EC2's answer.

    A refusal is only a warning: Spot Fleet starts the machines with its own role, and can use other types and subnets.
    """
    kind = f"{request.get('InstanceType', 'machine')}"
    if error is None:
        return build_ok_finding(TOPIC, "EC2 would let you start the machines (asked without starting one)")
    if is_access_denied(error):
        permission = find_missing_permission(error)
        problem = f"EC2 would not let you start {kind} with the run's launch template: needs {permission}"
        return build_warning_finding(TOPIC, problem, DENIED_REMEDY, details={"right": permission})
    problem = f"EC2 would not start {kind} with the run's launch template: {format_lookup_error(error)}"
    remedy = "correct what it names in the Fleet file or in the config"
    return build_warning_finding(TOPIC, problem, remedy, details={"code": get_error_code(error)})
