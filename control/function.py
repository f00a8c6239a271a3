"""The auto-monitor's Lambda function, its log group, and who may call it.

An EventBridge rule a run wakes it: a rule needs no role of its own and hands none on (EventBridge's Scheduler needs
both), carries the app's tag, is found by the function that it calls, and is deleted by name. So the account needs
nothing for it but a line in the function's own policy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from control import bundle
from control.clients import Clients
from control.logs import RETENTION_DAYS
from control.policies import MONITOR_FUNCTION, MONITOR_ROLE, RULE_PREFIX, Place
from control.steps import CHANGED, FOUND, KEPT, LEFT, MADE, MADE_BY, REMOVED, Row, Step, is_ours, or_none, patiently

RUNTIME = "python3.13"  # supported until June 2029
TIMEOUT_SECONDS = 900  # Lambda's most: a step takes seconds, reading the records of a million jobs minutes
# Lambda gives processor time by it, a whole core at this (its guide: «Configure Lambda function memory»). A run of a
# million jobs ends with thousands of listings read: with a third of a core that took most of TIMEOUT_SECONDS.
MEMORY_MB = 1769
LOG_GROUP = f"/aws/lambda/{MONITOR_FUNCTION}"
STATEMENT = "distributed-something-rules"
_KIND = "auto-monitor"
_MISSING = "ResourceNotFoundException"
_BUSY = "ResourceConflictException"  # the change before this one is still being made
_NEW_ROLE = "cannot be assumed"  # Lambda's words for a role that it does not know yet


def log_group(clients: Clients) -> Step:
    """Made before Lambda would, which keeps logs for ever."""
    found = _find_log_group(clients)
    keep = partial(clients.logs.put_retention_policy, logGroupName=LOG_GROUP, retentionInDays=RETENTION_DAYS)
    if found is not None and found.get("retentionInDays"):
        return Step(Row("log group", LOG_GROUP, FOUND))
    if found is not None:
        return Step(Row("log group", LOG_GROUP, CHANGED, f"kept {RETENTION_DAYS} days, no longer for ever"), keep)

    def make() -> None:
        clients.logs.create_log_group(logGroupName=LOG_GROUP, tags=dict([MADE_BY]))
        keep()

    return Step(Row("log group", LOG_GROUP, MADE), make)


def function(clients: Clients, place: Place, code: bytes, sleep: Callable[[float], None]) -> Step:
    """Makes the function, or brings its code and settings up to date."""
    found = _find(clients)
    wanted = _configuration(place)
    if found is None:
        return Step(Row(_KIND, MONITOR_FUNCTION, MADE), partial(_make, clients, wanted, code, sleep))
    if not is_ours(found.get("Tags")):
        return Step(Row(_KIND, MONITOR_FUNCTION, LEFT, "a function of this name that setupAWS did not make"))
    has = found["Configuration"]
    settings = {key: value for key, value in wanted.items() if key != "FunctionName" and has.get(key) != value}
    new_code = has["CodeSha256"] != bundle.digest(code)
    if not settings and not new_code:
        return Step(Row(_KIND, MONITOR_FUNCTION, FOUND))
    what = ", ".join([*(["its code"] if new_code else []), *settings])
    act = partial(_change, clients, settings, code if new_code else None, sleep)
    return Step(Row(_KIND, MONITOR_FUNCTION, CHANGED, what), act)


def permission(clients: Clients, place: Place) -> Step:
    """Lets EventBridge's rules of this account, with our names, call the function, and nobody else."""
    row = ("permission", f"{MONITOR_FUNCTION} for {RULE_PREFIX}* rules")
    found = _find(clients)
    if found is not None and not is_ours(found.get("Tags")):
        return Step(Row(*row, LEFT, "the function was not made by setupAWS"))
    answer = or_none(lambda: clients.lambda_.get_policy(FunctionName=MONITOR_FUNCTION), _MISSING)
    statements = json.loads(answer["Policy"])["Statement"] if answer else []
    there = next((one for one in statements if one.get("Sid") == STATEMENT), None)
    rules = place.arn("events", f"rule/{RULE_PREFIX}*", place.region)
    if there is not None and rules in json.dumps(there.get("Condition", {})):
        return Step(Row(*row, FOUND))

    def allow() -> None:
        if there is not None:
            clients.lambda_.remove_permission(FunctionName=MONITOR_FUNCTION, StatementId=STATEMENT)
        clients.lambda_.add_permission(
            FunctionName=MONITOR_FUNCTION,
            StatementId=STATEMENT,
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rules,
        )

    return Step(Row(*row, CHANGED if there is not None else MADE), allow)


def rules(clients: Clients, place: Place) -> list[str]:
    """The EventBridge rules that call the function: runs that go on."""
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        answer = clients.events.list_rule_names_by_target(TargetArn=place.function, **token)
        found += answer.get("RuleNames", [])
        if not answer.get("NextToken"):
            return found
        token = {"NextToken": answer["NextToken"]}


def end(clients: Clients) -> Iterator[Step]:
    """Deletes the function, with its policy, and its log group, where they are ours."""
    found = _find(clients)
    if found is not None and not is_ours(found.get("Tags")):
        yield Step(Row(_KIND, MONITOR_FUNCTION, KEPT, "not made by setupAWS"))
    elif found is not None:
        delete = partial(clients.lambda_.delete_function, FunctionName=MONITOR_FUNCTION)
        yield Step(Row(_KIND, MONITOR_FUNCTION, REMOVED), delete)
    group = _find_log_group(clients)
    if group is None:
        return
    arn = group["arn"].removesuffix(":*")  # tags are asked for without it
    if is_ours(clients.logs.list_tags_for_resource(resourceArn=arn)["tags"]):
        delete = partial(clients.logs.delete_log_group, logGroupName=LOG_GROUP)
        yield Step(Row("log group", LOG_GROUP, REMOVED), delete)
    else:
        yield Step(Row("log group", LOG_GROUP, KEPT, "not made by setupAWS"))


def _configuration(place: Place) -> dict[str, Any]:
    return {
        "FunctionName": MONITOR_FUNCTION,
        "Runtime": RUNTIME,
        "Role": place.role(MONITOR_ROLE),
        "Handler": bundle.HANDLER,
        "Timeout": TIMEOUT_SECONDS,
        "MemorySize": MEMORY_MB,
        "Description": "Watches runs of Distributed-Something and cleans up after them.",
    }


def _make(clients: Clients, wanted: dict[str, Any], code: bytes, sleep: Callable[[float], None]) -> None:
    call = partial(clients.lambda_.create_function, **wanted, Code={"ZipFile": code}, Tags=dict([MADE_BY]))
    patiently(call, _NEW_ROLE, sleep=sleep)


def _change(clients: Clients, settings: dict[str, Any], code: bytes | None, sleep: Callable[[float], None]) -> None:
    name = {"FunctionName": MONITOR_FUNCTION}
    if settings:
        call = partial(clients.lambda_.update_function_configuration, **name, **settings)
        patiently(call, _BUSY, _NEW_ROLE, sleep=sleep)
    if code is not None:
        patiently(partial(clients.lambda_.update_function_code, **name, ZipFile=code), _BUSY, sleep=sleep)


def _find(clients: Clients) -> Any | None:
    return or_none(lambda: clients.lambda_.get_function(FunctionName=MONITOR_FUNCTION), _MISSING)


def _find_log_group(clients: Clients) -> Any | None:
    """The log group of exactly this name."""
    pages = clients.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=LOG_GROUP)
    groups = (group for page in pages for group in page["logGroups"])
    return next((group for group in groups if group["logGroupName"] == LOG_GROUP), None)
