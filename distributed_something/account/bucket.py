"""The bucket policy for the log export, and the lifecycle rule for incomplete uploads.

If a worker is killed while it uploads a large file, S3 keeps the uploaded parts and bills for them, but does not list
them with the bucket's objects. The lifecycle rule deletes these parts. The bucket's other statements and rules do not
change.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.account.policies import build_log_export_statements
from distributed_something.account.policy_documents import (
    PolicyDocument,
    merge_statements,
    remove_statements,
    wrap_in_list,
)
from distributed_something.account.step import (
    SetupRow,
    SetupState,
    SetupStep,
)
from distributed_something.aws.clients import Clients
from distributed_something.aws.retry import none_if_missing, retry_until_consistent
from distributed_something.core.errors import get_error_code, is_access_denied
from distributed_something.core.names import AwsAccount

LIFECYCLE_RULE_NAME = "distributed-something-incomplete-uploads"
# A worker's upload ends within 12 hours, the longest a job may take. Other users of the bucket may need longer.
INCOMPLETE_UPLOAD_DAYS = 7
LIFECYCLE_RULE = {
    "ID": LIFECYCLE_RULE_NAME,
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": INCOMPLETE_UPLOAD_DAYS},
}
LIFECYCLE_DENIED_ADVICE = (
    "you are not allowed to read and change lifecycle rules; ask the bucket's owner for s3:GetLifecycleConfiguration "
    "and s3:PutLifecycleConfiguration, or for a rule that deletes incomplete uploads"
)
POLICY_DENIED_ADVICE = (
    "you are not allowed to read and change the bucket policy, which the log export needs; ask the bucket's owner for "
    "s3:GetBucketPolicy and s3:PutBucketPolicy"
)
# S3 reports that a bucket has no policy only to users who may read it. To others it answers that access is denied and,
# if another account owns the bucket, that the method is not allowed.
FOREIGN_BUCKET_CODE = "MethodNotAllowed"
_BUSY_CODE = "OperationAborted"  # another change of the bucket is in progress
MISSING_BUCKET_CODE = "NoSuchBucket"
MISSING_BUCKET_ADVICE = "the bucket does not exist; create it, then run setupAWS again"
_build_row = partial(SetupRow, "bucket rule")


def plan_bucket_policy(clients: Clients, account: AwsAccount, bucket: str, sleep: Callable[[float], None]) -> SetupStep:
    """Plan to add the statements for the log export to the bucket policy. All other statements stay unchanged."""
    row = partial(SetupRow, "bucket policy", bucket)
    try:
        current = _find_bucket_policy(clients, bucket)
    except ClientError as error:
        if get_error_code(error) == MISSING_BUCKET_CODE:
            return SetupStep(row(SetupState.NOT_DONE, MISSING_BUCKET_ADVICE))
        if is_policy_hidden(error):
            return SetupStep(row(SetupState.NOT_DONE, POLICY_DENIED_ADVICE))
        raise
    ours = build_log_export_statements(account, bucket)
    merged = merge_statements(current, ours)
    statements = current["Statement"] if current else []
    if current is not None and all(statement in statements for statement in ours):
        return SetupStep(row(SetupState.EXISTS))
    note = f"for the log export; other statements kept: {len(merged['Statement']) - len(ours)}"
    return SetupStep(
        row(SetupState.CHANGED if current else SetupState.CREATED, note),
        partial(_put_bucket_policy, clients, bucket, merged, sleep),
        denied_note=POLICY_DENIED_ADVICE,
    )


def is_policy_hidden(error: BaseException) -> bool:
    """Return whether S3 does not tell the user if the bucket has a policy."""
    return is_access_denied(error) or get_error_code(error) == FOREIGN_BUCKET_CODE


def _find_bucket_policy(clients: Clients, bucket: str) -> Any | None:
    response = none_if_missing(lambda: clients.s3.get_bucket_policy(Bucket=bucket), "NoSuchBucketPolicy")
    return json.loads(response["Policy"]) if response else None


def _put_bucket_policy(clients: Clients, bucket: str, document: PolicyDocument, sleep: Callable[[float], None]) -> None:
    put_policy = partial(clients.s3.put_bucket_policy, Bucket=bucket, Policy=json.dumps(document))
    retry_until_consistent(put_policy, _BUSY_CODE, sleep=sleep)


def plan_bucket_policy_removal(
    clients: Clients, account: AwsAccount, bucket: str, sleep: Callable[[float], None]
) -> Iterator[SetupStep]:
    """Plan to remove our statements from the bucket policy, or to delete the policy if it has no other statements."""
    try:
        current = none_if_missing(lambda: _find_bucket_policy(clients, bucket), MISSING_BUCKET_CODE)
    except ClientError as error:
        if not is_policy_hidden(error):
            raise
        yield SetupStep(SetupRow("bucket policy", bucket, SetupState.NOT_DONE, POLICY_DENIED_ADVICE))
        return
    ours = build_log_export_statements(account, bucket)
    sids = {statement["Sid"] for statement in ours}
    if current is None:
        return
    others = remove_statements(current, ours)
    if others is not None and others["Statement"] == wrap_in_list(current["Statement"]):
        return
    row = SetupRow("bucket policy", bucket, SetupState.REMOVED, f"statements {' and '.join(sorted(sids))}")
    if others is None:
        yield SetupStep(row, partial(clients.s3.delete_bucket_policy, Bucket=bucket))
    else:
        yield SetupStep(row, partial(_put_bucket_policy, clients, bucket, others, sleep))


def plan_lifecycle_rule(clients: Clients, bucket: str, sleep: Callable[[float], None]) -> SetupStep:
    """Plan to add the rule for incomplete uploads, unless the bucket already has a rule with the same effect."""
    try:
        current = _describe_lifecycle(clients, bucket)
    except ClientError as error:
        if get_error_code(error) == MISSING_BUCKET_CODE:
            return SetupStep(_build_row(bucket, SetupState.NOT_DONE, MISSING_BUCKET_ADVICE))
        if is_access_denied(error):
            return SetupStep(_build_row(bucket, SetupState.NOT_DONE, LIFECYCLE_DENIED_ADVICE))
        raise
    rules = current.get("Rules", [])
    if any(_is_equivalent_rule(rule) for rule in rules):
        return SetupStep(_build_row(bucket, SetupState.EXISTS))
    others = [rule for rule in rules if rule.get("ID") != LIFECYCLE_RULE_NAME]
    note = f"deletes parts of uploads that are still incomplete after {INCOMPLETE_UPLOAD_DAYS} days"
    put = partial(_put_lifecycle, clients, bucket, current, [*others, LIFECYCLE_RULE], sleep)
    return SetupStep(
        _build_row(bucket, SetupState.CHANGED if rules else SetupState.CREATED, note),
        put,
        denied_note=LIFECYCLE_DENIED_ADVICE,
    )


def plan_lifecycle_rule_removal(clients: Clients, bucket: str, sleep: Callable[[float], None]) -> Iterator[SetupStep]:
    """Plan to delete our rule for incomplete uploads. Other rules are kept."""
    try:
        current = _describe_lifecycle(clients, bucket)
    except ClientError as error:
        if get_error_code(error) == MISSING_BUCKET_CODE:
            return
        if not is_access_denied(error):
            raise
        yield SetupStep(_build_row(bucket, SetupState.NOT_DONE, LIFECYCLE_DENIED_ADVICE))
        return
    rules = current.get("Rules", [])
    others = [rule for rule in rules if rule.get("ID") != LIFECYCLE_RULE_NAME]
    if others == rules:
        return
    delete = partial(clients.s3.delete_bucket_lifecycle, Bucket=bucket)
    yield SetupStep(
        _build_row(bucket, SetupState.REMOVED),
        partial(_put_lifecycle, clients, bucket, current, others, sleep) if others else delete,
    )


def _is_equivalent_rule(rule: dict[str, Any]) -> bool:
    """Return whether the rule deletes incomplete uploads in the entire bucket within a week.

    Old rules have `Prefix` instead of `Filter`.
    """
    is_bucket_wide = rule.get("Filter", {"Prefix": rule.get("Prefix")}) in ({}, {"Prefix": ""})
    days = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation", INCOMPLETE_UPLOAD_DAYS + 1)
    return rule.get("Status") == "Enabled" and is_bucket_wide and days <= INCOMPLETE_UPLOAD_DAYS


def _describe_lifecycle(clients: Clients, bucket: str) -> dict[str, Any]:
    request = partial(clients.s3.get_bucket_lifecycle_configuration, Bucket=bucket)
    return none_if_missing(request, "NoSuchLifecycleConfiguration") or {}


def _put_lifecycle(
    clients: Clients,
    bucket: str,
    current: dict[str, Any],
    rules: list[dict[str, Any]],
    sleep: Callable[[float], None],
) -> None:
    """Replace the entire lifecycle configuration; S3 cannot update individual rules."""
    size_key = "TransitionDefaultMinimumObjectSize"  # S3 resets this setting unless it is sent again
    current_size: Any = {size_key: current[size_key]} if size_key in current else {}
    configuration: Any = {"Rules": [_convert_old_rule(rule) for rule in rules]}
    put_rules = partial(
        clients.s3.put_bucket_lifecycle_configuration,
        Bucket=bucket,
        LifecycleConfiguration=configuration,
        **current_size,
    )
    retry_until_consistent(put_rules, _BUSY_CODE, sleep=sleep)


def _convert_old_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """Return the rule with a `Filter` instead of the `Prefix` that older tools write.

    Both mean the same, but S3 rejects a configuration that mixes them.
    """
    if "Filter" in rule:
        return rule
    other_keys = {key: value for key, value in rule.items() if key != "Prefix"}
    return other_keys | {"Filter": {"Prefix": rule.get("Prefix", "")}}
