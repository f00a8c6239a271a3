"""Tests for the check of the bucket policy: whether CloudWatch Logs may write a run's logs to the bucket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distributed_something.account.policies import build_log_export_statements
from distributed_something.account.policy_documents import merge_statements
from distributed_something.core.names import AwsAccount
from distributed_something.diagnose.check.account import check_log_export, judge_log_export
from distributed_something.diagnose.check.findings import Finding, FindingLevel
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.diagnose.check.permissions.resource_policy import PolicyVerdict
from tests.support.account import emulate_account
from tests.support.fakes import SETTINGS

ACCOUNT = AwsAccount("111122223333", "us-east-1")
BUCKET, OBJECTS = f"arn:aws:s3:::{SETTINGS.AWS_BUCKET}", f"arn:aws:s3:::{SETTINGS.AWS_BUCKET}/*"
BOTH, BOTH_ACTIONS = [BUCKET, OBJECTS], ["s3:GetBucketAcl", "s3:PutObject"]
LOGS = {"Service": "logs.us-east-1.amazonaws.com"}
INSECURE = {"Bool": {"aws:SecureTransport": "false"}}
ALLOWED, DENIED, NOT_ALLOWED, UNKNOWN = (
    PolicyVerdict.ALLOWED, PolicyVerdict.DENIED, PolicyVerdict.NOT_ALLOWED, PolicyVerdict.UNKNOWN,
)  # fmt: skip


def allow(action: Any = "*", resource: Any = "*", principal: Any = LOGS, **others: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, "Resource": resource} | others


def deny(action: Any = "*", resource: Any = "*", principal: Any = "*", **others: Any) -> dict[str, Any]:
    return allow(action, resource, principal, **others) | {"Effect": "Deny"}


def judge(*statements: dict[str, Any]) -> PolicyVerdict:
    return judge_log_export({"Statement": list(statements)}, ACCOUNT, SETTINGS)


def drop(statement: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in statement.items() if name != key}


@pytest.mark.parametrize(
    ("action", "resource", "verdict"),
    [
        (BOTH_ACTIONS, BOTH, ALLOWED),
        (["s3:Put*", "s3:Get*"], BOTH, ALLOWED),
        (["S3:PUTOBJECT", "s3:getbucketacl"], BOTH, ALLOWED),
        ("s3:*", "*", ALLOWED),
        (["s3:PutObjec?", "s3:GetBucketAcl"], "arn:aws:s3:::*", ALLOWED),
        (BOTH_ACTIONS, [BUCKET, f"{BUCKET}/exportedlogs/*"], ALLOWED),
        (BOTH_ACTIONS, [BUCKET, f"{BUCKET}/exportedlogs/{SETTINGS.APP_NAME}/*"], ALLOWED),
        (BOTH_ACTIONS, [BUCKET, f"{BUCKET}/[a-z]*"], NOT_ALLOWED),
        ("s3:PutObject", BOTH, NOT_ALLOWED),
        (["s3:PutObjectAcl", "s3:GetBucketAcl"], BOTH, NOT_ALLOWED),
        (BOTH_ACTIONS, BUCKET, NOT_ALLOWED),
        (BOTH_ACTIONS, OBJECTS, NOT_ALLOWED),
        (BOTH_ACTIONS, [BUCKET, f"{BUCKET}/other/*"], NOT_ALLOWED),
        (BOTH_ACTIONS, ["arn:aws:s3:::other", "arn:aws:s3:::other/*"], NOT_ALLOWED),
        (BOTH_ACTIONS, [BUCKET, f"{BUCKET}/${{aws:username}}/*"], UNKNOWN),
    ],
)
def test_actions_and_resources_may_have_wildcards_and_must_be_those_of_the_log_export(
    action: Any, resource: Any, verdict: PolicyVerdict
) -> None:
    assert judge(allow(action, resource)) is verdict


def test_two_statements_may_allow_it_together() -> None:
    assert judge(allow("s3:GetBucketAcl", BUCKET), allow("s3:PutObject", OBJECTS)) is ALLOWED


@pytest.mark.parametrize(
    ("principal", "verdict"),
    [
        ("*", ALLOWED),
        ({"AWS": "*"}, ALLOWED),
        ({"Service": ["ec2.amazonaws.com", "logs.amazonaws.com"]}, ALLOWED),
        ({"Service": "logs.eu-west-1.amazonaws.com"}, NOT_ALLOWED),
        ({"AWS": "arn:aws:iam::111122223333:root"}, NOT_ALLOWED),
    ],
)
def test_the_principal_must_be_cloudwatch_logs_in_this_region(principal: Any, verdict: PolicyVerdict) -> None:
    assert judge(allow(principal=principal)) is verdict


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        (deny(), DENIED),
        (deny("s3:Put*", f"{BUCKET}/exportedlogs/*"), DENIED),
        (deny("s3:GetBucketAcl", BUCKET, LOGS), DENIED),
        (deny("s3:DeleteObject", OBJECTS), ALLOWED),
        (deny("s3:*", "arn:aws:s3:::other/*"), ALLOWED),
        (deny(principal={"AWS": "arn:aws:iam::111122223333:user/x"}), ALLOWED),
        (deny(Condition=INSECURE), ALLOWED),  # AWS's services use TLS
        (deny(Condition={"Bool": {"aws:SecureTransport": True}}), DENIED),
        (deny(Condition={"StringNotEquals": {"aws:SourceAccount": "111122223333"}}), ALLOWED),
        (deny(Condition={"StringNotEquals": {"aws:SourceAccount": ["999900001111"]}}), DENIED),
        (deny(Condition={"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}), ALLOWED),
        (deny(Condition={"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}), UNKNOWN),
        (deny(Condition={"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}}), UNKNOWN),
        (deny(Condition={"Null": {"aws:SourceAccount": "false"}}), UNKNOWN),
        (deny(Condition=INSECURE | {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}), ALLOWED),  # both must hold
        (drop(deny(), "Action") | {"NotAction": "s3:Get*"}, UNKNOWN),
        (drop(deny(), "Principal") | {"NotPrincipal": LOGS}, UNKNOWN),
        (drop(deny(), "Resource") | {"NotResource": BOTH}, UNKNOWN),
        (drop(deny("s3:DeleteObject"), "Resource") | {"NotResource": BOTH}, ALLOWED),
    ],
)  # fmt: skip
def test_a_deny_wins_over_every_allow_if_it_applies(statement: dict[str, Any], verdict: PolicyVerdict) -> None:
    assert judge(allow(), statement) is verdict
    assert judge(statement, allow()) is verdict


def test_what_nothing_allows_is_not_allowed_whatever_an_unknown_deny_says() -> None:
    assert judge(deny(Condition={"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}})) is NOT_ALLOWED


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ({"StringEquals": {"AWS:SourceAccount": ["999900001111", "111122223333"]}}, ALLOWED),
        ({"StringEquals": {"aws:SourceAccount": "999900001111"}}, NOT_ALLOWED),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:logs:us-east-1:111122223333:log-group:*"}}, ALLOWED),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:logs:eu-west-1:111122223333:log-group:*"}}, NOT_ALLOWED),
        ({"ArnLike": {"aws:SourceArn": f"arn:aws:logs:*:*:log-group:{SETTINGS.LOG_GROUP_NAME}:*"}}, UNKNOWN),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1"}}, UNKNOWN),
        ({"StringEquals": {"aws:SourceAccount": "${aws:PrincipalAccount}"}}, UNKNOWN),
    ],
)
def test_a_condition_counts_if_the_values_of_the_export_are_known(condition: Any, verdict: PolicyVerdict) -> None:
    assert judge(allow(Condition=condition)) is verdict


@pytest.mark.parametrize("account", [ACCOUNT, AwsAccount("111122223333", "cn-north-1", "aws-cn")])
def test_the_statements_of_setup_aws_allow_the_export_of_their_account_only(account: AwsAccount) -> None:
    policy = merge_statements(None, build_log_export_statements(account, SETTINGS.AWS_BUCKET))
    assert judge_log_export(policy, account, SETTINGS) is ALLOWED
    assert judge_log_export(policy, AwsAccount("999900001111", account.region), SETTINGS) is NOT_ALLOWED


def check_policy(*statements: dict[str, Any]) -> Finding:
    responses = {
        "s3.HeadBucket": {"BucketRegion": "us-east-1"},
        "s3.GetBucketPolicy": {"Policy": json.dumps({"Statement": list(statements)})},
        "sts.GetCallerIdentity": {"Account": ACCOUNT.account_id, "Arn": "arn:aws:iam::111122223333:user/x"},
    }
    with emulate_account(responses) as account:
        (finding,) = check_log_export(Lookups(SETTINGS, account.clients, None))  # type: ignore[arg-type]
    return finding


@pytest.mark.parametrize(
    ("statements", "level", "message", "remedy"),
    [
        ([allow()], FindingLevel.OK, "the bucket policy lets CloudWatch Logs write to the bucket", ""),
        ([], FindingLevel.WARNING, "does not let CloudWatch Logs write", "run setupAWS, which adds"),
        ([allow(), deny()], FindingLevel.WARNING, "keeps CloudWatch Logs from writing", "correct this statement"),
        (
            [allow(), deny(Condition={"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}})],
            FindingLevel.WARNING, "cannot tell whether the bucket policy lets CloudWatch Logs write", "run setupAWS",
        ),
    ],
)  # fmt: skip
def test_each_verdict_has_its_own_advice(
    statements: list[dict[str, Any]], level: FindingLevel, message: str, remedy: str
) -> None:
    finding = check_policy(*statements)
    assert (finding.topic, finding.level) == ("log export", level)
    assert message in finding.message
    assert finding.remedy.startswith(remedy)
