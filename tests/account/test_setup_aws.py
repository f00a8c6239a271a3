"""setupAWS: on moto as a story, and request by request where it matters what exactly is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from moto.iam.models import SERVICE_NAME_CONVERSION

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
from distributed_something.aws.retry import RETRY_PAUSE_SECONDS
from distributed_something.aws.sts import identify_account
from distributed_something.core.errors import CloudError
from distributed_something.core.names import AwsAccount, build_monitor_rule_name
from tests.support.account import OUR_TAG, new_clients, stubbed
from tests.support.fakes import SETTINGS, START, FakeTime
from tests.support.paths import ROOT

PLACE = AwsAccount("123456789012", "us-east-1")
BUCKETS = Buckets("app-bucket")
ROLES = ("ecsInstanceRole", "aws-ec2-spot-fleet-tagging-role", "distributed-something-task",
         "distributed-something-execution", "distributed-something-monitor")  # fmt: skip
THEIRS = {"Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket",
          "Resource": "arn:aws:s3:::app-bucket"}  # fmt: skip


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """An empty account with the bucket of the config."""
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # a second a test, for nothing
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, service in SERVICE_LINKED_ROLES.items():  # moto's names for these differ from AWS's
        short = service.removesuffix(".amazonaws.com")
        monkeypatch.setitem(SERVICE_NAME_CONVERSION, short, name.removeprefix("AWSServiceRoleFor"))
    with mock_aws(config={"lambda": {"use_docker": False}}):
        made = new_clients()
        made.s3.create_bucket(Bucket="app-bucket")
        yield made


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def set_up(clients: Clients, buckets: Buckets = BUCKETS, root: Path = ROOT, **more: bool) -> list[SetupRow]:
    return list(set_up_account(clients, PLACE, buckets, root, FakeTime().sleep, **more))


def destroy(clients: Clients, **more: bool) -> list[SetupRow]:
    return list(delete_account_setup(clients, PLACE, BUCKETS, FakeTime().now, **more))


def states(rows: list[SetupRow]) -> dict[str, str]:
    return {f"{row.kind} {row.name}": row.state for row in rows}


def left(rows: list[SetupRow]) -> dict[str, str]:
    """What is not as it is to be, with the reason."""
    return {row.name: row.note for row in rows if row.state == "left"}


def kept(rows: list[SetupRow]) -> dict[str, str]:
    """What was kept on purpose, with the reason, but for AWS's own roles."""
    return {row.name: row.note for row in rows if row.state == "kept" and row.kind != "service-linked role"}


def everything(clients: Clients) -> dict[str, Any]:
    """All that setupAWS could have touched."""
    roles = {}
    for role in clients.iam.list_roles()["Roles"]:
        names = clients.iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        inline = {
            name: clients.iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
            for name in names
        }
        roles[role["RoleName"]] = (role["AssumeRolePolicyDocument"], inline)
    functions = {one["FunctionName"]: one["CodeSha256"] for one in clients.lambda_.list_functions()["Functions"]}
    profiles = {
        one["InstanceProfileName"]: [role["RoleName"] for role in one["Roles"]]
        for one in clients.iam.list_instance_profiles()["InstanceProfiles"]
    }
    groups = [one["logGroupName"] for one in clients.logs.describe_log_groups()["logGroups"]]
    return {"roles": roles, "functions": functions, "profiles": profiles, "groups": groups, "bucket": policy(clients)}


def policy(clients: Clients) -> Any:
    try:
        return json.loads(clients.s3.get_bucket_policy(Bucket="app-bucket")["Policy"])
    except clients.s3.exceptions.ClientError:
        return None


def copied(folder: Path, added: str = "") -> Path:
    """A project whose code differs from this one's by a file."""
    for name, content in iter_bundle_files(ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "distributed_something" / "run" / "added.py").write_text(added)
    return folder


# Making


def test_an_empty_account_gets_all_that_runs_need(clients: Clients) -> None:
    rows = set_up(clients)

    assert {row.state for row in rows} == {"made"}
    assert {row.name for row in rows if row.kind == "role"} == set(ROLES)
    made = everything(clients)
    assert made["profiles"] == {"ecsInstanceRole": ["ecsInstanceRole"]}
    assert made["functions"] == {"distributed-something-monitor": hash_bundle(build_bundle(ROOT))}
    assert set(SERVICE_LINKED_ROLES) <= set(made["roles"])
    assert made["roles"]["ecsInstanceRole"] == (
        build_trust_policy("ec2.amazonaws.com"), {"distributed-something": build_instance_policy(PLACE)},
    )  # fmt: skip
    assert clients.logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 60


def test_what_is_made_carries_the_tag_by_which_it_is_removed(clients: Clients) -> None:
    set_up(clients)

    for name in ROLES:
        assert clients.iam.get_role(RoleName=name)["Role"]["Tags"] == [OUR_TAG]
    profile = clients.iam.get_instance_profile(InstanceProfileName="ecsInstanceRole")["InstanceProfile"]
    assert profile["Tags"] == [OUR_TAG]
    found = clients.lambda_.get_function(FunctionName="distributed-something-monitor")
    assert found["Tags"] == {"made-by": "distributed-something"}


def test_a_second_time_finds_everything_and_changes_nothing(clients: Clients) -> None:
    set_up(clients)
    before = everything(clients)

    assert {row.state for row in set_up(clients)} == {"found"}
    assert everything(clients) == before


def test_a_dry_run_only_says(clients: Clients) -> None:
    before = everything(clients)

    rows = set_up(clients, dry_run=True)

    assert {(row.state, row.planned) for row in rows} == {("made", True)}
    assert everything(clients) == before


def test_a_dry_run_says_what_set_up_does(clients: Clients) -> None:
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")

    would = set_up(clients, dry_run=True)

    assert states(would) == states(set_up(clients))


def test_new_code_reaches_the_auto_monitor(clients: Clients, tmp_path: Path) -> None:
    set_up(clients)
    changed = copied(tmp_path, "NEW = True\n")

    rows = [row for row in set_up(clients, root=changed) if row.state != "found"]

    assert rows == [SetupRow("auto-monitor", "distributed-something-monitor", SetupState.CHANGED, "its code")]
    assert everything(clients)["functions"]["distributed-something-monitor"] == hash_bundle(build_bundle(changed))


def test_settings_of_the_auto_monitor_are_brought_up_to_date(clients: Clients) -> None:
    set_up(clients)
    clients.lambda_.update_function_configuration(
        FunctionName="distributed-something-monitor", Timeout=3, Runtime="python3.11"
    )

    rows = [row for row in set_up(clients) if row.state != "found"]

    assert [(row.state, row.note) for row in rows] == [("changed", "Runtime, Timeout")]
    found = clients.lambda_.get_function_configuration(FunctionName="distributed-something-monitor")
    assert (found["Runtime"], found["Timeout"]) == ("python3.13", 900)


def test_a_policy_and_a_trust_that_were_changed_are_set_right(clients: Clients) -> None:
    set_up(clients)
    wrong = json.dumps(build_trust_policy("lambda.amazonaws.com"))
    clients.iam.update_assume_role_policy(RoleName="distributed-something-task", PolicyDocument=wrong)
    clients.iam.put_role_policy(
        RoleName="ecsInstanceRole", PolicyName="distributed-something",
        PolicyDocument=json.dumps(build_execution_policy(PLACE)),
    )  # fmt: skip

    rows = {row.name: row.note for row in set_up(clients) if row.state == "changed"}

    assert rows == {"distributed-something-task": "trust", "ecsInstanceRole": "policy distributed-something"}
    assert {row.state for row in set_up(clients)} == {"found"}


def test_a_role_whose_making_was_interrupted_is_gone_on_with(clients: Clients) -> None:
    trust = json.dumps(build_trust_policy("ec2.amazonaws.com"))
    clients.iam.create_role(RoleName="ecsInstanceRole", AssumeRolePolicyDocument=trust, Tags=MADE_BY_TAGS)
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")

    found = states(set_up(clients))

    assert found["role ecsInstanceRole"] == found["instance profile ecsInstanceRole"] == "changed"
    assert everything(clients)["profiles"] == {"ecsInstanceRole": ["ecsInstanceRole"]}


def test_another_configs_bucket_is_added_and_the_first_one_kept(clients: Clients) -> None:
    clients.s3.create_bucket(Bucket="second-bucket")
    set_up(clients)
    set_up(clients, Buckets("second-bucket", read=("public-images",)))

    inline = everything(clients)["roles"]["distributed-something-task"][1]

    assert set(inline) == {"distributed-something", "distributed-something-app-bucket",
                           "distributed-something-second-bucket", "distributed-something-public-images"}  # fmt: skip
    actions = [one["Action"] for one in inline["distributed-something-public-images"]["Statement"]]
    assert actions == [["s3:ListBucket"], ["s3:GetObject"]]


def test_only_our_rules_may_call_the_auto_monitor(clients: Clients) -> None:
    set_up(clients)

    answer = clients.lambda_.get_policy(FunctionName="distributed-something-monitor")
    (statement,) = json.loads(answer["Policy"])["Statement"]

    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "lambda:InvokeFunction"
    assert "arn:aws:events:us-east-1:123456789012:rule/distributed-something-*" in json.dumps(statement["Condition"])
    assert build_monitor_rule_name("App").startswith("distributed-something-")


# What was there before


def test_a_role_of_somebody_elses_keeps_what_it_has_and_gets_our_policy_beside_it(clients: Clients) -> None:
    trust = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com"]},
                                                    "Action": "sts:AssumeRole"}}  # fmt: skip
    clients.iam.create_role(RoleName="ecsInstanceRole", AssumeRolePolicyDocument=json.dumps(trust))
    own = json.dumps(build_execution_policy(PLACE))
    clients.iam.put_role_policy(RoleName="ecsInstanceRole", PolicyName="own", PolicyDocument=own)

    assert states(set_up(clients))["role ecsInstanceRole"] == "changed"
    assert states(set_up(clients))["role ecsInstanceRole"] == "found"

    has_trust, inline = everything(clients)["roles"]["ecsInstanceRole"]
    assert has_trust == trust
    assert set(inline) == {"own", "distributed-something"}

    rows = destroy(clients)

    assert kept(rows) == {"ecsInstanceRole": "not made by setupAWS"}
    assert set(everything(clients)["roles"]["ecsInstanceRole"][1]) == {"own"}


def test_a_role_of_somebody_elses_that_another_service_takes_is_left_and_told(clients: Clients) -> None:
    trust = json.dumps(build_trust_policy("glue.amazonaws.com"))
    clients.iam.create_role(RoleName="distributed-something-task", AssumeRolePolicyDocument=trust)

    rows = set_up(clients)

    reason = "not made by setupAWS, and ecs-tasks.amazonaws.com may not take it"
    assert left(rows) == {"distributed-something-task": reason}
    assert everything(clients)["roles"]["distributed-something-task"][1] == {}


def test_a_function_of_somebody_elses_is_never_touched(clients: Clients) -> None:
    set_up(clients)
    arn = PLACE.function
    clients.lambda_.untag_resource(Resource=arn, TagKeys=["made-by"])
    clients.lambda_.remove_permission(
        FunctionName="distributed-something-monitor", StatementId="distributed-something-rules"
    )
    clients.lambda_.update_function_configuration(FunctionName="distributed-something-monitor", Timeout=7)

    assert {row.kind for row in set_up(clients) if row.state == "left"} == {"auto-monitor", "permission"}
    assert "distributed-something-monitor" in kept(destroy(clients))
    found = clients.lambda_.get_function_configuration(FunctionName="distributed-something-monitor")
    assert found["Timeout"] == 7


def test_a_profile_that_holds_another_role_is_left_and_told(clients: Clients) -> None:
    clients.iam.create_role(
        RoleName="other", AssumeRolePolicyDocument=json.dumps(build_trust_policy("ec2.amazonaws.com"))
    )
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")
    clients.iam.add_role_to_instance_profile(InstanceProfileName="ecsInstanceRole", RoleName="other")

    assert left(set_up(clients)) == {"ecsInstanceRole": "it holds the role other"}


def test_the_buckets_own_statements_stay_beside_ours(clients: Clients) -> None:
    theirs = {"Version": "2012-10-17", "Id": "theirs", "Statement": [THEIRS]}
    clients.s3.put_bucket_policy(Bucket="app-bucket", Policy=json.dumps(theirs))

    assert states(set_up(clients))["bucket policy app-bucket"] == "changed"
    merged = policy(clients)
    assert merged["Id"] == "theirs"
    assert merged["Statement"] == [THEIRS, *build_log_export_statements(PLACE, "app-bucket")]

    destroy(clients)
    assert policy(clients) == theirs


def test_a_policy_of_one_statement_without_a_list_is_left_as_it_is(clients: Clients) -> None:
    theirs = {"Version": "2012-10-17", "Statement": THEIRS}
    clients.s3.put_bucket_policy(Bucket="app-bucket", Policy=json.dumps(theirs))

    assert "bucket policy app-bucket" not in states(destroy(clients))
    assert policy(clients) == theirs


def test_a_statement_of_ours_that_is_out_of_date_is_replaced_not_doubled(clients: Clients) -> None:
    old = build_log_export_statements(AwsAccount("123456789012", "eu-west-1"), "app-bucket")
    document = {"Version": "2012-10-17", "Statement": [*old, THEIRS]}
    clients.s3.put_bucket_policy(Bucket="app-bucket", Policy=json.dumps(document))

    set_up(clients)

    assert policy(clients)["Statement"] == [THEIRS, *build_log_export_statements(PLACE, "app-bucket")]


def test_a_bucket_that_does_not_exist_is_told_and_all_else_is_made(clients: Clients) -> None:
    rows = set_up(clients, Buckets("no-such-bucket"))

    assert left(rows) == {"no-such-bucket": "there is no such bucket: make it, then type setupAWS again"}
    assert len(rows) == len(set_up(clients))


def test_a_log_group_that_lambda_made_is_no_longer_kept_for_ever(clients: Clients) -> None:
    clients.logs.create_log_group(logGroupName=MONITOR_LOG_GROUP)

    set_up(clients)

    assert clients.logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 60
    assert kept(destroy(clients)) == {MONITOR_LOG_GROUP: "not made by setupAWS"}


# Removing


def test_destroy_removes_all_that_was_made_and_names_what_it_leaves(clients: Clients) -> None:
    before = everything(clients)
    set_up(clients)

    rows = destroy(clients)

    after = everything(clients)
    for name in SERVICE_LINKED_ROLES:
        del after["roles"][name]
    assert after == before
    assert {row.name for row in rows if row.state == "kept"} == set(SERVICE_LINKED_ROLES)
    assert {row.state for row in destroy(clients)} == {"kept"}


def test_destroying_dry_removes_nothing_and_says_what_would_be(clients: Clients) -> None:
    set_up(clients)
    before = everything(clients)

    rows = destroy(clients, dry_run=True)

    assert everything(clients) == before
    assert {(row.state, row.planned) for row in rows} == {("removed", True), ("kept", False)}
    assert states(rows) == states(destroy(clients))


def test_nothing_is_removed_while_a_rule_calls_the_auto_monitor(clients: Clients) -> None:
    set_up(clients)
    rule = build_monitor_rule_name("App")
    clients.events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)")
    clients.events.put_targets(Rule=rule, Targets=[{"Id": "monitor", "Arn": PLACE.function}])
    before = everything(clients)

    (row,) = destroy(clients)

    assert row.state == "left"
    assert row.note == f"the rule {rule} calls the auto-monitor: nothing was removed; end the run first"
    assert everything(clients) == before


def test_nothing_is_removed_while_a_machine_has_the_role() -> None:
    clients = new_clients()
    filters = [
        {"Name": "iam-instance-profile.arn", "Values": [PLACE.profile("ecsInstanceRole")]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    with stubbed(clients.events) as events, stubbed(clients.ec2) as ec2:
        events.add_response("list_rule_names_by_target", {"RuleNames": []})
        ec2.add_response("describe_spot_fleet_requests", {"SpotFleetRequestConfigs": []}, {})
        machines = {"Reservations": [{"Instances": [{"InstanceId": "i-1"}]}]}
        ec2.add_response("describe_instances", machines, {"Filters": filters, "MaxResults": 1000})

        (row,) = destroy(clients)

    assert row.note == "the machine i-1 has the role ecsInstanceRole: nothing was removed; end the run first"


def test_nothing_is_removed_while_a_fleet_has_the_role() -> None:
    clients = new_clients()
    config = {"IamFleetRole": PLACE.role("aws-ec2-spot-fleet-tagging-role"), "TargetCapacity": 1}
    fleets = [
        {"SpotFleetRequestId": name, "SpotFleetRequestState": state, "SpotFleetRequestConfig": config}
        for name, state in (("sfr-1", "cancelled"), ("sfr-2", "active"))
    ]
    with stubbed(clients.events) as events, stubbed(clients.ec2) as ec2:
        events.add_response("list_rule_names_by_target", {"RuleNames": []}, {"TargetArn": PLACE.function})
        page = {"SpotFleetRequestConfigs": [fleets[0]], "NextToken": "more"}
        ec2.add_response("describe_spot_fleet_requests", page, {})
        ec2.add_response("describe_spot_fleet_requests", {"SpotFleetRequestConfigs": fleets[1:]}, {"NextToken": "more"})

        use = find_account_use(clients, PLACE, START)

    assert use == AccountUse(UseKind.FLEET, "sfr-2")
    assert format_account_use(use) == "the fleet sfr-2 is active"


@pytest.mark.parametrize(
    ("region", "hours", "told"),
    [
        (
            "eu-west-1",
            3,
            "machines in eu-west-1 had the role ecsInstanceRole at 2026-11-23 07:45 UTC, less than a day ago",
        ),
        ("eu-west-1", 25, ""),
        ("us-east-1", 3, ""),
        ("", 0, ""),
    ],
)
def test_roles_that_machines_of_another_region_had_today_are_left(region: str, hours: int, told: str) -> None:
    clients, when = new_clients(), datetime.fromtimestamp(START - hours * 3600, UTC)
    used = {"RoleLastUsed": {"Region": region, "LastUsedDate": when}} if region else {}
    role = {"RoleName": "ecsInstanceRole", "Path": "/", "RoleId": "A" * 16, "Arn": "arn:aws:iam::1:role/x" * 2}
    with stubbed(clients.iam) as iam_stub:
        answer = {"Role": role | {"CreateDate": when} | used}
        iam_stub.add_response("get_role", answer, {"RoleName": "ecsInstanceRole"})

        use = find_use_elsewhere(clients, PLACE, START)

    assert (format_account_use(use) if use else "") == told


def test_nothing_is_removed_while_machines_of_another_region_have_the_role(clients: Clients) -> None:
    set_up(clients)
    before = everything(clients)
    get_role, used = clients.iam.get_role, {"Region": "eu-west-1", "LastUsedDate": datetime.fromtimestamp(START, UTC)}

    def get_used_role(**asked: Any) -> Any:
        answer: Any = get_role(**asked)
        return answer | {"Role": answer["Role"] | {"RoleLastUsed": used}}

    clients.iam.get_role = get_used_role  # type: ignore[method-assign,assignment]
    (row,) = destroy(clients)

    assert row.state == "left"
    assert row.note == (
        "machines in eu-west-1 had the role ecsInstanceRole at 2026-11-23 10:45 UTC, less than a day ago: "
        "nothing was removed; end the run first"
    )
    assert everything(clients) == before


def test_a_role_that_somebody_hung_a_policy_on_is_left(clients: Clients) -> None:
    set_up(clients)
    theirs = clients.iam.create_policy(PolicyName="theirs", PolicyDocument=json.dumps(build_execution_policy(PLACE)))
    arn = theirs["Policy"]["Arn"]
    clients.iam.attach_role_policy(RoleName="distributed-something-task", PolicyArn=arn)

    assert left(destroy(clients)) == {"distributed-something-task": "somebody attached theirs"}
    clients.iam.detach_role_policy(RoleName="distributed-something-task", PolicyArn=arn)
    assert left(destroy(clients)) == {}


def test_a_role_in_somebody_elses_profile_is_left(clients: Clients) -> None:
    set_up(clients)
    clients.iam.create_instance_profile(InstanceProfileName="theirs")
    clients.iam.add_role_to_instance_profile(InstanceProfileName="theirs", RoleName="ecsInstanceRole")

    reason = "the instance profile theirs holds it, which setupAWS did not make"
    assert left(destroy(clients)) == {"ecsInstanceRole": reason}


def test_our_role_in_a_profile_of_its_name_that_somebody_else_made_is_left_whole(clients: Clients) -> None:
    clients.iam.create_instance_profile(InstanceProfileName="ecsInstanceRole")
    set_up(clients)

    rows = destroy(clients)

    assert left(rows) == {
        "ecsInstanceRole": "the instance profile ecsInstanceRole holds it, which setupAWS did not make"
    }
    assert everything(clients)["roles"]["ecsInstanceRole"][1] == {"distributed-something": build_instance_policy(PLACE)}


def test_what_aws_does_not_let_go_is_left_and_the_rest_removed(clients: Clients) -> None:
    set_up(clients)

    def refuse(**_: Any) -> None:
        raise clients.iam.exceptions.DeleteConflictException(
            {"Error": {"Code": "DeleteConflict", "Message": "Cannot delete entity"}}, "DeleteInstanceProfile"
        )

    clients.iam.delete_instance_profile = refuse  # type: ignore[method-assign,assignment]
    rows = destroy(clients)

    assert "DeleteConflict: Cannot delete entity" in left(rows)["ecsInstanceRole"]
    assert set(everything(clients)["roles"]) == set(SERVICE_LINKED_ROLES)


def test_security_groups_of_fleet_file_go_too_and_no_others(clients: Clients) -> None:
    vpc = clients.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    tags: Any = [{"ResourceType": "security-group", "Tags": [OUR_TAG]}]
    ours = clients.ec2.create_security_group(GroupName="ours", Description="d", VpcId=vpc, TagSpecifications=tags)
    theirs = clients.ec2.create_security_group(GroupName="distributed-something", Description="d", VpcId=vpc)

    destroy(clients)

    there = {one["GroupId"] for one in clients.ec2.describe_security_groups()["SecurityGroups"]}
    assert ours["GroupId"] not in there
    assert theirs["GroupId"] in there


# AWS's parts that do not agree yet, refusals, long lists


def test_a_role_that_lambda_does_not_know_yet_is_waited_for(time: FakeTime) -> None:
    clients = new_clients()
    code = b"zip"
    wanted = {
        "FunctionName": "distributed-something-monitor", "Runtime": "python3.13",
        "Role": "arn:aws:iam::123456789012:role/distributed-something-monitor",
        "Handler": "distributed_something.run.auto_monitor.handler", "Timeout": 900, "MemorySize": 1769,
        "Description": "Watches runs of Distributed-Something and cleans up after them.",
        "Code": {"ZipFile": code}, "Tags": {"made-by": "distributed-something"},
    }  # fmt: skip
    words = "The role defined for the function cannot be assumed by Lambda."
    with stubbed(clients.lambda_) as stub:
        stub.add_client_error("get_function", "ResourceNotFoundException")
        for _ in range(3):
            stub.add_client_error("create_function", "InvalidParameterValueException", words, expected_params=wanted)
        stub.add_response("create_function", {}, wanted)

        step = plan_monitor_function(clients, PLACE, code, time.sleep)
        assert step.act is not None
        step.act()

    assert time.slept == [1, 2, 3]


def test_a_role_that_lambda_never_knows_ends_the_waiting_after_a_minute(time: FakeTime) -> None:
    clients = new_clients()
    with stubbed(clients.lambda_) as stub:
        stub.add_client_error("get_function", "ResourceNotFoundException")
        for _ in range(len(RETRY_PAUSE_SECONDS) + 1):
            stub.add_client_error("create_function", "InvalidParameterValueException", "cannot be assumed by Lambda")
        step = plan_monitor_function(clients, PLACE, b"zip", time.sleep)
        assert step.act is not None
        with pytest.raises(clients.lambda_.exceptions.ClientError):
            step.act()

    assert 45 <= sum(time.slept) <= 90


def test_a_wrong_parameter_is_not_tried_again(time: FakeTime) -> None:
    clients = new_clients()
    with stubbed(clients.lambda_) as stub:
        stub.add_client_error("get_function", "ResourceNotFoundException")
        stub.add_client_error("create_function", "InvalidParameterValueException", "Unsupported runtime")
        step = plan_monitor_function(clients, PLACE, b"zip", time.sleep)
        assert step.act is not None
        with pytest.raises(clients.lambda_.exceptions.ClientError):
            step.act()

    assert time.slept == []


def test_new_code_waits_until_new_settings_are_in_force(time: FakeTime) -> None:
    clients = new_clients()
    there = {"Configuration": {"CodeSha256": "old", "Timeout": 3}, "Tags": {"made-by": "distributed-something"}}
    with stubbed(clients.lambda_) as stub:
        stub.add_response("get_function", there)
        stub.add_response("update_function_configuration", {})
        stub.add_client_error("update_function_code", "ResourceConflictException", "An update is in progress")
        asked = {"FunctionName": "distributed-something-monitor", "ZipFile": b"zip"}
        stub.add_response("update_function_code", {}, asked)
        step = plan_monitor_function(clients, PLACE, b"zip", time.sleep)
        assert step.act is not None
        step.act()

    assert time.slept == [1]


def test_a_role_that_the_profile_does_not_know_yet_is_waited_for(time: FakeTime) -> None:
    clients = new_clients()
    name = "ecsInstanceRole"
    profile = {"InstanceProfileName": name, "InstanceProfileId": "AIPA0123456789012345", "Roles": [], "Path": "/",
               "Arn": PLACE.profile(name), "CreateDate": "2026-11-23T10:45:00Z"}  # fmt: skip
    both = {"InstanceProfileName": name, "RoleName": name}
    with stubbed(clients.iam) as stub:
        stub.add_client_error("get_instance_profile", "NoSuchEntity")
        made = {"InstanceProfileName": name, "Tags": [OUR_TAG]}
        stub.add_response("create_instance_profile", {"InstanceProfile": profile}, made)
        stub.add_client_error("add_role_to_instance_profile", "NoSuchEntity", expected_params=both)
        stub.add_response("add_role_to_instance_profile", {}, both)
        step = plan_instance_profile(clients.iam, name, time.sleep)
        assert step.act is not None
        step.act()

    assert time.slept == [1]


def test_the_requests_that_make_a_role_are_just_these() -> None:
    clients = new_clients()
    wanted = RoleSpec("distributed-something-task", "ecs-tasks.amazonaws.com", {"distributed-something": {"a": 1}})
    trust = json.dumps(build_trust_policy("ecs-tasks.amazonaws.com"))
    role = {"RoleName": wanted.name, "RoleId": "AROA0123456789012345", "Arn": PLACE.role(wanted.name), "Path": "/",
            "CreateDate": "2026-11-23T10:45:00Z"}  # fmt: skip
    with stubbed(clients.iam) as stub:
        stub.add_client_error("get_role", "NoSuchEntity", expected_params={"RoleName": wanted.name})
        asked = {"RoleName": wanted.name, "AssumeRolePolicyDocument": trust, "Tags": [OUR_TAG]}
        stub.add_response("create_role", {"Role": role}, asked)
        asked = {"RoleName": wanted.name, "PolicyName": "distributed-something", "PolicyDocument": '{"a":1}'}
        stub.add_response("put_role_policy", {}, asked)
        step = plan_role(clients.iam, wanted)
        assert step.act is not None
        step.act()


def test_a_service_linked_role_that_its_service_made_meanwhile_is_no_error() -> None:
    clients = new_clients()
    name, service = "AWSServiceRoleForEC2Spot", "spot.amazonaws.com"
    with stubbed(clients.iam) as stub:
        stub.add_client_error("get_role", "NoSuchEntity", expected_params={"RoleName": name})
        words = f"Service role name {name} has been taken in this account"
        asked = {"AWSServiceName": service}
        stub.add_client_error("create_service_linked_role", "InvalidInput", words, expected_params=asked)
        step = plan_service_linked_role(clients.iam, name, service)
        assert step.act is not None
        step.act()


def test_rules_on_later_pages_are_seen() -> None:
    clients = new_clients()
    with stubbed(clients.events) as stub:
        first = {"RuleNames": [], "NextToken": "more"}
        stub.add_response("list_rule_names_by_target", first, {"TargetArn": PLACE.function})
        asked = {"TargetArn": PLACE.function, "NextToken": "more"}
        stub.add_response("list_rule_names_by_target", {"RuleNames": ["late"]}, asked)

        assert list_monitor_rules(clients, PLACE) == ["late"]


def test_policies_on_later_pages_are_deleted_with_the_role() -> None:
    clients = new_clients()
    role = {"RoleName": "r", "RoleId": "AROA0123456789012345", "Arn": PLACE.role("r"), "Path": "/",
            "CreateDate": "2026-11-23T10:45:00Z", "Tags": [OUR_TAG]}  # fmt: skip
    name = {"RoleName": "r"}
    with stubbed(clients.iam) as stub:
        stub.add_response("get_role", {"Role": role}, name)
        first = {"PolicyNames": ["a"], "IsTruncated": True, "Marker": "more"}
        stub.add_response("list_role_policies", first, name)
        second = {"PolicyNames": ["b"], "IsTruncated": False}
        stub.add_response("list_role_policies", second, name | {"Marker": "more"})
        stub.add_response("list_attached_role_policies", {"AttachedPolicies": [], "IsTruncated": False}, name)
        stub.add_response("list_instance_profiles_for_role", {"InstanceProfiles": [], "IsTruncated": False}, name)
        for policy_name in ("a", "b"):
            stub.add_response("delete_role_policy", {}, name | {"PolicyName": policy_name})
        stub.add_response("delete_role", {}, name)
        (step,) = plan_role_removal(clients.iam, "r")
        assert step.act is not None
        step.act()


def test_a_missing_right_is_told_with_what_was_being_done() -> None:
    clients = new_clients()
    with stubbed(clients.iam) as stub:
        stub.add_client_error("get_role", "NoSuchEntity")
        stub.add_client_error("create_service_linked_role", "AccessDenied", "User is not authorized")
        with pytest.raises(CloudError, match=r"while setting up: service-linked role \w+: AccessDenied: User is not"):
            set_up(clients)


def test_a_line_of_the_table_reads_well() -> None:
    planned = SetupRow("role", "r", SetupState.CHANGED, "trust", planned=True)
    assert format_setup_row(planned) == "would be changed  role r (trust)"
    assert format_setup_row(SetupRow("role", "r", SetupState.FOUND)) == "found             role r"


# Whose account, which buckets


def test_the_account_and_its_partition_are_those_of_the_login() -> None:
    clients = new_clients()
    with stubbed(clients.sts) as stub:
        arn = "arn:aws-cn:sts::210987654321:assumed-role/Lab/me"
        stub.add_response("get_caller_identity", {"Account": "210987654321", "Arn": arn, "UserId": "x"}, {})

        place = identify_account(clients, "cn-north-1")

    assert place == AwsAccount("210987654321", "cn-north-1", "aws-cn")
    assert build_roles(place, BUCKETS)[0].service == "ec2.amazonaws.com.cn"


def test_buckets_of_the_users_own_constants_are_read_and_destinations_written() -> None:
    own = {"SOURCE_BUCKET": "images", "DESTINATION_BUCKET": "results", "WORKSPACE_BUCKET": "app-bucket",
           "ODD_BUCKET": "Not A Bucket", "MY_NAME": "ada"}  # fmt: skip
    settings = SETTINGS.model_copy(update={"own": own})

    assert collect_buckets(settings, read=["public", "results"], write=["more"]) == Buckets(
        "app-bucket", read=("images", "public"), write=("more", "results")
    )
