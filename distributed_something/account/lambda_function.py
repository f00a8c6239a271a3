"""The auto-monitor's Lambda function, its log group, and the permission to call it.

Each run has an EventBridge rule that calls the function once a minute. Rules suit this purpose better than
EventBridge Scheduler: a rule needs no role, has the app's tag, can be looked up by the function it calls, and can be
deleted by name. A single statement in the function's own policy lets all rules call it.
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
from distributed_something.aws.cloudwatch_logs import LOG_RETENTION_DAYS, set_log_retention
from distributed_something.aws.retry import none_if_missing, retry_until_consistent
from distributed_something.core.names import MONITOR_FUNCTION, MONITOR_ROLE, RULE_NAME_PREFIX, AwsAccount
from distributed_something.core.tags import MADE_BY_TAG, has_made_by_tag

LAMBDA_RUNTIME = "python3.13"  # AWS supports it until June 2029
# Lambda's maximum. A monitoring step takes seconds, but reading the records of a million jobs takes minutes.
LAMBDA_TIMEOUT_SECONDS = 900
# Lambda allocates CPU power in proportion to memory; this much memory comes with one full core (Lambda guide,
# "Configure Lambda function memory"). When a run with a million jobs ends, the function reads thousands of listings.
# With a third of a core, that took most of LAMBDA_TIMEOUT_SECONDS.
LAMBDA_MEMORY_MB = 1769
LAMBDA_HANDLER = "distributed_something.run.auto_monitor.handler"
BUNDLED_PACKAGES = ("aws", "core", "fleet", "observe", "results", "run", "worker")  # `run` and everything it imports
_CODE_SUFFIXES = (".py", ".css", ".js")  # the report of a run has a style and a script
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # constant, because a file's own date depends on when it was cloned
_FILE_MODE = 0o644 << 16  # readable by everyone, because Lambda runs the code as a different user
_UNIX_SYSTEM = 3
MONITOR_LOG_GROUP = f"/aws/lambda/{MONITOR_FUNCTION}"
RULES_STATEMENT_ID = "distributed-something-rules"
_ROW_KIND = "auto-monitor"
_MISSING_CODE = "ResourceNotFoundException"
_BUSY_CODE = "ResourceConflictException"  # the previous change is still in progress
# The role is too new for Lambda. The error code is the same for every invalid value.
_NEW_ROLE_ERROR = ("InvalidParameterValueException", "cannot be assumed")


def plan_monitor_log_group(clients: Clients, sleep: Callable[[float], None]) -> SetupStep:
    """Plan to create the function's log group, or to set its retention.

    If Lambda created the log group itself, CloudWatch would keep the logs forever.
    """
    row = partial(SetupRow, "log group", MONITOR_LOG_GROUP)
    group = _find_log_group(clients)
    set_retention = partial(set_log_retention, clients.logs, MONITOR_LOG_GROUP, sleep)
    if group is not None and group.get("retentionInDays"):
        return SetupStep(row(SetupState.EXISTS))
    if group is not None:
        note = f"logs are now deleted after {LOG_RETENTION_DAYS} days"
        return SetupStep(row(SetupState.CHANGED, note), set_retention)

    def create_log_group() -> None:
        clients.logs.create_log_group(logGroupName=MONITOR_LOG_GROUP, tags=MADE_BY_TAG)
        set_retention()

    return SetupStep(row(SetupState.CREATED), create_log_group)


def plan_monitor_function(
    clients: Clients, account: AwsAccount, code: bytes, sleep: Callable[[float], None]
) -> SetupStep:
    """Plan to create the function, or to update its code and settings. `code`: the zip file from `build_bundle`."""
    row = partial(SetupRow, _ROW_KIND, MONITOR_FUNCTION)
    function = _find_function(clients)
    configuration = build_function_configuration(account)
    if function is None:
        return SetupStep(row(SetupState.CREATED), partial(_create_function, clients, configuration, code, sleep))
    if not has_made_by_tag(function.get("Tags")):
        return SetupStep(row(SetupState.NOT_DONE, "the function already exists, but setupAWS did not create it"))
    current = function["Configuration"]
    settings = {
        key: value for key, value in configuration.items() if key != "FunctionName" and current.get(key) != value
    }
    has_new_code = current["CodeSha256"] != hash_bundle(code)
    if not settings and not has_new_code:
        return SetupStep(row(SetupState.EXISTS))
    changes = ", ".join([*(["code"] if has_new_code else []), *settings])
    act = partial(_update_function, clients, settings, code if has_new_code else None, sleep)
    return SetupStep(row(SetupState.CHANGED, changes), act)


def plan_monitor_permission(clients: Clients, account: AwsAccount, sleep: Callable[[float], None]) -> SetupStep:
    """Plan to let this account's EventBridge rules call the function if their names begin with RULE_NAME_PREFIX."""
    row = partial(SetupRow, "permission", f"{MONITOR_FUNCTION} for {RULE_NAME_PREFIX}* rules")
    function = _find_function(clients)
    if function is not None and not has_made_by_tag(function.get("Tags")):
        return SetupStep(row(SetupState.NOT_DONE, "setupAWS did not create the function"))
    response = none_if_missing(lambda: clients.lambda_.get_policy(FunctionName=MONITOR_FUNCTION), _MISSING_CODE)
    statements = json.loads(response["Policy"])["Statement"] if response else []
    current = next((statement for statement in statements if statement.get("Sid") == RULES_STATEMENT_ID), None)
    rules_arn = account.arn("events", f"rule/{RULE_NAME_PREFIX}*", account.region)
    conditions = current.get("Condition", {}).values() if current is not None else ()
    if any(rules_arn in condition.values() for condition in conditions):
        return SetupStep(row(SetupState.EXISTS))

    def allow_rules() -> None:
        if current is not None:
            clients.lambda_.remove_permission(FunctionName=MONITOR_FUNCTION, StatementId=RULES_STATEMENT_ID)
        add_permission = partial(
            clients.lambda_.add_permission,
            FunctionName=MONITOR_FUNCTION,
            StatementId=RULES_STATEMENT_ID,
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rules_arn,
        )
        retry_until_consistent(add_permission, _MISSING_CODE, _BUSY_CODE, sleep=sleep)  # the function may be new

    return SetupStep(row(SetupState.CHANGED if current is not None else SetupState.CREATED), allow_rules)


def list_monitor_rules(clients: Clients, account: AwsAccount) -> list[str]:
    """Return the names of the EventBridge rules that call the function: one per active run."""
    pages = clients.events.get_paginator("list_rule_names_by_target").paginate(TargetArn=account.function)
    return [name for page in pages for name in page.get("RuleNames", [])]


def plan_monitor_removal(clients: Clients) -> Iterator[SetupStep]:
    """Plan to delete the function (including its policy) and its log group, each only if setupAWS created it."""
    function = _find_function(clients)
    if function is not None and not has_made_by_tag(function.get("Tags")):
        yield SetupStep(SetupRow(_ROW_KIND, MONITOR_FUNCTION, SetupState.KEPT, "not created by setupAWS"))
    elif function is not None:
        delete = partial(clients.lambda_.delete_function, FunctionName=MONITOR_FUNCTION)
        yield SetupStep(SetupRow(_ROW_KIND, MONITOR_FUNCTION, SetupState.REMOVED), delete)
    group = _find_log_group(clients)
    if group is None:
        return
    arn = group["arn"].removesuffix(":*")  # the tagging calls expect the ARN without this ending
    if has_made_by_tag(clients.logs.list_tags_for_resource(resourceArn=arn)["tags"]):
        delete = partial(clients.logs.delete_log_group, logGroupName=MONITOR_LOG_GROUP)
        yield SetupStep(SetupRow("log group", MONITOR_LOG_GROUP, SetupState.REMOVED), delete)
    else:
        yield SetupStep(SetupRow("log group", MONITOR_LOG_GROUP, SetupState.KEPT, "not created by setupAWS"))


def build_function_configuration(account: AwsAccount) -> dict[str, Any]:
    """Return the function's settings in the form that CreateFunction expects."""
    return {
        "FunctionName": MONITOR_FUNCTION,
        "Runtime": LAMBDA_RUNTIME,
        "Role": account.role(MONITOR_ROLE),
        "Handler": LAMBDA_HANDLER,
        "Timeout": LAMBDA_TIMEOUT_SECONDS,
        "MemorySize": LAMBDA_MEMORY_MB,
        "Description": "Watches runs of Distributed-Something and cleans up after them.",
    }


def _create_function(
    clients: Clients, configuration: dict[str, Any], code: bytes, sleep: Callable[[float], None]
) -> None:
    call = partial(clients.lambda_.create_function, **configuration, Code={"ZipFile": code}, Tags=MADE_BY_TAG)
    retry_until_consistent(call, _NEW_ROLE_ERROR, sleep=sleep)


def _update_function(
    clients: Clients, settings: dict[str, Any], code: bytes | None, sleep: Callable[[float], None]
) -> None:
    name = {"FunctionName": MONITOR_FUNCTION}
    if settings:
        call = partial(clients.lambda_.update_function_configuration, **name, **settings)
        retry_until_consistent(call, _BUSY_CODE, _NEW_ROLE_ERROR, sleep=sleep)
    if code is not None:
        retry_until_consistent(
            partial(clients.lambda_.update_function_code, **name, ZipFile=code), _BUSY_CODE, sleep=sleep
        )


def _find_function(clients: Clients) -> Any | None:
    return none_if_missing(lambda: clients.lambda_.get_function(FunctionName=MONITOR_FUNCTION), _MISSING_CODE)


def _find_log_group(clients: Clients) -> Any | None:
    pages = clients.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=MONITOR_LOG_GROUP)
    groups = (group for page in pages for group in page["logGroups"])
    return next((group for group in groups if group["logGroupName"] == MONITOR_LOG_GROUP), None)


def iter_bundle_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name in the zip, content) for every file of the code, sorted by name. `root`: the project's folder."""
    package = root / "distributed_something"
    paths = [package / "__init__.py"]
    paths += (
        path for name in BUNDLED_PACKAGES for path in (package / name).rglob("*") if path.suffix in _CODE_SUFFIXES
    )
    for path in sorted(paths, key=lambda path: path.relative_to(root).as_posix()):
        # Git may have converted line endings at checkout, but the same code must produce the same bytes everywhere.
        yield path.relative_to(root).as_posix(), path.read_bytes().replace(b"\r\n", b"\n")


def build_bundle(root: Path) -> bytes:
    """Return the function's code as a zip file, built from the project in the folder `root`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in iter_bundle_files(root):
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.external_attr, entry.create_system = _FILE_MODE, _UNIX_SYSTEM
            archive.writestr(entry, content)  # uncompressed, because compressed bytes differ between versions of zlib
    return buffer.getvalue()


def hash_bundle(content: bytes) -> str:
    """Return the SHA-256 digest encoded in base64, as in Lambda's CodeSha256."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
