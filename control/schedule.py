"""What wakes the auto-monitor: an EventBridge rule a run, made by startCluster, deleted by clean-up."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from control.clients import Clients
from control.errors import CloudError, InputError, code_of, doing
from control.monitorfile import MonitorFile, copy_of, key_for
from control.policies import Place, monitor_rule

RATE = "rate(1 minute)"  # EventBridge's shortest
_TARGET = "auto-monitor"
_MISSING = "ResourceNotFoundException"


def rule_request(file: MonitorFile, tags: dict[str, str]) -> dict[str, Any]:
    """PutRule."""
    return {
        "Name": monitor_rule(file.MONITOR_APP_NAME),
        "ScheduleExpression": RATE,
        "State": "ENABLED",
        "Description": f"Watches the run {file.run} of {file.MONITOR_APP_NAME}.",
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def targets_request(file: MonitorFile, function: str) -> dict[str, Any]:
    """PutTargets: the function is told where the monitor file lies, and what to delete if that is gone."""
    event = {
        "bucket": file.MONITOR_BUCKET_NAME,
        "key": key_for(file.MONITOR_APP_NAME),
        "rule": monitor_rule(file.MONITOR_APP_NAME),
    }
    target = {"Id": _TARGET, "Arn": function, "Input": json.dumps(event)}
    return {"Rule": monitor_rule(file.MONITOR_APP_NAME), "Targets": [target]}


def require(clients: Clients, place: Place) -> None:
    """Raises CloudError where setupAWS has not made the function: to be asked before anything costs money."""
    with doing("looking for the auto-monitor"):
        try:
            clients.lambda_.get_function(FunctionName=place.function)
        except ClientError as error:
            if code_of(error) != _MISSING:
                raise
            raise CloudError("AUTO_MONITOR is 'True', but there is no auto-monitor here: run setupAWS first") from None


def start(clients: Clients, file: MonitorFile, place: Place, tags: dict[str, str]) -> None:
    """Has the function called once a minute. Raises CloudError."""
    with doing(f"scheduling the auto-monitor of {file.MONITOR_APP_NAME}"):
        clients.events.put_rule(**rule_request(file, tags))
        failed = clients.events.put_targets(**targets_request(file, place.function)).get("FailedEntries", [])
    if failed:
        raise CloudError(f"the auto-monitor is not scheduled: {failed[0].get('ErrorMessage', 'no reason given')}")


def stop_for(clients: Clients, file: MonitorFile) -> bool:
    """Deletes the rule of this run; whether there was one. A newer run's has the same name, and stays. Raises AWS's
    errors."""
    with suppress(InputError):  # no run can be watched with a wrong one
        newest = copy_of(clients.s3, file.MONITOR_BUCKET_NAME, key_for(file.MONITOR_APP_NAME))
        if newest is not None and newest.MONITOR_FLEET_ID != file.MONITOR_FLEET_ID:
            return False
    return stop(clients, monitor_rule(file.MONITOR_APP_NAME))


def stop(clients: Clients, rule: str) -> bool:
    """Deletes the rule of this name; whether there was one. Raises AWS's errors."""
    try:
        clients.events.remove_targets(Rule=rule, Ids=[_TARGET])
        clients.events.delete_rule(Name=rule)
    except ClientError as error:
        if code_of(error) == _MISSING:
            return False
        raise
    return True
