"""The EventBridge rule that calls the auto-monitor.

startCluster creates the rule; a monitor deletes it at the end of the run, or cleanup does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.clients import Clients
from distributed_something.aws.retry import retry_until_consistent
from distributed_something.core.errors import CloudError, InputError, get_error_code, translate_aws_errors
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file_key
from distributed_something.core.names import AwsAccount, build_monitor_rule_name
from distributed_something.core.tags import build_ec2_tags
from distributed_something.run.monitor_file_copy import find_monitor_file_copy

if TYPE_CHECKING:
    from distributed_something.results.command_line import CommandLine

MONITOR_RULE_RATE = "rate(1 minute)"  # the shortest interval that EventBridge allows
_TARGET_ID = "auto-monitor"
_MISSING_CODE = "ResourceNotFoundException"
_BUSY_CODE = "ConcurrentModificationException"  # another change of the rule is in progress


def build_rule_request(file: MonitorFile, tags: dict[str, str]) -> dict[str, Any]:
    """Return the parameters for PutRule."""
    return {
        "Name": build_monitor_rule_name(file.MONITOR_APP_NAME),
        "ScheduleExpression": MONITOR_RULE_RATE,
        "State": "ENABLED",
        "Description": f"Watches the run {file.run} of {file.MONITOR_APP_NAME}.",
        "Tags": build_ec2_tags(tags),
    }


def build_targets_request(file: MonitorFile, function: str) -> dict[str, Any]:
    """Return the parameters for PutTargets.

    The event contains the location of the monitor file and the name of the rule. If the file does not exist, the
    function deletes the rule.
    """
    event = {
        "bucket": file.MONITOR_BUCKET_NAME,
        "key": build_monitor_file_key(file.MONITOR_APP_NAME),
        "rule": build_monitor_rule_name(file.MONITOR_APP_NAME),
    }
    target = {"Id": _TARGET_ID, "Arn": function, "Input": json.dumps(event)}
    return {"Rule": build_monitor_rule_name(file.MONITOR_APP_NAME), "Targets": [target]}


def check_auto_monitor(clients: Clients, account: AwsAccount, line: CommandLine) -> None:
    """Raise CloudError if setupAWS has not created the function.

    startCluster calls this before it creates anything that costs money. `line`: how the user types commands.
    """
    with translate_aws_errors("looking for the auto-monitor"):
        try:
            clients.lambda_.get_function(FunctionName=account.function)
        except ClientError as error:
            if get_error_code(error) != _MISSING_CODE:
                raise
            raise CloudError(
                "AUTO_MONITOR is 'True', but this account and region have no auto-monitor",
                f"type first: {line.format_command('setupAWS')}",
            ) from None


def ensure_monitor_rule(
    clients: Clients, file: MonitorFile, account: AwsAccount, tags: dict[str, str], sleep: Callable[[float], None]
) -> None:
    """Create or update the rule that calls the auto-monitor once a minute. Raise CloudError if that fails."""
    with translate_aws_errors(f"scheduling the auto-monitor of {file.MONITOR_APP_NAME}"):
        put_rule = partial(clients.events.put_rule, **build_rule_request(file, tags))
        retry_until_consistent(put_rule, _BUSY_CODE, sleep=sleep)
        put_targets = partial(clients.events.put_targets, **build_targets_request(file, account.function))
        response = retry_until_consistent(put_targets, _BUSY_CODE, _MISSING_CODE, sleep=sleep)
    failed_entries = response.get("FailedEntries", [])
    if failed_entries:
        reason = failed_entries[0].get("ErrorMessage", "no reason given")
        raise CloudError(f"the auto-monitor could not be scheduled: {reason}")


def delete_run_rule(clients: Clients, file: MonitorFile) -> bool:
    """Delete this run's rule; return whether it existed. AWS errors are not caught.

    The rule is kept if it already belongs to a newer run of the app.
    """
    with suppress(InputError):  # an invalid copy cannot belong to a newer run, because no monitor could read it
        newest = find_monitor_file_copy(
            clients.s3, file.MONITOR_BUCKET_NAME, build_monitor_file_key(file.MONITOR_APP_NAME)
        )
        if newest is not None and newest.MONITOR_FLEET_ID != file.MONITOR_FLEET_ID:
            return False
    return delete_rule_by_name(clients, build_monitor_rule_name(file.MONITOR_APP_NAME))


def delete_rule_by_name(clients: Clients, rule: str) -> bool:
    """Delete the rule with this name; return whether it existed. AWS errors are not caught."""
    try:
        clients.events.remove_targets(Rule=rule, Ids=[_TARGET_ID])
        clients.events.delete_rule(Name=rule)
    except ClientError as error:
        if get_error_code(error) == _MISSING_CODE:
            return False
        raise
    return True
