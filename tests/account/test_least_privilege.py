"""The policies, enforced throughout a run: they allow every call that is needed, and no permission is unused.

`scenario` runs everything in moto, which denies calls that the caller's policies do not allow. moto does not check
resources and conditions, so `permissions` checks them for the same requests.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from distributed_something.account.policy_documents import PolicyDocument
from distributed_something.account.setup_aws import build_roles
from distributed_something.account.user_policies import build_administrator_policy, build_control_policies
from distributed_something.core.names import MONITOR_ROLE, TASK_ROLE
from tests.account.test_policies import ACCOUNT as ACCOUNT_OF_POLICIES
from tests.account.test_policies import COMMANDS, REQUIRED, build_all_documents
from tests.support import permissions
from tests.support.limits import find_request_problems
from tests.support.permissions import get_permission, list_resources
from tests.support.scenario import (
    ACCOUNT,
    ADMINISTRATOR,
    BUCKET,
    BUCKETS,
    CONTAINER,
    DENIED,
    MONITOR,
    NOBODY,
    USER,
    Call,
    EmulatedAccount,
    Scenario,
    emulate_account,
)  # fmt: skip

# AWS uses these permissions on the caller's behalf, or requires them for another call. `test_policies` explains why.
WITHOUT_A_CALL = {
    "cloudwatch:TagResource", "ec2:RunInstances", "ecs:GetTaskProtection", "ecs:TagResource",
    "ecs:UpdateTaskProtection", "events:TagResource", "iam:PassRole", "iam:TagInstanceProfile", "iam:TagRole",
    "lambda:ListTags", "lambda:TagResource", "logs:CreateLogStream", "logs:TagResource", "s3:AbortMultipartUpload",
}  # fmt: skip

CREATED_BY_A_RUN = {"CreateQueue", "CreateLogGroup", "CreateCluster", "CreateService", "RequestSpotFleet",
                    "CreateLaunchTemplate"}  # fmt: skip


def get_policies(login: str) -> dict[str, PolicyDocument]:
    """Return a login's policies, keyed by the names that `test_policies` uses."""
    roles = {CONTAINER: TASK_ROLE, MONITOR: MONITOR_ROLE}
    if login == USER:
        return build_control_policies(ACCOUNT, [BUCKET])
    if login == ADMINISTRATOR:
        return {"administrator": build_administrator_policy(ACCOUNT, [BUCKET])}
    (role,) = [role for role in build_roles(ACCOUNT, BUCKETS) if role.name == roles[login]]
    return {f"{role.name}/{name}": document for name, document in role.policies.items()}


LOGINS = (USER, ADMINISTRATOR, CONTAINER, MONITOR)
STATEMENTS = [
    (login, name, statement["Sid"])
    for login in LOGINS
    for name, document in get_policies(login).items()
    for statement in document["Statement"]
]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """All logins' calls to AWS, from the first setupAWS until everything is removed."""
    with emulate_account(tmp_path_factory.mktemp("scenario")) as scene, pytest.MonkeyPatch.context() as patch:
        Scenario(scene, patch).run()
        return [call for call in scene.calls if call.login != NOBODY]


@pytest.fixture(scope="module")
def empty_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    """An empty account that enforces policies, for testing individual calls."""
    with emulate_account(tmp_path_factory.mktemp("single")) as scene:
        yield scene


# The policies are sufficient


def test_no_call_is_denied(calls: list[Call]) -> None:
    assert {
        (call.login, get_permission(call.service, call.operation)) for call in calls if call.error in DENIED
    } == set()


def test_the_scenario_uses_every_permission_that_calls_in_the_code_need(calls: list[Call]) -> None:
    used = {get_permission(call.service, call.operation) for call in calls}

    assert (
        permissions.find_permissions(permissions.list_source_files(*COMMANDS, "account", "worker")).keys() - used
        == set()
    )


def test_the_scenario_makes_every_call_in_the_code(calls: list[Call]) -> None:
    """If several calls need the same permission, such as a single call and its batch version, each of them is made."""
    sent = {xform_name(call.operation) for call in calls} | {"upload_file"}  # s3transfer sends it as PutObject
    called = permissions.find_calls(permissions.list_source_files(*COMMANDS, "account", "worker"))

    assert len(called) > 120, "the search no longer finds the calls"
    assert {call: where for call, (_, where) in called.items() if call.partition(".")[2] not in sent} == {}


@pytest.mark.parametrize("login", LOGINS)
def test_each_request_is_allowed_for_its_resources_and_conditions(calls: list[Call], login: str) -> None:
    own_calls = [call for call in calls if call.login == login]
    granted = list(get_policies(login).values())

    denied = {
        f"{get_permission(call.service, call.operation)} on {resource}"
        for call in own_calls
        for resource, context in list_resources(ACCOUNT, call.service, call.operation, call.parameters)
        if not permissions.is_allowed(granted, get_permission(call.service, call.operation), resource, **context)
        and get_permission(call.service, call.operation) != "sts:GetCallerIdentity"
    }
    assert len(own_calls) > 30
    assert denied == set()


def test_everything_that_a_run_creates_has_the_tag_that_policies_require(calls: list[Call]) -> None:
    creations = [call for call in calls if call.login == USER and call.operation in CREATED_BY_A_RUN]

    assert {call.operation for call in creations} == CREATED_BY_A_RUN
    for call in creations:
        request = call.parameters.get("SpotFleetRequestConfig", call.parameters)
        assert "app" in permissions.list_tag_keys(request), call.operation
        data = request.get("LaunchTemplateData", {"TagSpecifications": []})
        for specification in data["TagSpecifications"]:  # for the instances and volumes
            assert "app" in permissions.list_tag_keys({"Tags": specification["Tags"]})


# The policies are minimal


@pytest.mark.parametrize("login", LOGINS)
def test_the_scenario_uses_every_granted_permission(calls: list[Call], login: str) -> None:
    used = {get_permission(call.service, call.operation) for call in calls if call.login == login} | WITHOUT_A_CALL
    granted = list_actions(get_policies(login))
    required = {action for name in get_policies(login) for action, _, _ in REQUIRED.get(name, ())}

    assert sorted(granted - used - required) == []


@pytest.mark.parametrize(("login", "name", "sid"), STATEMENTS, ids=[" ".join(keys[1:]) for keys in STATEMENTS])
def test_removing_any_statement_causes_a_denied_call(
    calls: list[Call], empty_account: EmulatedAccount, login: str, name: str, sid: str
) -> None:
    granted = get_policies(login)
    reduced = {key: remove_statement(document, sid if key == name else "") for key, document in granted.items()}
    remaining_actions = list_actions(reduced)
    (statement,) = [statement for statement in granted[name]["Statement"] if statement["Sid"] == sid]
    affected = [
        call for call in calls
        if call.login == login and get_permission(call.service, call.operation) in statement["Action"]
    ]  # fmt: skip
    unique = [call for call in affected if get_permission(call.service, call.operation) not in remaining_actions]

    if unique:  # no other statement allows the action, so moto can check it
        assert is_denied_by_moto(empty_account, reduced, unique[0])
        assert not is_denied_by_moto(empty_account, granted, unique[0])
    elif affected:  # another statement allows the action for other resources or conditions
        assert any(is_denied(reduced, call) for call in affected) or is_denied_to_aws(name, sid)
    else:  # AWS uses the permission on the caller's behalf
        assert is_denied_to_aws(name, sid)


def list_actions(policies: dict[str, PolicyDocument]) -> set[str]:
    return {
        action
        for document in policies.values()
        for statement in document["Statement"]
        for action in statement["Action"]
    }


def remove_statement(document: PolicyDocument, sid: str) -> PolicyDocument:
    return document | {"Statement": [statement for statement in document["Statement"] if statement["Sid"] != sid]}


def is_denied_by_moto(empty_account: EmulatedAccount, granted: dict[str, PolicyDocument], call: Call) -> bool:
    """Return whether moto denies the call to a new login with these policies. Other errors do not count."""
    login = empty_account.create_user(f"x{len(empty_account.calls)}", granted.values())
    client = login.session.client(call.service)
    parameters = {key: io.BytesIO(b"x") if key == "Body" else value for key, value in call.parameters.items()}
    try:
        getattr(client, xform_name(call.operation))(**parameters)
    except ClientError as error:
        return error.response["Error"]["Code"] in DENIED
    return False


def is_denied(granted: dict[str, PolicyDocument], call: Call) -> bool:
    """Return whether the policies deny the call for any of its resources."""
    action = get_permission(call.service, call.operation)
    resources = list_resources(ACCOUNT, call.service, call.operation, call.parameters)
    return any(
        not permissions.is_allowed(granted.values(), action, resource, **context) for resource, context in resources
    )


def is_denied_to_aws(name: str, sid: str) -> bool:
    """Return whether AWS needs this statement for what it does on the caller's behalf.

    `test_policies` lists what AWS requires, for a different account's policies.
    """
    assert ACCOUNT_OF_POLICIES != ACCOUNT
    reduced = remove_statement(build_all_documents()[name.replace(BUCKET, "app-bucket")], sid)
    return any(
        not permissions.is_allowed([reduced], action, resource, **context)
        for action, resource, context in REQUIRED[name]
    )


# The requests


def test_every_request_of_the_scenario_is_within_the_limits_of_aws(
    calls: list[Call], empty_account: EmulatedAccount
) -> None:
    """The limits apply to the length and characters of names, item counts, and values. moto checks none of them."""
    shapes: dict[tuple[str, str], Any] = {}
    for call in calls:
        key = (call.service, call.operation)
        if key not in shapes:
            model = empty_account.create_session(NOBODY, "a", "b").client(call.service).meta.service_model
            shapes[key] = model.operation_model(call.operation).input_shape
        if shapes[key] is not None:
            assert find_request_problems(call.service, call.parameters, shapes[key]) == [], (
                f"{call.login}: {call.service}.{call.operation}"
            )
