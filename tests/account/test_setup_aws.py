"""Tests of setupAWS in an emulated account and, where it matters, of its exact requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.iam.models import SERVICE_NAME_CONVERSION

from distributed_something.account.bucket import plan_bucket_policy, plan_bucket_policy_removal
from distributed_something.account.bucket_key import BucketKey, build_key_row, find_bucket_key
from distributed_something.account.lambda_function import (
    MONITOR_LOG_GROUP,
    build_bundle,
    hash_bundle,
    iter_bundle_files,
    list_monitor_rules,
    plan_monitor_function,
)
from distributed_something.account.policies import (
    build_execution_policy,
    build_instance_policy,
    build_log_export_statements,
)
from distributed_something.account.policy_documents import build_trust_policy
from distributed_something.account.roles import (
    MADE_BY_TAGS,
    RoleSpec,
    plan_instance_profile,
    plan_role,
    plan_role_removal,
    plan_service_linked_role,
)
from distributed_something.account.setup_aws import (
    Buckets,
    apply_step,
    build_roles,
    collect_buckets,
    delete_account_setup,
    set_up_account,
)
from distributed_something.account.step import SetupRow, SetupState, format_setup_row
from distributed_something.account.use import (
    AccountUse,
    UseKind,
    find_account_use,
    find_use_elsewhere,
    format_account_use,
)
from distributed_something.account.user_policies import SERVICE_LINKED_ROLES
from distributed_something.aws.clients import Clients
from distributed_something.aws.retry import RETRY_PAUSE_SECONDS, RETRY_SECONDS
from distributed_something.aws.sts import identify_account
from distributed_something.core.errors import CloudError
from distributed_something.core.names import AwsAccount, build_monitor_rule_name
from tests.support.account import OUR_TAG, create_clients, stub_client
from tests.support.fakes import SETTINGS, START, FakeTime
from tests.support.paths import ROOT

ACCOUNT = AwsAccount("123456789012", "us-east-1")
BUCKETS = Buckets("app-bucket")
ROLE_NAMES = ("ecsInstanceRole", "aws-ec2-spot-fleet-tagging-role", "distributed-something-task",
              "distributed-something-execution", "distributed-something-monitor")  # fmt: skip
OTHER_STATEMENT = {"Sid": "Other", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket",
                   "Resource": "arn:aws:s3:::app-bucket"}  # fmt: skip


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """The clients of an account that contains only the config's bucket."""
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # loading them takes a second per test
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, service in SERVICE_LINKED_ROLES.items():  # moto names these roles differently
        short = service.removesuffix(".amazonaws.com")
        monkeypatch.setitem(SERVICE_NAME_CONVERSION, short, name.removeprefix("AWSServiceRoleFor"))
    with mock_aws(config={"lambda": {"use_docker": False}}):
        new = create_clients()
        new.s3.create_bucket(Bucket="app-bucket")
        yield new


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def set_up(clients: Clients, buckets: Buckets = BUCKETS, root: Path = ROOT, *, dry_run: bool = False) -> list[SetupRow]:
    return list(set_up_account(clients, ACCOUNT, buckets, root, FakeTime().sleep, dry_run=dry_run))


def destroy(clients: Clients, *, dry_run: bool = False) -> list[SetupRow]:
    return list(delete_account_setup(clients, ACCOUNT, BUCKETS, FakeTime().clock, dry_run=dry_run))


def get_states(rows: list[SetupRow]) -> dict[str, str]:
    return {f"{row.kind} {row.name}": row.state for row in rows}


def get_failure_reasons(rows: list[SetupRow]) -> dict[str, str]:
    """Return why resources could not be set up or removed, keyed by their names."""
    return {row.name: row.note for row in rows if row.state == "not done"}


def get_kept_reasons(rows: list[SetupRow]) -> dict[str, str]:
    """Return why resources were kept intentionally, keyed by their names, without AWS's service-linked roles."""
    return {row.name: row.note for row in rows if row.state == "kept" and row.kind != "service-linked role"}


def describe_account(clients: Clients) -> dict[str, Any]:
    """Return all of the account's resources that setupAWS could change."""
    roles = {}
    for role in clients.iam.list_roles()["Roles"]:
        names = clients.iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        inline = {
            name: clients.iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
            for name in names
        }
        roles[role["RoleName"]] = (role["AssumeRolePolicyDocument"], inline)
    functions = {
        function["FunctionName"]: function["CodeSha256"] for function in clients.lambda_.list_functions()["Functions"]
    }
    profiles = {
        profile["InstanceProfileName"]: [role["RoleName"] for role in profile["Roles"]]
        for profile in clients.iam.list_instance_profiles()["InstanceProfiles"]
    }
    groups = [group["logGroupName"] for group in clients.logs.describe_log_groups()["logGroups"]]
    bucket_policy = read_bucket_policy(clients)
    return {"roles": roles, "functions": functions, "profiles": profiles, "groups": groups, "bucket": bucket_policy}


def read_bucket_policy(clients: Clients) -> Any:
    """Return the bucket's policy; None if it has none."""
    try:
        return json.loads(clients.s3.get_bucket_policy(Bucket="app-bucket")["Policy"])
    except clients.s3.exceptions.ClientError:
        return None


def copy_project(folder: Path, added_code: str) -> Path:
    """Copy this project's code to the folder, add a module with `added_code`, and return the folder."""
    for name, content in iter_bundle_files(ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "distributed_something" / "run" / "added.py").write_text(added_code)
    return folder


# Setup


def test_an_empty_account_gets_everything_that_a_run_needs(clients: Clients) -> None:
    rows = set_up(clients)

    assert {row.state for row in rows} == {"created"}
    assert {row.name for row in rows if row.kind == "role"} == set(ROLE_NAMES)
    resources = describe_account(clients)
    assert resources["profiles"] == {"ecsInstanceRole": ["ecsInstanceRole"]}
    assert resources["functions"] == {"distributed-something-monitor": hash_bundle(build_bundle(ROOT))}
    assert set(SERVICE_LINKED_ROLES) <= set(resources["roles"])
    assert resources["roles"]["ecsInstanceRole"] == (
        build_trust_policy("ec2.amazonaws.com"), {"distributed-something": build_instance_policy(ACCOUNT)},
    )  # fmt: skip
    assert clients.logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 60


def test_new_resources_have_the_tag_that_marks_them_for_removal(clients: Clients) -> None:
    set_up(clients)

    for name in ROLE_NAMES:
        assert clients.iam.get_role(RoleName=name)["Role"]["Tags"] == [OUR_TAG]
    profile = clients.iam.get_instance_profile(InstanceProfileName="ecsInstanceRole")["InstanceProfile"]
    assert profile["Tags"] == [OUR_TAG]
    function = clients.lambda_.get_function(FunctionName="distributed-something-monitor")
    assert function["Tags"] == {"made-by": "distributed-something"}


def test_a_second_setup_finds_everything_and_changes_nothing(clients: Clients) -> None:
    set_up(clients)
    before = describe_account(clients)

    assert {row.state for row in set_up(clients)} == {"exists"}
    assert describe_account(clients) == before


def test_a_dry_run_changes_nothing(clients: Clients) -> None:
    before = describe_account(clients)

    rows = set_up(clients, dry_run=True)

    assert {(row.state, row.is_planned) for row in rows} == {("created", True)}
    assert describe_account(clients) == before


def test_a_dry_run_reports_the_same_states_as_a_real_setup(clients: Clients) -> None:
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")

    planned_rows = set_up(clients, dry_run=True)

    assert get_states(planned_rows) == get_states(set_up(clients))


def test_the_auto_monitor_is_updated_when_the_code_changes(clients: Clients, tmp_path: Path) -> None:
    set_up(clients)
    changed_project = copy_project(tmp_path, "NEW = True\n")

    rows = [row for row in set_up(clients, root=changed_project) if row.state != "exists"]

    assert rows == [SetupRow("auto-monitor", "distributed-something-monitor", SetupState.CHANGED, "code")]
    assert describe_account(clients)["functions"]["distributed-something-monitor"] == hash_bundle(
        build_bundle(changed_project)
    )


def test_changed_settings_of_the_auto_monitor_are_corrected(clients: Clients) -> None:
    set_up(clients)
    clients.lambda_.update_function_configuration(
        FunctionName="distributed-something-monitor", Timeout=3, Runtime="python3.11"
    )

    rows = [row for row in set_up(clients) if row.state != "exists"]

    assert [(row.state, row.note) for row in rows] == [("changed", "Runtime, Timeout")]
    configuration = clients.lambda_.get_function_configuration(FunctionName="distributed-something-monitor")
    assert (configuration["Runtime"], configuration["Timeout"]) == ("python3.13", 900)


def test_a_changed_policy_and_a_changed_trust_policy_are_corrected(clients: Clients) -> None:
    set_up(clients)
    changed_trust = json.dumps(build_trust_policy("lambda.amazonaws.com"))
    clients.iam.update_assume_role_policy(RoleName="distributed-something-task", PolicyDocument=changed_trust)
    clients.iam.put_role_policy(
        RoleName="ecsInstanceRole", PolicyName="distributed-something",
        PolicyDocument=json.dumps(build_execution_policy(ACCOUNT)),
    )  # fmt: skip

    notes = {row.name: row.note for row in set_up(clients) if row.state == "changed"}

    assert notes == {"distributed-something-task": "trust policy", "ecsInstanceRole": "policy distributed-something"}
    assert {row.state for row in set_up(clients)} == {"exists"}


def test_an_interrupted_setup_of_a_role_can_be_continued(clients: Clients) -> None:
    trust = json.dumps(build_trust_policy("ec2.amazonaws.com"))
    clients.iam.create_role(RoleName="ecsInstanceRole", AssumeRolePolicyDocument=trust, Tags=MADE_BY_TAGS)
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")

    states = get_states(set_up(clients))

    assert states["role ecsInstanceRole"] == states["instance profile ecsInstanceRole"] == "changed"
    assert describe_account(clients)["profiles"] == {"ecsInstanceRole": ["ecsInstanceRole"]}


def test_a_second_configs_buckets_are_added_to_the_first_configs_buckets(clients: Clients) -> None:
    clients.s3.create_bucket(Bucket="second-bucket")
    set_up(clients)
    set_up(clients, Buckets("second-bucket", read=("public-images",)))

    inline = describe_account(clients)["roles"]["distributed-something-task"][1]

    assert set(inline) == {"distributed-something", "distributed-something-app-bucket",
                           "distributed-something-second-bucket", "distributed-something-public-images"}  # fmt: skip
    actions = [statement["Action"] for statement in inline["distributed-something-public-images"]["Statement"]]
    assert actions == [["s3:ListBucket"], ["s3:GetObject"]]


def test_only_rules_with_our_names_may_call_the_auto_monitor(clients: Clients) -> None:
    set_up(clients)

    response = clients.lambda_.get_policy(FunctionName="distributed-something-monitor")
    (statement,) = json.loads(response["Policy"])["Statement"]

    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "lambda:InvokeFunction"
    assert "arn:aws:events:us-east-1:123456789012:rule/distributed-something-*" in json.dumps(statement["Condition"])
    assert build_monitor_rule_name("App").startswith("distributed-something-")


# Existing resources that setupAWS did not create


def test_an_existing_role_keeps_its_policies_and_also_gets_ours(clients: Clients) -> None:
    trust = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com"]},
                                                    "Action": "sts:AssumeRole"}}  # fmt: skip
    clients.iam.create_role(RoleName="ecsInstanceRole", AssumeRolePolicyDocument=json.dumps(trust))
    own_policy = json.dumps(build_execution_policy(ACCOUNT))
    clients.iam.put_role_policy(RoleName="ecsInstanceRole", PolicyName="own", PolicyDocument=own_policy)

    assert get_states(set_up(clients))["role ecsInstanceRole"] == "changed"
    assert get_states(set_up(clients))["role ecsInstanceRole"] == "exists"

    current_trust, inline = describe_account(clients)["roles"]["ecsInstanceRole"]
    assert current_trust == trust
    assert set(inline) == {"own", "distributed-something"}

    rows = destroy(clients)

    assert get_kept_reasons(rows) == {"ecsInstanceRole": "not created by setupAWS"}
    assert set(describe_account(clients)["roles"]["ecsInstanceRole"][1]) == {"own"}


def test_an_existing_role_that_our_service_cannot_assume_stays_unchanged_and_is_reported(clients: Clients) -> None:
    trust = json.dumps(build_trust_policy("glue.amazonaws.com"))
    clients.iam.create_role(RoleName="distributed-something-task", AssumeRolePolicyDocument=trust)

    rows = set_up(clients)

    reason = (
        "not created by setupAWS, and ecs-tasks.amazonaws.com cannot assume it; add the service to its trust policy"
    )
    assert get_failure_reasons(rows) == {"distributed-something-task": reason}
    assert describe_account(clients)["roles"]["distributed-something-task"][1] == {}


def test_a_function_that_setup_aws_did_not_create_is_never_changed(clients: Clients) -> None:
    set_up(clients)
    arn = ACCOUNT.function
    clients.lambda_.untag_resource(Resource=arn, TagKeys=["made-by"])
    clients.lambda_.remove_permission(
        FunctionName="distributed-something-monitor", StatementId="distributed-something-rules"
    )
    clients.lambda_.update_function_configuration(FunctionName="distributed-something-monitor", Timeout=7)

    assert {row.kind for row in set_up(clients) if row.state == "not done"} == {"auto-monitor", "permission"}
    assert "distributed-something-monitor" in get_kept_reasons(destroy(clients))
    configuration = clients.lambda_.get_function_configuration(FunctionName="distributed-something-monitor")
    assert configuration["Timeout"] == 7


def test_an_existing_profile_with_another_role_stays_unchanged_and_is_reported(clients: Clients) -> None:
    clients.iam.create_role(
        RoleName="other", AssumeRolePolicyDocument=json.dumps(build_trust_policy("ec2.amazonaws.com"))
    )
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")
    clients.iam.add_role_to_instance_profile(InstanceProfileName="ecsInstanceRole", RoleName="other")

    assert get_failure_reasons(set_up(clients)) == {
        "ecsInstanceRole": "contains the role other instead of ecsInstanceRole; replace the role"
    }


def test_the_bucket_policys_other_statements_are_kept(clients: Clients) -> None:
    document = {"Version": "2012-10-17", "Id": "other", "Statement": [OTHER_STATEMENT]}
    clients.s3.put_bucket_policy(Bucket="app-bucket", Policy=json.dumps(document))

    assert get_states(set_up(clients))["bucket policy app-bucket"] == "changed"
    merged = read_bucket_policy(clients)
    assert merged["Id"] == "other"
    assert merged["Statement"] == [OTHER_STATEMENT, *build_log_export_statements(ACCOUNT, "app-bucket")]

    destroy(clients)
    assert read_bucket_policy(clients) == document


def test_a_bucket_policy_with_one_statement_outside_a_list_does_not_change(clients: Clients) -> None:
    document = {"Version": "2012-10-17", "Statement": OTHER_STATEMENT}
    clients.s3.put_bucket_policy(Bucket="app-bucket", Policy=json.dumps(document))

    assert "bucket policy app-bucket" not in get_states(destroy(clients))
    assert read_bucket_policy(clients) == document


def test_our_outdated_statement_is_replaced(clients: Clients) -> None:
    outdated = build_log_export_statements(AwsAccount("123456789012", "eu-west-1"), "app-bucket")
    document = {"Version": "2012-10-17", "Statement": [*outdated, OTHER_STATEMENT]}
    clients.s3.put_bucket_policy(Bucket="app-bucket", Policy=json.dumps(document))

    set_up(clients)

    assert read_bucket_policy(clients)["Statement"] == [
        OTHER_STATEMENT,
        *build_log_export_statements(ACCOUNT, "app-bucket"),
    ]


def test_a_missing_bucket_is_reported_and_everything_else_is_set_up(clients: Clients) -> None:
    rows = set_up(clients, Buckets("no-such-bucket"))

    assert get_failure_reasons(rows) == {
        "no-such-bucket": "the bucket does not exist; create it, then run setupAWS again"
    }
    assert len(rows) == len(set_up(clients))


def test_a_log_group_that_lambda_created_gets_a_retention_limit(clients: Clients) -> None:
    clients.logs.create_log_group(logGroupName=MONITOR_LOG_GROUP)

    set_up(clients)

    assert clients.logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 60
    assert get_kept_reasons(destroy(clients)) == {MONITOR_LOG_GROUP: "not created by setupAWS"}


# Removal


def test_destroy_removes_everything_setup_created_and_lists_what_it_keeps(clients: Clients) -> None:
    before = describe_account(clients)
    set_up(clients)

    rows = destroy(clients)

    after = describe_account(clients)
    for name in SERVICE_LINKED_ROLES:
        del after["roles"][name]
    assert after == before
    assert {row.name for row in rows if row.state == "kept"} == set(SERVICE_LINKED_ROLES)
    assert {row.state for row in destroy(clients)} == {"kept"}


def test_session_manager_stays_allowed_until_destroy(clients: Clients) -> None:
    before = describe_account(clients)
    list(set_up_account(clients, ACCOUNT, BUCKETS, ROOT, FakeTime().sleep, session_manager=True))
    policy = {"RoleName": "ecsInstanceRole", "PolicyName": "distributed-something-session-manager"}
    assert clients.iam.get_role_policy(**policy)["PolicyDocument"]
    set_up(clients)
    assert clients.iam.get_role_policy(**policy)["PolicyDocument"]

    destroy(clients)

    after = describe_account(clients)
    for name in SERVICE_LINKED_ROLES:
        del after["roles"][name]
    assert after == before


def test_a_dry_run_of_destroy_removes_nothing_and_reports_the_same_states_as_a_real_one(clients: Clients) -> None:
    set_up(clients)
    before = describe_account(clients)

    rows = destroy(clients, dry_run=True)

    assert describe_account(clients) == before
    assert {(row.state, row.is_planned) for row in rows} == {("removed", True), ("kept", False)}
    assert get_states(rows) == get_states(destroy(clients))


def test_nothing_is_removed_while_a_rule_calls_the_auto_monitor(clients: Clients) -> None:
    set_up(clients)
    rule = build_monitor_rule_name("App")
    clients.events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)")
    clients.events.put_targets(Rule=rule, Targets=[{"Id": "monitor", "Arn": ACCOUNT.function}])
    before = describe_account(clients)

    (row,) = destroy(clients)

    assert row.state == "not done"
    assert row.note == f"the rule {rule} calls the auto-monitor: nothing was removed; end the run first"
    assert describe_account(clients) == before


def test_nothing_is_removed_while_a_machine_uses_the_role() -> None:
    clients = create_clients()
    filters = [
        {"Name": "iam-instance-profile.arn", "Values": [ACCOUNT.profile("ecsInstanceRole")]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    with stub_client(clients.events) as events, stub_client(clients.ec2) as ec2:
        events.add_response("list_rule_names_by_target", {"RuleNames": []})
        ec2.add_response("describe_spot_fleet_requests", {"SpotFleetRequestConfigs": []}, {})
        machines = {"Reservations": [{"Instances": [{"InstanceId": "i-1"}]}]}
        ec2.add_response("describe_instances", machines, {"Filters": filters, "MaxResults": 1000})

        (row,) = destroy(clients)

    assert row.note == "the machine i-1 uses the role ecsInstanceRole: nothing was removed; end the run first"


def test_nothing_is_removed_while_a_fleet_uses_the_role() -> None:
    clients = create_clients()
    config = {"IamFleetRole": ACCOUNT.role("aws-ec2-spot-fleet-tagging-role"), "TargetCapacity": 1}
    fleets = [
        {"SpotFleetRequestId": name, "SpotFleetRequestState": state, "SpotFleetRequestConfig": config}
        for name, state in (("sfr-1", "cancelled"), ("sfr-2", "active"))
    ]
    with stub_client(clients.events) as events, stub_client(clients.ec2) as ec2:
        events.add_response("list_rule_names_by_target", {"RuleNames": []}, {"TargetArn": ACCOUNT.function})
        page = {"SpotFleetRequestConfigs": [fleets[0]], "NextToken": "more"}
        ec2.add_response("describe_spot_fleet_requests", page, {})
        ec2.add_response("describe_spot_fleet_requests", {"SpotFleetRequestConfigs": fleets[1:]}, {"NextToken": "more"})

        use = find_account_use(clients, ACCOUNT, START)

    assert use == AccountUse(UseKind.FLEET, "sfr-2")
    assert format_account_use(use) == "the fleet sfr-2 is active"


@pytest.mark.parametrize(
    ("region", "hours", "reason"),
    [
        (
            "eu-west-1",
            3,
            "machines in eu-west-1 used the role ecsInstanceRole at 2026-11-23 07:45 UTC, less than a day ago",
        ),
        ("eu-west-1", 25, ""),
        ("us-east-1", 3, ""),
        ("", 0, ""),
    ],
)
def test_roles_used_in_another_region_within_a_day_count_as_in_use(region: str, hours: int, reason: str) -> None:
    clients, last_used = create_clients(), datetime.fromtimestamp(START - hours * 3600, UTC)
    last_use = {"RoleLastUsed": {"Region": region, "LastUsedDate": last_used}} if region else {}
    role = {"RoleName": "ecsInstanceRole", "Path": "/", "RoleId": "A" * 16, "Arn": "arn:aws:iam::1:role/x" * 2}
    with stub_client(clients.iam) as iam_stub:
        response = {"Role": role | {"CreateDate": last_used} | last_use}
        iam_stub.add_response("get_role", response, {"RoleName": "ecsInstanceRole"})

        use = find_use_elsewhere(clients, ACCOUNT, START)

    assert (format_account_use(use) if use else "") == reason


def test_nothing_is_removed_while_machines_in_another_region_use_the_role(clients: Clients) -> None:
    set_up(clients)
    before = describe_account(clients)
    get_role = clients.iam.get_role
    last_use = {"Region": "eu-west-1", "LastUsedDate": datetime.fromtimestamp(START, UTC)}

    def get_used_role(**parameters: Any) -> Any:
        response: Any = get_role(**parameters)
        return response | {"Role": response["Role"] | {"RoleLastUsed": last_use}}

    clients.iam.get_role = get_used_role  # type: ignore[method-assign,assignment]
    (row,) = destroy(clients)

    assert row.state == "not done"
    assert row.note == (
        "machines in eu-west-1 used the role ecsInstanceRole at 2026-11-23 10:45 UTC, less than a day ago: "
        "nothing was removed; end the run first"
    )
    assert describe_account(clients) == before


def test_a_role_with_an_attached_policy_is_kept(clients: Clients) -> None:
    set_up(clients)
    document = json.dumps(build_execution_policy(ACCOUNT))
    arn = clients.iam.create_policy(PolicyName="lab-policy", PolicyDocument=document)["Policy"]["Arn"]
    clients.iam.attach_role_policy(RoleName="distributed-something-task", PolicyArn=arn)

    assert get_failure_reasons(destroy(clients)) == {
        "distributed-something-task": "has attached policies: lab-policy; detach them first"
    }
    clients.iam.detach_role_policy(RoleName="distributed-something-task", PolicyArn=arn)
    assert get_failure_reasons(destroy(clients)) == {}


def test_a_role_in_another_instance_profile_is_kept(clients: Clients) -> None:
    set_up(clients)
    clients.iam.create_instance_profile(InstanceProfileName="lab-profile")
    clients.iam.add_role_to_instance_profile(InstanceProfileName="lab-profile", RoleName="ecsInstanceRole")

    reason = "used by the instance profile lab-profile, which setupAWS did not create"
    assert get_failure_reasons(destroy(clients)) == {"ecsInstanceRole": reason}


def test_a_role_in_a_profile_that_setup_aws_did_not_create_is_kept(clients: Clients) -> None:
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")
    set_up(clients)

    rows = destroy(clients)

    assert get_failure_reasons(rows) == {
        "ecsInstanceRole": "used by the instance profile ecsInstanceRole, which setupAWS did not create"
    }
    assert describe_account(clients)["roles"]["ecsInstanceRole"][1] == {
        "distributed-something": build_instance_policy(ACCOUNT)
    }


def test_if_one_deletion_fails_the_other_resources_are_still_removed(clients: Clients) -> None:
    set_up(clients)

    def fail_deletion(**_: Any) -> None:
        raise clients.iam.exceptions.DeleteConflictException(
            {"Error": {"Code": "DeleteConflict", "Message": "Cannot delete entity"}}, "DeleteInstanceProfile"
        )

    clients.iam.delete_instance_profile = fail_deletion  # type: ignore[method-assign,assignment]
    rows = destroy(clients)

    assert "DeleteConflict: Cannot delete entity" in get_failure_reasons(rows)["ecsInstanceRole"]
    assert set(describe_account(clients)["roles"]) == set(SERVICE_LINKED_ROLES)


def test_only_security_groups_created_by_fleet_file_are_deleted(clients: Clients) -> None:
    vpc = clients.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    tags: Any = [{"ResourceType": "security-group", "Tags": [OUR_TAG]}]
    ours = clients.ec2.create_security_group(GroupName="ours", Description="d", VpcId=vpc, TagSpecifications=tags)
    other = clients.ec2.create_security_group(GroupName="distributed-something", Description="d", VpcId=vpc)

    destroy(clients)

    remaining = {group["GroupId"] for group in clients.ec2.describe_security_groups()["SecurityGroups"]}
    assert ours["GroupId"] not in remaining
    assert other["GroupId"] in remaining


# Retries, errors, and responses with several pages


def test_the_creation_of_the_function_is_retried_until_lambda_accepts_its_new_role(time: FakeTime) -> None:
    clients = create_clients()
    code = b"zip"
    request = {
        "FunctionName": "distributed-something-monitor", "Runtime": "python3.13",
        "Role": "arn:aws:iam::123456789012:role/distributed-something-monitor",
        "Handler": "distributed_something.run.auto_monitor.handler", "Timeout": 900, "MemorySize": 1769,
        "Description": "Watches runs of Distributed-Something and cleans up after them.",
        "Code": {"ZipFile": code}, "Tags": {"made-by": "distributed-something"},
    }  # fmt: skip
    message = "The role defined for the function cannot be assumed by Lambda."
    with stub_client(clients.lambda_) as stub:
        stub.add_client_error("get_function", "ResourceNotFoundException")
        for _ in range(3):
            stub.add_client_error("create_function", "InvalidParameterValueException", message, expected_params=request)
        stub.add_response("create_function", {}, request)

        step = plan_monitor_function(clients, ACCOUNT, code, time.sleep)
        assert step.apply is not None
        step.apply()

    assert time.slept == [1, 2, 2]


def test_the_creation_of_the_function_fails_if_lambda_still_rejects_its_role_after_two_minutes(time: FakeTime) -> None:
    clients = create_clients()
    with stub_client(clients.lambda_) as stub:
        stub.add_client_error("get_function", "ResourceNotFoundException")
        for _ in range(len(RETRY_PAUSE_SECONDS) + 1):
            stub.add_client_error("create_function", "InvalidParameterValueException", "cannot be assumed by Lambda")
        step = plan_monitor_function(clients, ACCOUNT, b"zip", time.sleep)
        assert step.apply is not None
        with pytest.raises(clients.lambda_.exceptions.ClientError):
            step.apply()

    assert sum(time.slept) == RETRY_SECONDS


def test_the_creation_of_the_function_is_not_retried_after_another_error(time: FakeTime) -> None:
    clients = create_clients()
    with stub_client(clients.lambda_) as stub:
        stub.add_client_error("get_function", "ResourceNotFoundException")
        stub.add_client_error("create_function", "InvalidParameterValueException", "Unsupported runtime")
        step = plan_monitor_function(clients, ACCOUNT, b"zip", time.sleep)
        assert step.apply is not None
        with pytest.raises(clients.lambda_.exceptions.ClientError):
            step.apply()

    assert time.slept == []


def test_the_update_of_the_code_is_retried_while_lambda_applies_new_settings(time: FakeTime) -> None:
    clients = create_clients()
    function = {"Configuration": {"CodeSha256": "old", "Timeout": 3}, "Tags": {"made-by": "distributed-something"}}
    with stub_client(clients.lambda_) as stub:
        stub.add_response("get_function", function)
        stub.add_response("update_function_configuration", {})
        stub.add_client_error("update_function_code", "ResourceConflictException", "An update is in progress")
        request = {"FunctionName": "distributed-something-monitor", "ZipFile": b"zip"}
        stub.add_response("update_function_code", {}, request)
        step = plan_monitor_function(clients, ACCOUNT, b"zip", time.sleep)
        assert step.apply is not None
        step.apply()

    assert time.slept == [1]


def test_adding_a_role_to_a_new_profile_is_retried_until_iam_finds_both(time: FakeTime) -> None:
    clients = create_clients()
    name = "ecsInstanceRole"
    profile = {"InstanceProfileName": name, "InstanceProfileId": "AIPA0123456789012345", "Roles": [], "Path": "/",
               "Arn": ACCOUNT.profile(name), "CreateDate": "2026-11-23T10:45:00Z"}  # fmt: skip
    names = {"InstanceProfileName": name, "RoleName": name}
    with stub_client(clients.iam) as stub:
        stub.add_client_error("get_instance_profile", "NoSuchEntity")
        request = {"InstanceProfileName": name, "Tags": [OUR_TAG]}
        stub.add_response("create_instance_profile", {"InstanceProfile": profile}, request)
        stub.add_client_error("add_role_to_instance_profile", "NoSuchEntity", expected_params=names)
        stub.add_response("add_role_to_instance_profile", {}, names)
        step = plan_instance_profile(clients.iam, name, time.sleep)
        assert step.apply is not None
        step.apply()

    assert time.slept == [1]


def test_creating_a_role_takes_exactly_these_requests() -> None:
    clients = create_clients()
    spec = RoleSpec("distributed-something-task", "ecs-tasks.amazonaws.com", {"distributed-something": {"a": 1}})
    trust = json.dumps(build_trust_policy("ecs-tasks.amazonaws.com"))
    role = {"RoleName": spec.name, "RoleId": "AROA0123456789012345", "Arn": ACCOUNT.role(spec.name), "Path": "/",
            "CreateDate": "2026-11-23T10:45:00Z"}  # fmt: skip
    with stub_client(clients.iam) as stub:
        stub.add_client_error("get_role", "NoSuchEntity", expected_params={"RoleName": spec.name})
        request = {"RoleName": spec.name, "AssumeRolePolicyDocument": trust, "Tags": [OUR_TAG]}
        stub.add_response("create_role", {"Role": role}, request)
        request = {"RoleName": spec.name, "PolicyName": "distributed-something", "PolicyDocument": '{"a":1}'}
        stub.add_response("put_role_policy", {}, request)
        step = plan_role(clients.iam, spec, FakeTime().sleep)
        assert step.apply is not None
        step.apply()


def test_setup_succeeds_if_the_service_creates_its_service_linked_role_at_the_same_time() -> None:
    clients = create_clients()
    name, service = "AWSServiceRoleForEC2Spot", "spot.amazonaws.com"
    with stub_client(clients.iam) as stub:
        stub.add_client_error("get_role", "NoSuchEntity", expected_params={"RoleName": name})
        message = f"Service role name {name} has been taken in this account"
        request = {"AWSServiceName": service}
        stub.add_client_error("create_service_linked_role", "InvalidInput", message, expected_params=request)
        step = plan_service_linked_role(clients.iam, name, service)
        assert step.apply is not None
        step.apply()


def test_rules_on_all_pages_are_listed() -> None:
    clients = create_clients()
    with stub_client(clients.events) as stub:
        first_page = {"RuleNames": [], "NextToken": "more"}
        stub.add_response("list_rule_names_by_target", first_page, {"TargetArn": ACCOUNT.function})
        request = {"TargetArn": ACCOUNT.function, "NextToken": "more"}
        stub.add_response("list_rule_names_by_target", {"RuleNames": ["late"]}, request)

        assert list_monitor_rules(clients, ACCOUNT) == ["late"]


def test_policies_on_all_pages_are_deleted_with_the_role() -> None:
    clients = create_clients()
    role = {"RoleName": "r", "RoleId": "AROA0123456789012345", "Arn": ACCOUNT.role("r"), "Path": "/",
            "CreateDate": "2026-11-23T10:45:00Z", "Tags": [OUR_TAG]}  # fmt: skip
    name = {"RoleName": "r"}
    with stub_client(clients.iam) as stub:
        stub.add_response("get_role", {"Role": role}, name)
        first_page = {"PolicyNames": ["a"], "IsTruncated": True, "Marker": "more"}
        stub.add_response("list_role_policies", first_page, name)
        second_page = {"PolicyNames": ["b"], "IsTruncated": False}
        stub.add_response("list_role_policies", second_page, name | {"Marker": "more"})
        stub.add_response("list_attached_role_policies", {"AttachedPolicies": [], "IsTruncated": False}, name)
        stub.add_response("list_instance_profiles_for_role", {"InstanceProfiles": [], "IsTruncated": False}, name)
        for policy_name in ("a", "b"):
            stub.add_response("delete_role_policy", {}, name | {"PolicyName": policy_name})
        stub.add_response("delete_role", {}, name)
        (step,) = plan_role_removal(clients.iam, "r")
        assert step.apply is not None
        step.apply()


def test_a_missing_permission_is_reported_with_the_failed_step() -> None:
    clients = create_clients()
    with stub_client(clients.iam) as stub:
        stub.add_client_error("get_role", "NoSuchEntity")
        stub.add_client_error("create_service_linked_role", "AccessDenied", "User is not authorized")
        with pytest.raises(CloudError, match=r"while setting up: service-linked role \w+: AccessDenied: User is not"):
            set_up(clients)


def test_a_row_is_formatted_with_its_state_and_note() -> None:
    planned = SetupRow("role", "r", SetupState.CHANGED, "trust policy", is_planned=True)
    assert format_setup_row(planned) == "would be changed  role r (trust policy)"
    assert format_setup_row(SetupRow("role", "r", SetupState.EXISTS)) == "exists            role r"


# Account and buckets


def test_the_credentials_determine_the_account_and_its_partition() -> None:
    clients = create_clients()
    with stub_client(clients.sts) as stub:
        arn = "arn:aws-cn:sts::210987654321:assumed-role/Lab/me"
        stub.add_response("get_caller_identity", {"Account": "210987654321", "Arn": arn, "UserId": "x"}, {})

        account = identify_account(clients, "cn-north-1")

    assert account == AwsAccount("210987654321", "cn-north-1", "aws-cn")
    assert build_roles(account, BUCKETS)[0].service == "ec2.amazonaws.com.cn"


def test_user_defined_constants_add_buckets_to_read_or_write() -> None:
    own = {"SOURCE_BUCKET": "images", "DESTINATION_BUCKET": "results", "WORKSPACE_BUCKET": "app-bucket",
           "ODD_BUCKET": "Not A Bucket", "MY_NAME": "ada"}  # fmt: skip
    settings = SETTINGS.model_copy(update={"own": own})

    assert collect_buckets(settings, read=["public", "results"], write=["more"]) == Buckets(
        "app-bucket", read=("images", "public"), write=("more", "results")
    )


# Keys of buckets


def encrypt_bucket(clients: Clients, key: str, bucket: str = "app-bucket") -> None:
    default: Any = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    rules: Any = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    clients.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)


def create_key(clients: Clients, alias: str) -> str:
    """Create a key in KMS; return its ARN."""
    metadata = clients.kms.create_key()["KeyMetadata"]
    clients.kms.create_alias(AliasName=alias, TargetKeyId=metadata["KeyId"])
    return str(metadata["Arn"])


def list_key_policies(clients: Clients) -> dict[tuple[str, str], list[str]]:
    """Return the actions and key that each role's policies for keys allow, keyed by role and policy."""
    policies = {}
    for role in ROLE_NAMES:
        for name in clients.iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document: Any = clients.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for statement in document["Statement"]:
                if statement["Action"][0].startswith("kms:"):
                    policies[role, name] = [*statement["Action"], statement["Resource"]]
    return policies


def test_roles_get_the_keys_of_their_buckets_and_for_buckets_that_are_only_read_only_to_decrypt(
    clients: Clients,
) -> None:
    own, source = create_key(clients, "alias/own"), create_key(clients, "alias/source")
    clients.s3.create_bucket(Bucket="source")
    encrypt_bucket(clients, "alias/own")
    encrypt_bucket(clients, source, "source")
    buckets = Buckets("app-bucket", read=("source",))
    rows = set_up(clients, buckets)
    both = ["kms:Decrypt", "kms:GenerateDataKey", own]
    task, monitor = ROLE_NAMES[2], ROLE_NAMES[4]
    assert list_key_policies(clients) == {
        (task, "distributed-something-app-bucket-key"): both,
        (task, "distributed-something-source-key"): ["kms:Decrypt", source],
        (monitor, "distributed-something-app-bucket-key"): both,
    }
    assert [row.note for row in rows if row.kind == "bucket key"] == [
        f"{own}: setupAWS lets the roles use it", f"{source}: setupAWS lets the roles use it",
    ]  # fmt: skip
    assert {row.state for row in set_up(clients, buckets)} == {SetupState.EXISTS}
    destroy(clients)
    with pytest.raises(clients.iam.exceptions.NoSuchEntityException):
        clients.iam.get_role(RoleName=task)


def test_without_the_permission_to_look_there_is_a_warning_and_an_earlier_policy_for_the_key_stays(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypt_bucket(clients, create_key(clients, "alias/own"))
    set_up(clients)
    before = list_key_policies(clients)
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetBucketEncryption")

    def deny(**_: str) -> None:
        raise denied

    monkeypatch.setattr(clients.s3, "get_bucket_encryption", deny)
    rows = set_up(clients)
    (row,) = [row for row in rows if row.kind == "bucket key"]
    assert (row.state, "needs s3:GetEncryptionConfiguration" in row.note) == (SetupState.WARNING, True)
    assert {row.state for row in rows} == {SetupState.EXISTS, SetupState.WARNING}
    assert list_key_policies(clients) == before != {}


def test_a_key_of_another_account_is_reported_with_what_its_owner_must_do() -> None:
    clients, arn = create_clients(), "arn:aws:kms:us-east-1:444455556666:key/1234"
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn}
    response = {"ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}}
    with stub_client(clients.s3) as stub:
        stub.add_response("get_bucket_encryption", response, {"Bucket": "shared"})
        row = build_key_row(find_bucket_key(clients, ACCOUNT, "shared"), ACCOUNT)
    assert row is not None
    assert row.note == (
        f"{arn}: setupAWS lets the roles use it; its owner, account 444455556666, must also allow these roles in the"
        " key policy"
    )


def test_an_alias_is_resolved_because_permissions_apply_to_keys() -> None:
    clients, arn = create_clients(), "arn:aws:kms:us-east-1:123456789012:key/1234"
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/lab"}
    response = {"ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}}
    with stub_client(clients.s3) as s3, stub_client(clients.kms) as kms:
        for _ in range(2):
            s3.add_response("get_bucket_encryption", response, {"Bucket": "b"})
        kms.add_response("describe_key", {"KeyMetadata": {"KeyId": "1234", "Arn": arn}}, {"KeyId": "alias/lab"})
        assert find_bucket_key(clients, ACCOUNT, "b") == BucketKey("b", arn)
        kms.add_client_error("describe_key", "AccessDeniedException")
        assert find_bucket_key(clients, ACCOUNT, "b").permission == "kms:DescribeKey"


# A bucket policy that S3 hides


@pytest.mark.parametrize("code", ["AccessDenied", "MethodNotAllowed"])
def test_a_bucket_policy_that_may_not_be_read_is_reported_and_neither_replaced_nor_deleted(
    time: FakeTime, code: str
) -> None:
    clients = create_clients()
    with stub_client(clients.s3) as stub:
        stub.add_client_error("get_bucket_policy", code)
        step = plan_bucket_policy(clients, ACCOUNT, "app-bucket", time.sleep)
        stub.add_client_error("get_bucket_policy", code)
        (removal,) = plan_bucket_policy_removal(clients, ACCOUNT, "app-bucket", time.sleep)
    for each in (step, removal):
        assert (each.apply, each.row.state) == (None, SetupState.NOT_DONE)
        assert "s3:GetBucketPolicy" in each.row.note


def test_a_bucket_policy_that_may_be_read_but_not_written_does_not_stop_setup_aws(time: FakeTime) -> None:
    clients = create_clients()
    with stub_client(clients.s3) as stub:
        stub.add_client_error("get_bucket_policy", "NoSuchBucketPolicy")
        stub.add_client_error("put_bucket_policy", "AccessDenied")
        row = apply_step(plan_bucket_policy(clients, ACCOUNT, "app-bucket", time.sleep))
    assert (row.state, "s3:PutBucketPolicy" in row.note) == (SetupState.NOT_DONE, True)
