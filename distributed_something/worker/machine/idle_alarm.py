"""The CloudWatch alarm that terminates this EC2 machine when it is idle.

Every container on a machine creates the alarm, because containers do not know about each other; repeating the call is
harmless. If the call fails, the run continues without the alarm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from distributed_something.worker.job.failures import find_named_permission, is_access_denied
from distributed_something.worker.machine.machine_names import build_alarm_name
from distributed_something.worker.machine.metadata import InstanceMetadata, find_instance_id

IDLE_CPU_PERCENT = 1.0
# Without detailed monitoring, EC2 reports the CPU usage every 300 s, so most shorter periods would contain no data.
# With it, the maximum over 300 s covers five reports.
ALARM_PERIOD_SECONDS, ALARM_PERIODS = 300, 3
MAX_ERROR_CHARACTERS = 300  # EC2's own messages can contain a kilobyte of encoded details
ALARM_PERMISSIONS = "cloudwatch:PutMetricAlarm and cloudwatch:TagResource"
log = logging.getLogger("worker")


def ensure_idle_alarm(create_client: Callable[[str], Any], metadata: InstanceMetadata, app_name: str) -> None:
    """Create or update this machine's idle alarm. Outside EC2, do nothing. If the AWS call fails, log one line.

    `create_client` returns a boto3 client for a service; it is called only when needed.
    """
    instance = find_instance_id(metadata)
    if instance is None:
        return
    try:
        _put_alarm(create_client("cloudwatch"), app_name, instance)
    except (ClientError, BotoCoreError) as error:
        log.warning("this machine has no idle alarm: %s", _format_reason(error))


def build_alarm_request(app_name: str, instance: str, region: str, partition: str) -> dict[str, Any]:
    """Return the PutMetricAlarm request that terminates the machine after 15 minutes below 1% CPU usage.

    A period without data counts as busy. With CloudWatch's default ("missing"), a single low value could trigger the
    alarm.
    """
    return {
        "AlarmName": build_alarm_name(app_name, instance),
        "AlarmDescription": f"Ends a machine of {app_name} that has been idle for 15 minutes.",
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "InstanceId", "Value": instance}],
        "Statistic": "Maximum",
        "Period": ALARM_PERIOD_SECONDS,
        "EvaluationPeriods": ALARM_PERIODS,
        "Threshold": IDLE_CPU_PERCENT,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "notBreaching",
        "AlarmActions": [f"arn:{partition}:automate:{region}:ec2:terminate"],
        "Tags": [{"Key": "app", "Value": app_name}],
    }


def _put_alarm(cloudwatch: Any, app_name: str, instance: str) -> None:
    meta = cloudwatch.meta
    cloudwatch.put_metric_alarm(**build_alarm_request(app_name, instance, meta.region_name, meta.partition))


def _format_reason(error: ClientError | BotoCoreError) -> str:
    """Return the error as one line. If a permission is missing, the line begins with the permission."""
    text = " ".join(str(error).split())[:MAX_ERROR_CHARACTERS]
    if not isinstance(error, ClientError) or not is_access_denied(error):
        return text
    return f"the machine's role lacks the permission {find_named_permission(error) or ALARM_PERMISSIONS}: {text}"
