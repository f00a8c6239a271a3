"""The auto-monitor's Lambda function, its log group, and who may call it.

An EventBridge rule a run wakes it: a rule needs no role of its own and hands none on (EventBridge's Scheduler needs
both), carries the app's tag, is found by the function that it calls, and is deleted by name. So the account needs
nothing for it but a line in the function's own policy.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from distributed_something.account.step import SetupRow, SetupState, SetupStep
from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import LOG_RETENTION_DAYS
from distributed_something.aws.retry import none_if_missing, retry_until_consistent
from distributed_something.core.names import MONITOR_FUNCTION, MONITOR_ROLE, RULE_NAME_PREFIX, AwsAccount
from distributed_something.core.tags import MADE_BY_TAG, has_made_by_tag

LAMBDA_RUNTIME = "python3.13"  # supported until June 2029
LAMBDA_TIMEOUT_SECONDS = 900  # Lambda's most: a step takes seconds, reading the records of a million jobs minutes
# Lambda gives processor time by it, a whole core at this (its guide: «Configure Lambda function memory»). A run of a
# million jobs ends with thousands of listings read: with a third of a core that took most of TIMEOUT_SECONDS.
LAMBDA_MEMORY_MB = 1769
LAMBDA_HANDLER = "distributed_something.run.auto_monitor.handler"
BUNDLED_PACKAGES = ("aws", "core", "fleet", "observe", "results", "run", "worker")  # `run` and all that it imports
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # of a zip's file; the dates of files say when they were cloned
_FILE_MODE = 0o644 << 16  # Lambda runs as a user of its own
_UNIX_SYSTEM = 3
MONITOR_LOG_GROUP = f"/aws/lambda/{MONITOR_FUNCTION}"
RULES_STATEMENT_ID = "distributed-something-rules"
_ROW_KIND = "auto-monitor"
_MISSING_CODE = "ResourceNotFoundException"
_BUSY_CODE = "ResourceConflictException"  # the change before this one is still being made
_NEW_ROLE_PHRASE = "cannot be assumed"  # of a role that Lambda does not know yet; the code is that of any wrong value


def plan_monitor_log_group(clients: Clients) -> SetupStep:
    """Made before Lambda would, which keeps logs for ever."""
    row = partial(SetupRow, "log group", MONITOR_LOG_GROUP)
    found = _find_log_group(clients)
    keep = partial(
        clients.logs.put_retention_policy, logGroupName=MONITOR_LOG_GROUP, retentionInDays=LOG_RETENTION_DAYS
    )
    if found is not None and found.get("retentionInDays"):
        return SetupStep(row(SetupState.FOUND))
    if found is not None:
        return SetupStep(row(SetupState.CHANGED, f"kept {LOG_RETENTION_DAYS} days, no longer for ever"), keep)

    def make() -> None:
        clients.logs.create_log_group(logGroupName=MONITOR_LOG_GROUP, tags=MADE_BY_TAG)
        keep()

    return SetupStep(row(SetupState.MADE), make)


def plan_monitor_function(
    clients: Clients, place: AwsAccount, code: bytes, sleep: Callable[[float], None]
) -> SetupStep:
    """Makes the function, or brings its code and settings up to date."""
    row = partial(SetupRow, _ROW_KIND, MONITOR_FUNCTION)
    found = _find_function(clients)
    wanted = build_function_configuration(place)
    if found is None:
        return SetupStep(row(SetupState.MADE), partial(_create_function, clients, wanted, code, sleep))
    if not has_made_by_tag(found.get("Tags")):
        return SetupStep(row(SetupState.LEFT, "a function of this name that setupAWS did not make"))
    has = found["Configuration"]
    settings = {key: value for key, value in wanted.items() if key != "FunctionName" and has.get(key) != value}
    new_code = has["CodeSha256"] != hash_bundle(code)
    if not settings and not new_code:
        return SetupStep(row(SetupState.FOUND))
    what = ", ".join([*(["its code"] if new_code else []), *settings])
    act = partial(_update_function, clients, settings, code if new_code else None, sleep)
    return SetupStep(row(SetupState.CHANGED, what), act)


def plan_monitor_permission(clients: Clients, place: AwsAccount) -> SetupStep:
    """Lets EventBridge's rules of this account, with our names, call the function, and nobody else."""
    row = partial(SetupRow, "permission", f"{MONITOR_FUNCTION} for {RULE_NAME_PREFIX}* rules")
    found = _find_function(clients)
    if found is not None and not has_made_by_tag(found.get("Tags")):
        return SetupStep(row(SetupState.LEFT, "the function was not made by setupAWS"))
    answer = none_if_missing(lambda: clients.lambda_.get_policy(FunctionName=MONITOR_FUNCTION), _MISSING_CODE)
    statements = json.loads(answer["Policy"])["Statement"] if answer else []
    there = next((one for one in statements if one.get("Sid") == RULES_STATEMENT_ID), None)
    rules = place.arn("events", f"rule/{RULE_NAME_PREFIX}*", place.region)
    if there is not None and any(rules in condition.values() for condition in there.get("Condition", {}).values()):
        return SetupStep(row(SetupState.FOUND))

    def allow() -> None:
        if there is not None:
            clients.lambda_.remove_permission(FunctionName=MONITOR_FUNCTION, StatementId=RULES_STATEMENT_ID)
        clients.lambda_.add_permission(
            FunctionName=MONITOR_FUNCTION,
            StatementId=RULES_STATEMENT_ID,
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rules,
        )

    return SetupStep(row(SetupState.CHANGED if there is not None else SetupState.MADE), allow)


def list_monitor_rules(clients: Clients, place: AwsAccount) -> list[str]:
    """The EventBridge rules that call the function: runs that go on."""
    pages = clients.events.get_paginator("list_rule_names_by_target").paginate(TargetArn=place.function)
    return [name for page in pages for name in page.get("RuleNames", [])]


def plan_monitor_removal(clients: Clients) -> Iterator[SetupStep]:
    """Deletes the function, with its policy, and its log group, where they are ours."""
    found = _find_function(clients)
    if found is not None and not has_made_by_tag(found.get("Tags")):
        yield SetupStep(SetupRow(_ROW_KIND, MONITOR_FUNCTION, SetupState.KEPT, "not made by setupAWS"))
    elif found is not None:
        delete = partial(clients.lambda_.delete_function, FunctionName=MONITOR_FUNCTION)
        yield SetupStep(SetupRow(_ROW_KIND, MONITOR_FUNCTION, SetupState.REMOVED), delete)
    group = _find_log_group(clients)
    if group is None:
        return
    arn = group["arn"].removesuffix(":*")  # tags are asked for without it
    if has_made_by_tag(clients.logs.list_tags_for_resource(resourceArn=arn)["tags"]):
        delete = partial(clients.logs.delete_log_group, logGroupName=MONITOR_LOG_GROUP)
        yield SetupStep(SetupRow("log group", MONITOR_LOG_GROUP, SetupState.REMOVED), delete)
    else:
        yield SetupStep(SetupRow("log group", MONITOR_LOG_GROUP, SetupState.KEPT, "not made by setupAWS"))


def build_function_configuration(place: AwsAccount) -> dict[str, Any]:
    return {
        "FunctionName": MONITOR_FUNCTION,
        "Runtime": LAMBDA_RUNTIME,
        "Role": place.role(MONITOR_ROLE),
        "Handler": LAMBDA_HANDLER,
        "Timeout": LAMBDA_TIMEOUT_SECONDS,
        "MemorySize": LAMBDA_MEMORY_MB,
        "Description": "Watches runs of Distributed-Something and cleans up after them.",
    }


def _create_function(clients: Clients, wanted: dict[str, Any], code: bytes, sleep: Callable[[float], None]) -> None:
    call = partial(clients.lambda_.create_function, **wanted, Code={"ZipFile": code}, Tags=MADE_BY_TAG)
    retry_until_consistent(call, phrases=[_NEW_ROLE_PHRASE], sleep=sleep)


def _update_function(
    clients: Clients, settings: dict[str, Any], code: bytes | None, sleep: Callable[[float], None]
) -> None:
    name = {"FunctionName": MONITOR_FUNCTION}
    if settings:
        call = partial(clients.lambda_.update_function_configuration, **name, **settings)
        retry_until_consistent(call, _BUSY_CODE, phrases=[_NEW_ROLE_PHRASE], sleep=sleep)
    if code is not None:
        retry_until_consistent(
            partial(clients.lambda_.update_function_code, **name, ZipFile=code), _BUSY_CODE, sleep=sleep
        )


def _find_function(clients: Clients) -> Any | None:
    return none_if_missing(lambda: clients.lambda_.get_function(FunctionName=MONITOR_FUNCTION), _MISSING_CODE)


def _find_log_group(clients: Clients) -> Any | None:
    """The log group of exactly this name."""
    pages = clients.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=MONITOR_LOG_GROUP)
    groups = (group for page in pages for group in page["logGroups"])
    return next((group for group in groups if group["logGroupName"] == MONITOR_LOG_GROUP), None)


def iter_bundle_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name in the zip and content of every Python file, sorted by name."""
    package = root / "distributed_something"
    found = [package / "__init__.py"]
    found += (path for name in BUNDLED_PACKAGES for path in (package / name).rglob("*.py"))
    for path in sorted(found, key=lambda path: path.relative_to(root).as_posix()):
        # A checkout may have written other line ends than the repository holds.
        yield path.relative_to(root).as_posix(), path.read_bytes().replace(b"\r\n", b"\n")


def build_bundle(root: Path) -> bytes:
    """The zip of the project at `root`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in iter_bundle_files(root):
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.external_attr, entry.create_system = _FILE_MODE, _UNIX_SYSTEM
            archive.writestr(entry, content)  # stored: compressed bytes differ between versions of zlib
    return buffer.getvalue()


def hash_bundle(content: bytes) -> str:
    """What Lambda calls CodeSha256."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
