"""The policies, enforced throughout a rehearsal: they allow every request, and nothing in them is unneeded.

`scenario` runs every command, the worker, and the auto-monitor in moto, which denies calls whose actions the caller's
policies do not contain. It records each request with the login that sent it. The replay then checks the same requests
with their resources and conditions: AWS's authorization data say which permissions AWS would check for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from distributed_something.account.bucket_key import BucketKey
from distributed_something.account.policies import build_topic_policy
from distributed_something.account.setup_aws import Buckets, build_roles
from distributed_something.account.user_policies import build_administrator_policy, build_control_policies
from distributed_something.core.names import (
    EXECUTION_ROLE,
    FLEET_ROLE,
    INSTANCE_ROLE,
    MONITOR_FUNCTION,
    MONITOR_ROLE,
    TASK_ROLE,
)
from tests.account.test_policies import COMMANDS, count_characters
from tests.support import permissions
from tests.support.limits import find_request_problems
from tests.support.rights.broad import BROAD, EXECUTION, FLEET, MACHINE, NOT_REHEARSED, Breadth
from tests.support.rights.evaluator import applies, is_allowed, matches, to_list
from tests.support.rights.foreign import Counterpart, list_counterparts
from tests.support.rights.replay import (
    MANAGED_POLICIES,
    NOT_SENT,
    Documents,
    Replay,
    iter_extensions,
    iter_managed_actions,
    iter_reductions,
    list_denied,
)
from tests.support.rights.requests import (
    DATA,
    EXCEPTIONS,
    Permission,
    find_action,
    get_data_date,
    list_condition_keys,
    list_request_tags,
    to_data_key,
)
from tests.support.rights.tags import Tags
from tests.support.scenario import (
    ACCOUNT,
    ADMINISTRATOR,
    BUCKET,
    CONTAINER,
    DENIED,
    MONITOR,
    NOBODY,
    RUN_SETTINGS,
    TOPIC,
    USER,
    Call,
    Scenario,
    emulate_account,
)

SUMMARY_PROPERTY = "summary"  # conftest prints it after the tests
KEY = ACCOUNT.arn("kms", "key/11111111-2222-3333-4444-555555555555", ACCOUNT.region)
CREATED_BY_A_RUN = {"CreateQueue", "CreateLogGroup", "CreateCluster", "CreateService", "RequestSpotFleet",
                    "CreateLaunchTemplate"}  # fmt: skip
ROLES = {CONTAINER: TASK_ROLE, MONITOR: MONITOR_ROLE, MACHINE: INSTANCE_ROLE, EXECUTION: EXECUTION_ROLE,
         FLEET: FLEET_ROLE}  # fmt: skip
MANAGED_POLICIES_OF_SERVICES = (
    "AmazonEC2ContainerServiceforEC2Role", "AmazonEC2SpotFleetTaggingRole", "AmazonECSTaskExecutionRolePolicy",
    "AWSLambdaBasicExecutionRole", "AmazonSSMManagedInstanceCore",
)  # fmt: skip
LOGINS = (USER, ADMINISTRATOR, *ROLES)
MAX_CHARACTERS = 6_144  # IAM's limit for a managed policy, without white space
# The ECS agent calls these with the role of the container that asks it for protection.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
PROTECTION = ("ecs:GetTaskProtection", "ecs:UpdateTaskProtection")


def build_policies(login: str) -> Documents:
    """Return a login's policies, keyed by name, for a bucket that is encrypted with `KEY`."""
    if login == USER:
        return build_control_policies(ACCOUNT, [BUCKET], [KEY], TOPIC)
    if login == ADMINISTRATOR:
        return {"administrator": build_administrator_policy(ACCOUNT, [BUCKET], TOPIC)}
    roles = build_roles(ACCOUNT, Buckets(BUCKET), [BucketKey(BUCKET, KEY)], session_manager=True)
    (role,) = [role for role in roles if role.name == ROLES[login]]
    documents = {f"{role.name}/{name}": document for name, document in role.policies.items()}
    return documents | ({f"{role.name}/topic": build_topic_policy(TOPIC)} if login == MONITOR else {})


@dataclass(frozen=True)
class Rehearsal:
    """The recorded requests, each login's distinct requests as the permissions that AWS checks, and all permissions."""

    calls: list[Call]
    requests: dict[str, dict[tuple[Permission, ...], str]]
    needs: dict[str, dict[Permission, str]]

    def format_summary(self) -> str:
        """Return the number of distinct requests and permissions of each login, and the age of the data."""
        date = get_data_date()
        age = (datetime.now(UTC).replace(tzinfo=None) - date).days
        total = sum(map(len, self.requests.values()))
        lines = [f"Permissions: {total} distinct requests replayed with AWS's data of {date:%Y-%m-%d} ({age} days old)"]
        for login, needs in self.needs.items():
            sent = sum(call.login == login for call in self.calls)
            origin = (
                f"{len(self.requests[login])} distinct of {sent} requests need" if sent else "AWS's own requests need"
            )
            lines.append(f"  {login}: {origin} {len(needs)} permissions on resources")
        return "\n".join(lines)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """All requests from the first setupAWS until everything is removed."""
    with emulate_account(tmp_path_factory.mktemp("replay")) as scene, pytest.MonkeyPatch.context() as patch:
        Scenario(scene, patch).run()
    replay = Replay(ACCOUNT.account_id, scene.calls, KEY, tag_readers=[ADMINISTRATOR])
    requests = {login: replay.list_distinct_requests(login) for login in (USER, ADMINISTRATOR, CONTAINER, MONITOR)}
    needs = {
        login: {permission: operation for permissions, operation in own.items() for permission in permissions}
        for login, own in requests.items()
    }
    for login, more in list_aws_needs(replay, scene.calls).items():
        needs[login] = needs.get(login, {}) | more
    return Rehearsal([call for call in scene.calls if call.login != NOBODY], requests, needs)


def list_aws_needs(replay: Replay, calls: list[Call]) -> dict[str, dict[Permission, str]]:
    """Return the permissions for the requests that AWS sends itself with our roles, about the rehearsal's resources."""
    cluster, group = RUN_SETTINGS.ECS_CLUSTER, f"{RUN_SETTINGS.LOG_GROUP_NAME}_perInstance"
    (template, fleet) = (
        next(call.parameters for call in calls if call.operation == operation and call.login == USER)
        for operation in ("CreateLaunchTemplate", "RequestSpotFleet")
    )
    # `check` asks for machines with everything that a template can contain, such as snapshots and key pairs.
    asked = [call.parameters for call in calls if call.operation == "RunInstances" and call.login == USER]
    arns = {
        kind: ACCOUNT.arn("ecs", f"{kind}/{cluster}/0123", ACCOUNT.region) for kind in ("container-instance", "task")
    }
    tags = find_tags(calls, f"log-group:{group}")
    machine = {
        "cluster": cluster, "containerInstances": [arns["container-instance"]], "repositoryName": "worker",
        "logGroupName": group, "logStreamName": "App/worker/0123",
    }  # fmt: skip
    machines = {"template": template, "fleet": fleet, "asked": asked, "InstanceIds": ["i-1"]}
    started = {"instance/i-1": {"aws:ec2spot:fleet-request-id": "sfr-1"}}  # EC2 sets this tag
    function = {"logGroupName": f"/aws/lambda/{MONITOR_FUNCTION}", "logStreamName": "2026/11/30/[1]0123"}
    agent, fleet_service, execution, monitor, sessions = map(iter_managed_actions, MANAGED_POLICIES_OF_SERVICES)
    list_needs = replay.list_service_needs
    return {
        MACHINE: list_needs([*agent, *sessions], machine, tags),
        EXECUTION: list_needs(execution, machine, tags),
        FLEET: list_needs(fleet_service, machines, started, ACCOUNT.role(INSTANCE_ROLE)),
        MONITOR: list_needs(monitor, function, {}),
        CONTAINER: list_needs(PROTECTION, {"tasks": [arns["task"]]}, {}),
    }  # fmt: skip


def find_tags(calls: list[Call], name: str) -> Tags:
    """Return the tags that the resource had during the rehearsal."""
    return {name: next(call.tags[name] for call in calls if name in call.tags)}


# The policies are sufficient


def test_no_call_is_denied(rehearsal: Rehearsal) -> None:
    assert {(call.login, call.service, call.operation) for call in rehearsal.calls if call.error in DENIED} == set()


def test_the_scenario_uses_every_permission_that_calls_in_the_code_need(rehearsal: Rehearsal) -> None:
    used = {find_action(call.service, call.operation) for call in rehearsal.calls}

    assert (
        permissions.find_permissions(permissions.list_source_files(*COMMANDS, "account", "worker")).keys() - used
        == set()
    )


def test_the_scenario_makes_every_call_in_the_code(rehearsal: Rehearsal) -> None:
    """If several calls need the same permission, such as a single call and its batch version, each of them is made."""
    sent = {xform_name(call.operation) for call in rehearsal.calls} | {
        "upload_file"
    }  # s3transfer sends it as PutObject
    called = permissions.find_calls(permissions.list_source_files(*COMMANDS, "account", "worker"))

    assert len(called) > 120, "the search no longer finds the calls"
    assert {call: where for call, (_, where) in called.items() if call.partition(".")[2] not in sent} == {}


def test_the_summary_says_how_much_was_checked_and_how_old_the_data_are(
    rehearsal: Rehearsal, record_property: Callable[[str, object], None]
) -> None:
    record_property(SUMMARY_PROPERTY, rehearsal.format_summary())

    assert get_data_date().year >= 2026


@pytest.mark.parametrize("login", LOGINS)
def test_no_request_of_the_rehearsal_is_denied(rehearsal: Rehearsal, login: str) -> None:
    needs = rehearsal.needs[login]

    assert needs
    assert [f"{each} (for {needs[each]})" for each in list_denied(build_policies(login), needs)] == []


def test_everything_that_a_run_creates_has_the_tag_that_policies_require(rehearsal: Rehearsal) -> None:
    creations = [call for call in rehearsal.calls if call.login == USER and call.operation in CREATED_BY_A_RUN]

    assert {call.operation for call in creations} == CREATED_BY_A_RUN
    for call in creations:
        request = call.parameters.get("SpotFleetRequestConfig", call.parameters)
        assert "app" in list_request_tags(request), call.operation
        data = request.get("LaunchTemplateData", {"TagSpecifications": []})
        for specification in data["TagSpecifications"]:  # for the instances and volumes
            assert "app" in list_request_tags(specification)


# The policies are minimal


@pytest.mark.parametrize("login", LOGINS)
def test_each_statement_and_each_part_of_its_lists_is_needed_by_a_request(rehearsal: Rehearsal, login: str) -> None:
    """The parts are actions, resources, and values of conditions."""
    reductions = dict(iter_reductions(build_policies(login)))

    unneeded = [name for name, reduced in reductions.items() if not list_denied(reduced, rehearsal.needs[login])]
    assert reductions
    assert [name for name in unneeded if not is_not_rehearsed(name)] == []


def is_not_rehearsed(reduction: str) -> bool:
    """Return whether the part of a statement is in the table of those that rehearsals do not need."""
    return any(f": {sid}: arn:" in reduction and f":{kind}/" in reduction for sid, kind in NOT_REHEARSED)


def test_each_resource_that_is_not_rehearsed_is_in_a_policy() -> None:
    reductions = [name for login in LOGINS for name, _ in iter_reductions(build_policies(login))]

    for sid, kind in NOT_REHEARSED:
        assert any(f": {sid}: arn:" in name and f":{kind}/" in name for name in reductions), (sid, kind)


def test_a_statement_that_no_request_needs_is_found(rehearsal: Rehearsal) -> None:
    policies = dict(build_policies(CONTAINER))
    name, document = next(iter(policies.items()))
    extra = {"Sid": "Extra", "Effect": "Allow", "Action": ["sqs:PurgeQueue"], "Resource": "*"}
    policies[name] = {**document, "Statement": [*document["Statement"], extra]}

    reductions = dict(iter_reductions(policies))
    assert [text for text, reduced in reductions.items() if not list_denied(reduced, rehearsal.needs[CONTAINER])] == [
        f"{name}: Extra"
    ]


# The policies are narrow


@pytest.fixture(scope="module")
def counterparts(rehearsal: Rehearsal) -> dict[str, list[Counterpart]]:
    """Each login's foreign counterparts: requests like its own, about what is not ours."""
    return {login: list_counterparts(rehearsal.needs[login]) for login in LOGINS}


def list_allowed(documents: Documents, counterparts: list[Counterpart]) -> list[Counterpart]:
    """Return the counterparts that the policies allow."""
    requests = ((each, each.request) for each in counterparts)
    return [
        each for each, request in requests
        if is_allowed(documents.values(), request.action, request.resource, request.keys)
    ]  # fmt: skip


def find_surprises(login: str, documents: Documents, counterparts: list[Counterpart]) -> list[str]:
    """Return the foreign requests that the policies allow without a reason in `BROAD`."""
    allowed = list_allowed(documents, counterparts)
    return [
        f"{each.change}: {each.request}" for each in allowed if not any(entry.includes(login, each) for entry in BROAD)
    ]


@pytest.mark.parametrize("login", LOGINS)
def test_no_request_about_what_is_not_ours_is_allowed_without_a_reason(
    counterparts: dict[str, list[Counterpart]], login: str
) -> None:
    assert find_surprises(login, build_policies(login), counterparts[login]) == []


@pytest.mark.parametrize("entry", BROAD, ids=lambda entry: f"{entry.changes[0]}-{entry.actions[0]}")
def test_each_reason_is_only_about_requests_that_are_allowed(
    counterparts: dict[str, list[Counterpart]], entry: Breadth
) -> None:
    """A reason must not cover a limit that the policies have. Each change and each action needs the reason."""
    used = set()
    for login in LOGINS:
        included = [each for each in counterparts[login] if entry.includes(login, each)]
        allowed = list_allowed(build_policies(login), included)
        assert [each for each in included if each not in allowed] == [], login
        used |= {(each.change, each.request.action) for each in allowed}
    assert {change for change, _ in used} == set(entry.changes)
    assert [pattern for pattern in entry.actions if not any(matches(action, pattern) for _, action in used)] == []


@pytest.mark.parametrize("login", LOGINS)
def test_a_statement_that_loses_its_resources_or_a_condition_is_noticed(
    counterparts: dict[str, list[Counterpart]], login: str
) -> None:
    """For each, there is a foreign request without a reason, which the policies deny, and would then allow."""
    denied = [each.request for each in counterparts[login] if not any(entry.includes(login, each) for entry in BROAD)]

    extensions = dict(iter_extensions(build_policies(login)))
    assert extensions
    assert [
        name for name, statement in extensions.items()
        if not any(applies(statement, each.action, each.resource, each.keys) for each in denied)
    ] == []  # fmt: skip


WIDENED = (
    (MONITOR, "ReadAndWrite", "Resource", ["arn:aws:s3:::*/monitors/*", "arn:aws:s3:::*/runs/*"]),
    (MACHINE, "JoinCluster", "Resource", "*"),
    (CONTAINER, "KeepTask", "Resource", ACCOUNT.arn("ecs", "*")),
    (CONTAINER, "IdleAlarm", "Condition", {}),
    (USER, "EndTestRun", "Resource", ["arn:aws:s3:::*/runs/*", "arn:aws:s3:::*/monitors/*"]),
    (ADMINISTRATOR, "ServiceLinkedRoles", "Resource", "*"),
    (ADMINISTRATOR, "FindKey", "Resource", [ACCOUNT.arn("kms", "key/*"), ACCOUNT.arn("kms", "alias/*")]),
    (FLEET, "TagMachines", "Resource", [ACCOUNT.arn("ec2", f"{kind}/*") for kind in ("instance", "volume", "vpc")]),
)


@pytest.mark.parametrize(("login", "sid", "element", "value"), WIDENED, ids=lambda value: str(value)[:20])
def test_a_statement_that_becomes_broader_is_noticed(
    counterparts: dict[str, list[Counterpart]], login: str, sid: str, element: str, value: object
) -> None:
    policies = {
        name: {"Statement": [each | {element: value} if each["Sid"] == sid else each for each in document["Statement"]]}
        for name, document in build_policies(login).items()
    }
    assert policies != {name: {"Statement": each["Statement"]} for name, each in build_policies(login).items()}
    assert find_surprises(login, policies, counterparts[login]) != []


@pytest.mark.parametrize("login", LOGINS)
def test_each_policy_is_within_the_limit_of_a_managed_policy(login: str) -> None:
    assert {name for name, each in build_policies(login).items() if count_characters(each) > MAX_CHARACTERS} == set()


# The tables of what the data do not say


def test_each_exception_still_contradicts_the_data() -> None:
    """An entry that the data no longer contradict must be removed."""
    for action, kind in EXCEPTIONS:
        service, name = action.split(":")
        kinds = {each["name"] for each in DATA.actions.get_action_details(service, name)["resourceTypes"]}
        assert kind in kinds, action


def test_each_action_that_aws_does_not_send_is_in_one_of_its_policies() -> None:
    patterns = {
        action
        for name in MANAGED_POLICIES_OF_SERVICES
        for statement in MANAGED_POLICIES[name]["Document"]["Statement"]
        for action in to_list(statement["Action"])
    }
    assert [entry for entry in NOT_SENT if not any(matches(action, entry) for action in patterns)] == []


@pytest.mark.parametrize("login", LOGINS)
def test_aws_fills_in_every_condition_key_of_a_statement_for_each_of_its_actions(login: str) -> None:
    """Depending on the operator, IAM would ignore the other keys, or deny every request."""
    for document in build_policies(login).values():
        for statement in document["Statement"]:
            keys = {key for condition in statement.get("Condition", {}).values() for key in condition}
            for action in statement["Action"]:
                known = list_all_condition_keys(action)
                assert {to_data_key(key) for key in keys} <= known, f"{statement['Sid']}: {action}"


def list_all_condition_keys(action: str) -> set[str]:
    """Return the condition keys of the action on any kind of resource."""
    service, name = action.split(":")
    kinds = [each["name"] for each in DATA.actions.get_action_details(service, name)["resourceTypes"]]
    return set().union(*(list_condition_keys(action, kind) for kind in ["", *kinds]))


# The requests


def test_every_request_of_the_scenario_is_within_the_limits_of_aws(
    rehearsal: Rehearsal,
) -> None:
    """The limits apply to the length and characters of names, item counts, and values. moto checks none of them."""
    session = botocore.session.get_session()
    shapes: dict[tuple[str, str], Any] = {}
    for call in rehearsal.calls:
        key = (call.service, call.operation)
        if key not in shapes:
            model = session.get_service_model(call.service)
            shapes[key] = model.operation_model(call.operation).input_shape
        if shapes[key] is not None:
            assert find_request_problems(call.service, call.parameters, shapes[key]) == [], (
                f"{call.login}: {call.service}.{call.operation}"
            )
