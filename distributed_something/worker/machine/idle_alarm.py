"""The CloudWatch alarm that terminates this EC2 machine when it is idle.

Every container on a machine creates the alarm, because containers do not know about each other; repeating the call is
harmless. PutMetricAlarm allows 3 calls per second in a region, so that most calls of 1,000 machines that start together
fail at first: they are retried for an hour. If the call still fails, the run continues without the alarm.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from distributed_something.worker.job.failures import find_named_permission, is_access_denied
from distributed_something.worker.machine.machine_names import build_alarm_name
from distributed_something.worker.machine.metadata import InstanceMetadata, find_instance_id

# CPUUtilization is the average over all virtual CPUs: one busy thread on 128 of them is only 0.78%. Half of one busy
# thread counts as busy.
MAX_IDLE_CPU_PERCENT, MAX_IDLE_CPUS = 1.0, 0.5
RETRY_SECONDS, MAX_PAUSE_SECONDS = 3600.0, 300.0
# Without detailed monitoring, EC2 reports the CPU usage every 300 s, so most shorter periods would contain no data.
# With it, the maximum over 300 s covers five reports.
ALARM_PERIOD_SECONDS, ALARM_PERIODS = 300, 3
MAX_ERROR_CHARACTERS = 300  # EC2's own messages can contain a kilobyte of encoded details
ALARM_PERMISSIONS = "cloudwatch:PutMetricAlarm and cloudwatch:TagResource"
log = logging.getLogger("worker")


def ensure_idle_alarm(
    create_client: Callable[[str], Any],
    metadata: InstanceMetadata,
    app_name: str,
    wait: Callable[[float], bool],
    choose_share: Callable[[], float] = random.random,
) -> None:
    """Create or update this machine's idle alarm. Outside EC2, do nothing. If that is impossible, log one line.

    `create_client` returns a boto3 client for a service; it is called only when needed. `wait` waits for a number of
    seconds and returns whether the container has ended. `choose_share` returns which share of the longest pause to wait
    before a retry (0 to 1), so that many machines do not retry at the same time.
    """
    instance = find_instance_id(metadata)
    if instance is None:
        return
    pauses = iter_retry_pauses(choose_share)
    while True:
        try:
            _put_alarm(create_client("cloudwatch"), app_name, instance)
            return
        except (ClientError, BotoCoreError) as error:
            seconds = None if is_access_denied(error) else next(pauses, None)
            if seconds is None:
                log.warning("this machine has no idle alarm: %s", _format_reason(error))
                return
        if wait(seconds):
            return


def iter_retry_pauses(choose_share: Callable[[], float]) -> Iterator[float]:
    """Yield the pauses between attempts, in seconds, about an hour in all. `choose_share` as in `ensure_idle_alarm`."""
    waited, pause = 0.0, 1.0
    while waited < RETRY_SECONDS:
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
        seconds = pause * (0.5 + choose_share() / 2)
        waited += seconds
        yield seconds


def choose_idle_percent(cpus: int | None) -> float:
    """Return the CPU usage, in percent of all `cpus` virtual CPUs, below which a machine is idle."""
    return min(MAX_IDLE_CPU_PERCENT, 100 * MAX_IDLE_CPUS / (cpus or 1))


def build_alarm_request(app_name: str, instance: str, region: str, partition: str, cpus: int | None) -> dict[str, Any]:
    """Return the PutMetricAlarm request that terminates a machine with `cpus` virtual CPUs that is idle for 15 minutes.

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
        "Threshold": choose_idle_percent(cpus),
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "notBreaching",
        "AlarmActions": [f"arn:{partition}:automate:{region}:ec2:terminate"],
        "Tags": [{"Key": "app", "Value": app_name}],
    }


def _put_alarm(cloudwatch: Any, app_name: str, instance: str) -> None:
    meta = cloudwatch.meta
    # A container sees all of its machine's processors, because ECS only gives it a share of their time.
    request = build_alarm_request(app_name, instance, meta.region_name, meta.partition, os.cpu_count())
    cloudwatch.put_metric_alarm(**request)


def _format_reason(error: ClientError | BotoCoreError) -> str:
    """Return the error as one line. If a permission is missing, the line begins with the permission."""
    text = " ".join(str(error).split())[:MAX_ERROR_CHARACTERS]
    if not isinstance(error, ClientError) or not is_access_denied(error):
        return text
    return f"the machine's role lacks the permission {find_named_permission(error) or ALARM_PERMISSIONS}: {text}"
