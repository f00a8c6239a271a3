"""On EC2: the alarm that ends this machine when it is idle.

Every container of a machine sets it, as none knows of the others: the call may be repeated. A refusal costs an alarm,
never the run.
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
# Without detailed monitoring EC2 reports the CPU every 300 s; an alarm of shorter periods would have none to look at
# most of the time. With it, the maximum over 300 s is that of five reports.
ALARM_PERIOD_SECONDS, ALARM_PERIODS = 300, 3
MAX_ERROR_CHARACTERS = 300  # characters: EC2's own may hold an encoded kilobyte
ALARM_PERMISSIONS = "cloudwatch:PutMetricAlarm and cloudwatch:TagResource"
log = logging.getLogger("worker")


def ensure_idle_alarm(metadata: InstanceMetadata, client: Callable[[str], Any], app_name: str) -> None:
    """Sets this machine's idle alarm; nothing elsewhere than on EC2. What AWS refuses is one line in the log.

    `client` makes a boto3 client by its name, where it is needed only.
    """
    instance = find_instance_id(metadata)
    if instance is None:
        return
    try:
        _put_alarm(client("cloudwatch"), app_name, instance)
    except (ClientError, BotoCoreError) as error:
        log.warning("this machine goes on without an idle alarm: %s", _format_reason(error))


def build_alarm_request(app_name: str, instance: str, region: str, partition: str) -> dict[str, Any]:
    """PutMetricAlarm: 15 minutes below 1 % end the machine.

    A period without data counts as busy: with CloudWatch's default, "missing", a single low value with nothing around
    it would do.
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
    """One line; for a missing right its name, as AWS says it or else what the call needs."""
    text = " ".join(str(error).split())[:MAX_ERROR_CHARACTERS]
    if not isinstance(error, ClientError) or not is_access_denied(error):
        return text
    return f"its role lacks the right {find_named_permission(error) or ALARM_PERMISSIONS}"
