"""The real policies, enforced: everything works with them, and nothing that they do not say.

`rehearsal` plays the whole story in moto, which refuses what a login's policies lack. What moto cannot judge, which
thing a call is about and under which conditions, the judge in `rights` does, over the very requests of the story.
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
from tests.account.test_policies import COMMANDS, MUST
from tests.account.test_policies import PLACE as PLACE_OF_POLICIES
from tests.account.test_policies import documents as documents_by_name
from tests.support import rights
from tests.support.limits import faults
from tests.support.rehearsal import (
    ADMINISTRATOR,
    BUCKET,
    BUCKETS,
    CONTAINER,
    DENIED,
    MONITOR,
    NOBODY,
    PLACE,
    USER,
    Call,
    Stage,
    Story,
    stage,
)  # fmt: skip
from tests.support.rights import action_of, resources_of

# AWS does these itself on a login's behalf, or asks for them as part of another call; `test_policies` holds each.
WITHOUT_A_CALL = {
    "cloudwatch:TagResource", "ec2:RunInstances", "ecs:GetTaskProtection", "ecs:TagResource",
    "ecs:UpdateTaskProtection", "events:TagResource", "iam:PassRole", "iam:TagInstanceProfile", "iam:TagRole",
    "lambda:ListTags", "lambda:TagResource", "logs:CreateLogStream", "logs:TagResource", "s3:AbortMultipartUpload",
}  # fmt: skip

MADE_BY_A_RUN = {"CreateQueue", "CreateLogGroup", "CreateCluster", "CreateService", "RequestSpotFleet",
                 "CreateLaunchTemplate"}  # fmt: skip


def of(who: str) -> dict[str, PolicyDocument]:
    """The policies of a login, by the names that `test_policies` gives them."""
    roles = {CONTAINER: TASK_ROLE, MONITOR: MONITOR_ROLE}
    if who == USER:
        return build_control_policies(PLACE, [BUCKET])
    if who == ADMINISTRATOR:
        return {"administrator": build_administrator_policy(PLACE, [BUCKET])}
    (role,) = [one for one in build_roles(PLACE, BUCKETS) if one.name == roles[who]]
    return {f"{role.name}/{name}": document for name, document in role.policies.items()}


WHO = (USER, ADMINISTRATOR, CONTAINER, MONITOR)
STATEMENTS = [
    (who, name, one["Sid"]) for who in WHO for name, document in of(who).items() for one in document["Statement"]
]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """All that was asked of AWS from an account's first setupAWS to its end, by everybody."""
    with stage(tmp_path_factory.mktemp("story")) as made, pytest.MonkeyPatch.context() as patch:
        Story(made, patch).play()
        return [call for call in made.calls if call.who != NOBODY]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An account where policies hold, for single calls."""
    with stage(tmp_path_factory.mktemp("single")) as made:
        yield made


# They suffice


def test_nobody_is_refused_anything(calls: list[Call]) -> None:
    assert {(call.who, action_of(call.service, call.operation)) for call in calls if call.error in DENIED} == set()


def test_the_story_makes_every_call_that_there_is_in_the_code(calls: list[Call]) -> None:
    made = {action_of(call.service, call.operation) for call in calls}

    assert rights.needed(rights.modules_of(*COMMANDS, "account", "worker")).keys() - made == set()


def test_the_story_makes_it_one_by_one_and_in_batches(calls: list[Call]) -> None:
    """Calls that share a right are made each."""
    made = {xform_name(call.operation) for call in calls} | {"upload_file"}  # that is s3transfer's: a PutObject
    called = rights.called(rights.modules_of(*COMMANDS, "account", "worker"))

    assert len(called) > 120, "calls are no longer found"
    assert {call: where for call, (_, where) in called.items() if call.partition(".")[2] not in made} == {}


@pytest.mark.parametrize("who", WHO)
def test_each_request_is_allowed_on_its_own_things_and_under_its_conditions(calls: list[Call], who: str) -> None:
    mine = [call for call in calls if call.who == who]
    granted = list(of(who).values())

    refused = {
        f"{action_of(call.service, call.operation)} on {resource}"
        for call in mine
        for resource, context in resources_of(PLACE, call.service, call.operation, call.parameters)
        if not rights.allows(granted, action_of(call.service, call.operation), resource, **context)
        and action_of(call.service, call.operation) != "sts:GetCallerIdentity"
    }
    assert len(mine) > 30
    assert refused == set()


def test_what_a_run_makes_carries_the_tag_that_the_policies_ask_for(calls: list[Call]) -> None:
    made = [call for call in calls if call.who == USER and call.operation in MADE_BY_A_RUN]

    assert {call.operation for call in made} == MADE_BY_A_RUN
    for call in made:
        request = call.parameters.get("SpotFleetRequestConfig", call.parameters)
        assert "app" in rights.tag_keys(request), call.operation
        data = request.get("LaunchTemplateData", {"TagSpecifications": []})
        for one in data["TagSpecifications"]:  # machines and volumes themselves
            assert "app" in rights.tag_keys({"Tags": one["Tags"]})


# They are the least


@pytest.mark.parametrize("who", WHO)
def test_no_right_is_given_that_the_story_does_not_use(calls: list[Call], who: str) -> None:
    used = {action_of(call.service, call.operation) for call in calls if call.who == who} | WITHOUT_A_CALL
    given = {action for document in of(who).values() for one in document["Statement"] for action in one["Action"]}
    demanded = {action for name in of(who) for action, _, _ in MUST.get(name, ())}

    assert sorted(given - used - demanded) == []


@pytest.mark.parametrize(("who", "name", "sid"), STATEMENTS, ids=[" ".join(one[1:]) for one in STATEMENTS])
def test_without_this_statement_a_call_is_refused(
    calls: list[Call], empty: Stage, who: str, name: str, sid: str
) -> None:
    rest = {key: without(document, sid if key == name else "") for key, document in of(who).items()}
    left = {action for document in rest.values() for one in document["Statement"] for action in one["Action"]}
    (statement,) = [one for one in of(who)[name]["Statement"] if one["Sid"] == sid]
    own = [call for call in calls if call.who == who and action_of(call.service, call.operation) in statement["Action"]]
    only_here = [call for call in own if action_of(call.service, call.operation) not in left]

    if only_here:  # moto can tell
        assert refused(empty, rest, only_here[0])
        assert not refused(empty, of(who), only_here[0])
    elif own:  # the same right on another thing, or under another condition
        assert any(lost(rest, call) for call in own)
    else:  # a right that AWS uses on the login's behalf
        assert lost_by_aws(name, sid)


def without(document: PolicyDocument, sid: str) -> PolicyDocument:
    return document | {"Statement": [one for one in document["Statement"] if one["Sid"] != sid]}


def refused(empty: Stage, granted: dict[str, PolicyDocument], call: Call) -> bool:
    """Whether a new login with these policies is refused the call by moto; any other answer is none."""
    login = empty.person(f"x{len(empty.calls)}", granted.values())
    client = login.session.client(call.service)
    parameters = {key: io.BytesIO(b"x") if key == "Body" else value for key, value in call.parameters.items()}
    try:
        getattr(client, xform_name(call.operation))(**parameters)
    except ClientError as error:
        return error.response["Error"]["Code"] in DENIED
    return False


def lost(granted: dict[str, PolicyDocument], call: Call) -> bool:
    action = action_of(call.service, call.operation)
    about = resources_of(PLACE, call.service, call.operation, call.parameters)
    return any(not rights.allows(granted.values(), action, resource, **context) for resource, context in about)


def lost_by_aws(name: str, sid: str) -> bool:
    """As `test_policies` says what AWS asks for; its documents are of another account."""
    assert PLACE_OF_POLICIES != PLACE
    rest = without(documents_by_name()[name.replace(BUCKET, "app-bucket")], sid)
    return any(not rights.allows([rest], action, thing, **context) for action, thing, context in MUST[name])


# What they are asked


def test_no_request_of_the_story_breaks_a_limit_of_aws(calls: list[Call], empty: Stage) -> None:
    """Names' lengths and characters, how many of each, and known words: moto takes all of them as they come."""
    shapes: dict[tuple[str, str], Any] = {}
    for call in calls:
        key = (call.service, call.operation)
        if key not in shapes:
            model = empty.session(NOBODY, "a", "b").client(call.service).meta.service_model
            shapes[key] = model.operation_model(call.operation).input_shape
        if shapes[key] is not None:
            assert faults(call.service, call.parameters, shapes[key]) == [], (
                f"{call.who}: {call.service}.{call.operation}"
            )
