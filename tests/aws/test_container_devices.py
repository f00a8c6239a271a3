"""What MOUNT_S3 and GPUS add to a container's task definition."""

from __future__ import annotations

from typing import Any

import pytest

from distributed_something.aws.ecs import ensure_task_definition
from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.config_settings import Settings
from tests.support.fakes import DEAD_URL, QUEUE_URL, SETTINGS, FakeTime, expect_exact_calls

MOUNTING = Settings.model_validate(SETTINGS.model_dump() | {"MOUNT_S3": True})


def build_container(settings: Settings) -> dict[str, Any]:
    """Return the task definition's only container."""
    return dict(build_task_definition(settings, QueueUrls(QUEUE_URL, DEAD_URL), None)["containerDefinitions"][0])


def test_without_mount_s3_a_container_has_no_additional_permissions() -> None:
    assert {"linuxParameters", "privileged"} & build_container(SETTINGS).keys() == set()


def test_with_mount_s3_a_container_has_one_capability_and_one_device_but_is_not_privileged() -> None:
    container = build_container(MOUNTING)
    assert "privileged" not in container
    assert container["linuxParameters"] == {
        "capabilities": {"add": ["SYS_ADMIN"]},
        "devices": [{"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["read", "write"]}],
    }


def test_defaults_that_ecs_added_do_not_cause_a_new_revision() -> None:
    request = build_task_definition(MOUNTING, QueueUrls(QUEUE_URL, DEAD_URL), None)
    (container,) = request["containerDefinitions"]
    requested = container["linuxParameters"]
    with_defaults = requested | {"capabilities": requested["capabilities"] | {"drop": []}, "tmpfs": []}
    registered_container = container | {"linuxParameters": with_defaults}
    registered = {"taskDefinitionArn": "arn:1", "containerDefinitions": [registered_container]}
    with expect_exact_calls() as aws:
        aws.expect_call("ecs.describe_task_definition", taskDefinition=registered)
        assert ensure_task_definition(aws.clients.ecs, request, FakeTime().sleep) == "arn:1"


def test_a_new_revision_is_registered_if_the_latest_lacks_the_permissions() -> None:
    request = build_task_definition(MOUNTING, QueueUrls(QUEUE_URL, DEAD_URL), None)
    (container,) = request["containerDefinitions"]
    older = {name: value for name, value in container.items() if name != "linuxParameters"}
    with expect_exact_calls() as aws:
        aws.expect_call("ecs.describe_task_definition", taskDefinition={"containerDefinitions": [older]})
        aws.expect_call("ecs.register_task_definition", request, taskDefinition={"taskDefinitionArn": "arn:2"})
        assert ensure_task_definition(aws.clients.ecs, request, FakeTime().sleep) == "arn:2"


def test_a_container_asks_for_its_gpus_as_ecs_expects() -> None:
    assert "resourceRequirements" not in build_container(SETTINGS)
    settings = SETTINGS.model_copy(update={"GPUS": 2})
    assert build_container(settings)["resourceRequirements"] == [{"type": "GPU", "value": "2"}]


@pytest.mark.parametrize("setting", [{"MOUNT_S3": True}, {"GPUS": 1}])
def test_a_new_revision_is_registered_after_a_setting_was_turned_off(setting: dict[str, Any]) -> None:
    """Otherwise, a container would still ask for the device, and never start on a machine without it."""
    urls = QueueUrls(QUEUE_URL, DEAD_URL)
    older = build_task_definition(SETTINGS.model_copy(update=setting), urls, None)
    request = build_task_definition(SETTINGS, urls, None)
    for container in older["containerDefinitions"]:
        container["environment"] = request["containerDefinitions"][0]["environment"]
    with expect_exact_calls() as aws:
        described = {"containerDefinitions": older["containerDefinitions"]}
        aws.expect_call("ecs.describe_task_definition", taskDefinition=described)
        aws.expect_call("ecs.register_task_definition", request, taskDefinition={"taskDefinitionArn": "arn:2"})
        assert ensure_task_definition(aws.clients.ecs, request, FakeTime().sleep) == "arn:2"


def test_empty_defaults_of_ecs_cause_no_new_revision() -> None:
    request = build_task_definition(SETTINGS, QueueUrls(QUEUE_URL, DEAD_URL), None)
    (container,) = request["containerDefinitions"]
    registered = {"taskDefinitionArn": "arn:1", "containerDefinitions": [container | {"resourceRequirements": []}]}
    with expect_exact_calls() as aws:
        aws.expect_call("ecs.describe_task_definition", taskDefinition=registered)
        assert ensure_task_definition(aws.clients.ecs, request, FakeTime().sleep) == "arn:1"
