"""What a container may do because of MOUNT_S3, as its task definition says it."""

from __future__ import annotations

from typing import Any

from distributed_something.aws.ecs import ensure_task_definition
from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.core.config_settings import Settings
from tests.support.fakes import DEAD_URL, QUEUE_URL, SETTINGS, exact

MOUNTING = Settings.model_validate(SETTINGS.model_dump() | {"MOUNT_S3": True})


def container_of(settings: Settings) -> dict[str, Any]:
    """The one container of the settings' task definition."""
    return dict(build_task_definition(settings, QueueUrls(QUEUE_URL, DEAD_URL), None)["containerDefinitions"][0])


def test_without_the_mount_a_container_has_no_rights_of_its_own() -> None:
    assert {"linuxParameters", "privileged"} & container_of(SETTINGS).keys() == set()


def test_the_mount_needs_one_capability_and_one_device_and_is_never_privileged() -> None:
    container = container_of(MOUNTING)
    assert "privileged" not in container
    assert container["linuxParameters"] == {
        "capabilities": {"add": ["SYS_ADMIN"]},
        "devices": [{"hostPath": "/dev/fuse", "containerPath": "/dev/fuse", "permissions": ["read", "write"]}],
    }


def test_a_revision_to_which_ecs_added_its_defaults_is_not_registered_again() -> None:
    request = build_task_definition(MOUNTING, QueueUrls(QUEUE_URL, DEAD_URL), None)
    (asked,) = request["containerDefinitions"]
    rights = asked["linuxParameters"]
    added = rights | {"capabilities": rights["capabilities"] | {"drop": []}, "tmpfs": []}
    registered = {"taskDefinitionArn": "arn:1", "containerDefinitions": [asked | {"linuxParameters": added}]}
    with exact() as aws:
        aws.answer("ecs.describe_task_definition", taskDefinition=registered)
        assert ensure_task_definition(aws.clients.ecs, request) == "arn:1"


def test_a_revision_without_the_rights_is_registered_anew() -> None:
    request = build_task_definition(MOUNTING, QueueUrls(QUEUE_URL, DEAD_URL), None)
    (asked,) = request["containerDefinitions"]
    less = {name: value for name, value in asked.items() if name != "linuxParameters"}
    with exact() as aws:
        aws.answer("ecs.describe_task_definition", taskDefinition={"containerDefinitions": [less]})
        aws.answer("ecs.register_task_definition", request, taskDefinition={"taskDefinitionArn": "arn:2"})
        assert ensure_task_definition(aws.clients.ecs, request) == "arn:2"
