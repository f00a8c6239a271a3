"""The bucket's own rule that ends uploads which nobody completes: a worker that is killed leaves parts of a large file.

S3 keeps and bills them, and lists them nowhere where people look. The rule is AWS's own remedy; other rules of the
bucket stay. https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from distributed_something.aws.retry import none_if_missing
from distributed_something.core.errors import get_error_code, is_access_denied
from distributed_something.core.names import AwsAccount

LIFECYCLE_RULE_NAME = "distributed-something-incomplete-uploads"
INCOMPLETE_UPLOAD_DAYS = (
    7  # no upload of a worker lasts longer than a job may: 12 hours; other people's in the bucket may
)
LIFECYCLE_RULE = {
    "ID": LIFECYCLE_RULE_NAME,
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": INCOMPLETE_UPLOAD_DAYS},
}
LIFECYCLE_DENIED_ADVICE = (
    "this login may not read and change the bucket's rules: ask its owner for s3:GetLifecycleConfiguration and "
    "s3:PutLifecycleConfiguration, or for a rule that ends incomplete uploads"
)
MISSING_BUCKET_CODE = "NoSuchBucket"
MISSING_BUCKET_ADVICE = "there is no such bucket: make it, then type setupAWS again"
_build_row = partial(SetupRow, "bucket rule")


def plan_bucket_policy(clients: Clients, place: AwsAccount, bucket: str) -> SetupStep:
    """Adds to the bucket's own policy what the log export needs; every other statement stays."""
    row = partial(SetupRow, "bucket policy", bucket)
    try:
        current = _find_bucket_policy(clients, bucket)
    except ClientError as error:
        if get_error_code(error) != MISSING_BUCKET_CODE:
            raise
        return SetupStep(row(SetupState.LEFT, MISSING_BUCKET_ADVICE))
    ours = build_log_export_statements(place, bucket)
    wanted = merge_statements(current, ours)
    statements = current["Statement"] if current else []
    if current is not None and all(one in statements for one in ours):
        return SetupStep(row(SetupState.FOUND))
    note = f"log export; {len(wanted['Statement']) - len(ours)} other statements stay"
    return SetupStep(
        row(SetupState.CHANGED if current else SetupState.MADE, note),
        partial(_put_bucket_policy, clients, bucket, wanted),
    )


def _find_bucket_policy(clients: Clients, bucket: str) -> Any | None:
    answer = none_if_missing(lambda: clients.s3.get_bucket_policy(Bucket=bucket), "NoSuchBucketPolicy")
    return json.loads(answer["Policy"]) if answer else None


def _put_bucket_policy(clients: Clients, bucket: str, document: PolicyDocument) -> None:
    clients.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


def plan_bucket_policy_removal(clients: Clients, place: AwsAccount, bucket: str) -> Iterator[SetupStep]:
    current = none_if_missing(lambda: _find_bucket_policy(clients, bucket), MISSING_BUCKET_CODE)
    ours = build_log_export_statements(place, bucket)
    sids = {one["Sid"] for one in ours}
    if current is None:
        return
    others = remove_statements(current, ours)
    if others is not None and others["Statement"] == wrap_in_list(current["Statement"]):
        return
    row = SetupRow("bucket policy", bucket, SetupState.REMOVED, f"the statements {' and '.join(sorted(sids))}")
    if others is None:
        yield SetupStep(row, partial(clients.s3.delete_bucket_policy, Bucket=bucket))
    else:
        yield SetupStep(row, partial(_put_bucket_policy, clients, bucket, others))


def plan_lifecycle_rule(clients: Clients, bucket: str) -> SetupStep:
    """Adds the rule, if the bucket has none that does the same."""
    try:
        current = _describe_lifecycle(clients, bucket)
    except ClientError as error:
        if get_error_code(error) == MISSING_BUCKET_CODE:
            return SetupStep(_build_row(bucket, SetupState.LEFT, MISSING_BUCKET_ADVICE))
        if is_access_denied(error):
            return SetupStep(_build_row(bucket, SetupState.LEFT, LIFECYCLE_DENIED_ADVICE))
        raise
    rules = current.get("Rules", [])
    if any(_is_equivalent_rule(one) for one in rules):
        return SetupStep(_build_row(bucket, SetupState.FOUND))
    others = [one for one in rules if one.get("ID") != LIFECYCLE_RULE_NAME]
    note = f"parts of files whose upload was begun {INCOMPLETE_UPLOAD_DAYS} days ago and not completed are deleted"
    put = partial(_put_lifecycle, clients, bucket, current, [*others, LIFECYCLE_RULE])
    return SetupStep(
        _build_row(bucket, SetupState.CHANGED if rules else SetupState.MADE, note),
        put,
        if_denied=LIFECYCLE_DENIED_ADVICE,
    )


def plan_lifecycle_rule_removal(clients: Clients, bucket: str) -> Iterator[SetupStep]:
    """Takes the rule away."""
    try:
        current = _describe_lifecycle(clients, bucket)
    except ClientError as error:
        if get_error_code(error) == MISSING_BUCKET_CODE:
            return
        if not is_access_denied(error):
            raise
        yield SetupStep(_build_row(bucket, SetupState.LEFT, LIFECYCLE_DENIED_ADVICE))
        return
    rules = current.get("Rules", [])
    others = [one for one in rules if one.get("ID") != LIFECYCLE_RULE_NAME]
    if others == rules:
        return
    delete = partial(clients.s3.delete_bucket_lifecycle, Bucket=bucket)
    yield SetupStep(
        _build_row(bucket, SetupState.REMOVED),
        partial(_put_lifecycle, clients, bucket, current, others) if others else delete,
    )


def _is_equivalent_rule(one: dict[str, Any]) -> bool:
    """Whether a rule ends incomplete uploads in the whole bucket, in a week or less. Old rules have `Prefix` alone."""
    everywhere = one.get("Filter", {"Prefix": one.get("Prefix")}) in ({}, {"Prefix": ""})
    days = one.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation", INCOMPLETE_UPLOAD_DAYS + 1)
    return one.get("Status") == "Enabled" and everywhere and days <= INCOMPLETE_UPLOAD_DAYS


def _describe_lifecycle(clients: Clients, bucket: str) -> dict[str, Any]:
    ask = partial(clients.s3.get_bucket_lifecycle_configuration, Bucket=bucket)
    return none_if_missing(ask, "NoSuchLifecycleConfiguration") or {}


def _put_lifecycle(clients: Clients, bucket: str, current: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    """All rules at once: S3 replaces what there is."""
    smallest = "TransitionDefaultMinimumObjectSize"  # of the whole configuration; what is not said again is lost
    kept: Any = {smallest: current[smallest]} if smallest in current else {}
    wanted: Any = {"Rules": [_convert_old_rule(one) for one in rules]}
    clients.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=wanted, **kept)


def _convert_old_rule(one: dict[str, Any]) -> dict[str, Any]:
    """S3 refuses rules with a `Prefix`, as older tools write them, beside rules with a `Filter`; both say the same."""
    if "Filter" in one:
        return one
    rest = {key: value for key, value in one.items() if key != "Prefix"}
    return rest | {"Filter": {"Prefix": one.get("Prefix", "")}}
