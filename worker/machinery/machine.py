"""The machine that this container is on: its id; on EC2 also the alarm that ends it when it is idle.

Every container of a machine sets it, as none knows of the others: the call may be repeated. A refusal costs an alarm,
never the run.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .metadata import Metadata

ID_PATH = "/latest/meta-data/instance-id"
IDLE_PERCENT = 1.0
# Without detailed monitoring EC2 reports the CPU every 300 s; an alarm of shorter periods would have none to look at
# most of the time. With it, the maximum over 300 s is that of five reports.
PERIOD_SECONDS, PERIODS = 300, 3
LONGEST_REASON = 300  # characters: EC2's own may hold an encoded kilobyte
RIGHTS = "cloudwatch:PutMetricAlarm and cloudwatch:TagResource"
_DENIED = {"AccessDenied", "AccessDeniedException"}
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_MISSING_RIGHT = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
log = logging.getLogger("worker")


def instance_id(metadata: Metadata) -> str | None:
    """EC2's id of this machine; None elsewhere, or where the answer is no such id."""
    text = (metadata.get(ID_PATH) or "").strip()
    return text if _INSTANCE_ID.fullmatch(text) else None


def machine_id(metadata: Metadata, env: Mapping[str, str] = os.environ) -> str:
    """What records and logs call this machine: INSTANCE_ID, else EC2's id, else the host name."""
    return env.get("INSTANCE_ID") or instance_id(metadata) or socket.gethostname()


def set_idle_alarm(metadata: Metadata, client: Callable[[str], Any], app_name: str) -> None:
    """Sets this machine's idle alarm; nothing elsewhere than on EC2. What AWS refuses is one line in the log.

    `client` makes a boto3 client by its name, where it is needed only.
    """
    instance = instance_id(metadata)
    if instance is None:
        return
    try:
        _set_alarm(client("cloudwatch"), app_name, instance)
    except (ClientError, BotoCoreError) as error:
        log.warning("this machine goes on without an idle alarm: %s", _reason(error))


def alarm_request(app_name: str, instance: str, region: str, partition: str) -> dict[str, Any]:
    """PutMetricAlarm: 15 minutes below 1 % end the machine.

    A period without data counts as busy: with CloudWatch's default, "missing", a single low value with nothing around
    it would do.
    """
    return {
        "AlarmName": f"{app_name}_{instance}",
        "AlarmDescription": f"Ends a machine of {app_name} that has been idle for 15 minutes.",
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "InstanceId", "Value": instance}],
        "Statistic": "Maximum",
        "Period": PERIOD_SECONDS,
        "EvaluationPeriods": PERIODS,
        "Threshold": IDLE_PERCENT,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "notBreaching",
        "AlarmActions": [f"arn:{partition}:automate:{region}:ec2:terminate"],
        "Tags": [{"Key": "app", "Value": app_name}],
    }


def _set_alarm(cloudwatch: Any, app_name: str, instance: str) -> None:
    meta = cloudwatch.meta
    cloudwatch.put_metric_alarm(**alarm_request(app_name, instance, meta.region_name, meta.partition))


def _reason(error: ClientError | BotoCoreError) -> str:
    """One line; for a missing right its name, as AWS says it or else what the call needs."""
    text = " ".join(str(error).split())[:LONGEST_REASON]
    if not isinstance(error, ClientError) or error.response["Error"].get("Code") not in _DENIED:
        return text
    said = _MISSING_RIGHT.search(error.response["Error"].get("Message", ""))
    return f"its role lacks the right {said[1] if said else RIGHTS}"
