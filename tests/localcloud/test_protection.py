"""Task scale-in protection, requested from the ECS agent as a worker would request it."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.localcloud.base.endpoints import AGENT_PATH
from distributed_something.localcloud.daemon.ecs_agent import PROTECTION_STATE_PATH, AgentEndpoint
from distributed_something.localcloud.play.services import RunningTask
from distributed_something.observe.service import count_protected_tasks
from tests.support.local_lab import Lab, wait_until


def has_replaced(lab: Lab, task_arn: str, tasks: int) -> bool:
    # Both answers come from one list, because the service may change between two.
    task_arns = lab.list_task_arns()
    return task_arn not in task_arns and len(task_arns) == tasks


@pytest.mark.long
def test_lowering_the_desired_count_stops_only_unprotected_tasks(lab: Lab) -> None:
    lab.create_service(3)
    lab.request_fleet(2)
    wait_until(lambda: lab.describe_service()["runningCount"] == 3)
    protected = lab.list_tasks()[0]
    protection = lab.call_protection(protected, ProtectionEnabled=True, ExpiresInMinutes=5)["protection"]
    assert protection["ProtectionEnabled"]
    assert protection["TaskArn"] == protected["taskArn"]
    remaining_time = datetime.fromisoformat(protection["ExpirationDate"]) - datetime.now(UTC)
    assert timedelta(minutes=4) < remaining_time < timedelta(minutes=6)
    for desired in (1, 0):
        lab.set_desired_count(desired)
        wait_until(lambda: lab.list_task_arns() == {protected["taskArn"]})
    assert lab.call_protection(protected) == {"protection": protection}
    lab.call_protection(protected, ProtectionEnabled=False)
    wait_until(lambda: lab.list_tasks() == [])


def test_protection_is_denied_if_more_tasks_are_protected_than_desired(lab: Lab) -> None:
    lab.create_service(3)
    lab.request_fleet(2)
    wait_until(lambda: lab.describe_service()["runningCount"] == 3)
    first, second, third = lab.list_tasks()
    for task in (first, second):
        assert "protection" in lab.call_protection(task, ProtectionEnabled=True)
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", desiredCount=1)
    response = lab.call_protection(third, ProtectionEnabled=True)
    # The reason is TASK_NOT_VALID if the task is already stopping.
    assert response["failure"]["Reason"] in ("DEPLOYMENT_BLOCKED", "TASK_NOT_VALID")
    wait_until(lambda: lab.list_task_arns() == {first["taskArn"], second["taskArn"]})


def test_ecs_says_which_tasks_are_protected(lab: Lab) -> None:
    lab.create_service(2)
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 2)
    first, second = (task["taskArn"] for task in lab.list_tasks())
    lab.call_protection({"taskArn": first}, ProtectionEnabled=True, ExpiresInMinutes=5)
    gone = second[:-4] + "0000"
    response = lab.ecs.get_task_protection(cluster=lab.cluster, tasks=[first, second, gone])
    protected = {task["taskArn"]: task for task in response["protectedTasks"]}
    assert {arn: task["protectionEnabled"] for arn, task in protected.items()} == {first: True, second: False}
    remaining = protected[first]["expirationDate"] - datetime.now(UTC)
    assert timedelta(minutes=4) < remaining < timedelta(minutes=6)
    assert response["failures"] == [{"arn": gone, "reason": "MISSING"}]
    assert count_protected_tasks(lab.ecs, lab.cluster, "PlumService") == 1


def test_as_many_tasks_as_desired_can_be_protected_and_their_protection_extended(lab: Lab) -> None:
    lab.create_service(2)
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 2)
    for task in lab.list_tasks() * 2:
        assert "protection" in lab.call_protection(task, ProtectionEnabled=True)
    lab.set_desired_count(1)
    for task in lab.list_tasks():
        response = lab.call_protection(task, ProtectionEnabled=True)
        assert response["failure"]["Reason"] == "DEPLOYMENT_BLOCKED"
    first, second = lab.list_tasks()
    lab.call_protection(first, ProtectionEnabled=False)
    assert "protection" in lab.call_protection(second, ProtectionEnabled=True)


def test_a_forced_deployment_with_0_and_100_percent_exchanges_idle_tasks_on_a_full_machine(lab: Lab) -> None:
    lab.create_service(2, memory=3500)  # a machine has room for two of these tasks
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 2)
    busy, idle = (task["taskArn"] for task in lab.list_tasks())
    lab.call_protection({"taskArn": busy}, ProtectionEnabled=True)
    options = {"minimumHealthyPercent": 0, "maximumPercent": 100}
    lab.ecs.update_service(
        cluster=lab.cluster, service="PlumService", deploymentConfiguration=options, forceNewDeployment=True
    )
    assert lab.describe_service()["deploymentConfiguration"] == options
    wait_until(lambda: has_replaced(lab, idle, tasks=2))
    assert busy in lab.list_task_arns()
    (successor,) = lab.list_task_arns() - {busy}
    # As many tasks are protected as desired, so the deployment waits for the busy one and nothing is refused.
    assert "protection" in lab.call_protection({"taskArn": successor}, ProtectionEnabled=True)
    lab.call_protection({"taskArn": busy}, ProtectionEnabled=False)
    wait_until(lambda: has_replaced(lab, busy, tasks=2))
    assert successor in lab.list_task_arns()


def test_a_protected_task_of_an_older_revision_keeps_running_alongside_the_new_one(lab: Lab) -> None:
    lab.create_service(1)
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 1)
    (old,) = lab.list_tasks()
    lab.call_protection(old, ProtectionEnabled=True)
    newer = lab.register_task_definition(NEWER="yes")
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", taskDefinition="PlumTask")
    wait_until(lambda: {task["taskDefinitionArn"] for task in lab.list_tasks()} == {old["taskDefinitionArn"], newer})
    lab.call_protection(old, ProtectionEnabled=False)
    wait_until(lambda: [task["taskDefinitionArn"] for task in lab.list_tasks()] == [newer])


def test_a_draining_machine_gets_no_new_tasks_and_keeps_only_protected_ones(lab: Lab) -> None:
    lab.create_service(4)
    lab.request_fleet(2)
    wait_until(lambda: lab.describe_service()["runningCount"] == 4)
    protected = lab.list_tasks()[0]
    drained = protected["containerInstanceArn"]
    (other,) = (task for task in lab.list_tasks() if task["containerInstanceArn"] == drained and task != protected)
    lab.call_protection(protected, ProtectionEnabled=True)
    lab.request_fleet(1)
    wait_until(lambda: len(lab.list_machines()) == 3)
    lab.ecs.update_container_instances_state(cluster=lab.cluster, containerInstances=[drained], status="DRAINING")
    # Both tasks on the drained machine are replaced, but the protected one keeps running as a fifth task.
    wait_until(lambda: has_replaced(lab, other["taskArn"], tasks=5))
    on_drained = {task["taskArn"] for task in lab.list_tasks() if task["containerInstanceArn"] == drained}
    assert on_drained == {protected["taskArn"]}
    lab.call_protection(protected, ProtectionEnabled=False)
    wait_until(lambda: protected["taskArn"] not in lab.list_task_arns())
    wait_until(
        lambda: (
            [
                machine["runningTasksCount"]
                for machine in lab.list_machines()
                if machine["containerInstanceArn"] == drained
            ]
            == [0]
        )
    )
    assert len(lab.list_task_arns()) == 4


@pytest.mark.long
def test_protected_tasks_stop_when_their_machine_is_terminated(lab: Lab) -> None:
    lab.create_service(1)
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 1)
    (task,) = lab.list_tasks()
    lab.call_protection(task, ProtectionEnabled=True)
    lab.ec2.terminate_instances(InstanceIds=[lab.list_machines()[0]["ec2InstanceId"]])
    wait_until(lambda: has_replaced(lab, task["taskArn"], tasks=1))


def test_protection_expires_and_invalid_requests_are_rejected() -> None:
    clock = [1000.0]
    task = RunningTask(SimpleNamespace(task_arn="arn:t", protected_until=0.0), "arn:s", None, None, None, 30, 0.0)  # type: ignore[arg-type]
    services = SimpleNamespace(find_protection_refusal=lambda task, now: None)
    agent = AgentEndpoint(lambda name: (services, task) if name == "t" else None, lambda: clock[0])  # type: ignore[arg-type, return-value]

    def send_request(method: str, body: bytes = b"", task_id: str = "t") -> tuple[str, Any]:
        statuses: list[str] = []
        environ = {
            "PATH_INFO": f"{AGENT_PATH}{task_id}{PROTECTION_STATE_PATH}",
            "REQUEST_METHOD": method,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        (response,) = agent(environ, lambda status, headers: statuses.append(status))
        return statuses[0][:3], json.loads(response)

    status, response = send_request("PUT", b'{"ProtectionEnabled": true, "ExpiresInMinutes": 2}')
    assert (status, response["protection"]["ExpirationDate"]) == ("200", "1970-01-01T00:18:40Z")
    clock[0] += 119
    assert send_request("GET")[1]["protection"]["ProtectionEnabled"] is True
    clock[0] += 1
    assert send_request("GET")[1] == {"protection": {"ProtectionEnabled": False, "TaskArn": "arn:t"}}
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"ProtectionEnabled": "yes"}',
        b'{"ProtectionEnabled": true, "ExpiresInMinutes": 0}',
        b'{"ProtectionEnabled": true, "ExpiresInMinutes": 2881}',
    ):
        status, response = send_request("PUT", body)
        assert (status, response["error"]["Code"]) == ("400", "InvalidParameterException")
    assert send_request("PUT", b'{"ProtectionEnabled": true}', task_id="another")[0] == "404"
    assert not task.is_protected(clock[0])
