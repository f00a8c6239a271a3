"""Task scale-in protection, asked for as a worker asks its ECS agent."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from distributed_something.localcloud.base.endpoints import AGENT_PATH
from distributed_something.localcloud.daemon.ecs_agent import PROTECTION_STATE_PATH, AgentEndpoint
from distributed_something.localcloud.play.services import RunningTask
from tests.support.local_lab import Lab, eventually


def test_a_lowered_desired_count_stops_tasks_that_are_not_protected(lab: Lab) -> None:
    lab.serve(3)
    lab.fleet(2)
    eventually(lambda: lab.service()["runningCount"] == 3)
    kept = lab.tasks()[0]
    told = lab.protect(kept, ProtectionEnabled=True, ExpiresInMinutes=5)["protection"]
    assert told["ProtectionEnabled"]
    assert told["TaskArn"] == kept["taskArn"]
    left = datetime.fromisoformat(told["ExpirationDate"]) - datetime.now(UTC)
    assert timedelta(minutes=4) < left < timedelta(minutes=6)
    for desired in (1, 0):
        lab.want(desired)
        eventually(lambda: lab.arns() == {kept["taskArn"]})
    assert lab.protect(kept) == {"protection": told}
    lab.protect(kept, ProtectionEnabled=False)
    eventually(lambda: lab.tasks() == [])


def test_no_more_tasks_are_protected_once_the_service_wants_fewer_than_are(lab: Lab) -> None:
    lab.serve(3)
    lab.fleet(2)
    eventually(lambda: lab.service()["runningCount"] == 3)
    one, two, three = lab.tasks()
    for task in (one, two):
        assert "protection" in lab.protect(task, ProtectionEnabled=True)
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", desiredCount=1)
    answer = lab.protect(three, ProtectionEnabled=True)
    assert answer["failure"]["Reason"] in ("DEPLOYMENT_BLOCKED", "TASK_NOT_VALID")  # the latter if it stops already
    eventually(lambda: lab.arns() == {one["taskArn"], two["taskArn"]})


def test_a_protected_task_of_an_older_revision_runs_on_beside_the_new_one(lab: Lab) -> None:
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: lab.service()["runningCount"] == 1)
    (old,) = lab.tasks()
    lab.protect(old, ProtectionEnabled=True)
    newer = lab.define(NEWER="yes")
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", taskDefinition="PlumTask")
    eventually(lambda: {task["taskDefinitionArn"] for task in lab.tasks()} == {old["taskDefinitionArn"], newer})
    lab.protect(old, ProtectionEnabled=False)
    eventually(lambda: [task["taskDefinitionArn"] for task in lab.tasks()] == [newer])


def test_a_draining_machine_gets_no_tasks_and_keeps_only_its_protected_ones(lab: Lab) -> None:
    lab.serve(4)
    lab.fleet(2)
    eventually(lambda: lab.service()["runningCount"] == 4)
    kept = lab.tasks()[0]
    drained = kept["containerInstanceArn"]
    (other,) = (task for task in lab.tasks() if task["containerInstanceArn"] == drained and task != kept)
    lab.protect(kept, ProtectionEnabled=True)
    lab.fleet(1)
    eventually(lambda: len(lab.machines()) == 3)
    lab.ecs.update_container_instances_state(cluster=lab.cluster, containerInstances=[drained], status="DRAINING")
    # Two are replaced elsewhere; the protected one runs on beyond the wish.
    eventually(lambda: other["taskArn"] not in lab.arns() and len(lab.arns()) == 5)
    on_drained = {task["taskArn"] for task in lab.tasks() if task["containerInstanceArn"] == drained}
    assert on_drained == {kept["taskArn"]}
    lab.protect(kept, ProtectionEnabled=False)
    eventually(lambda: kept["taskArn"] not in lab.arns())
    eventually(lambda: {one["containerInstanceArn"]: one["runningTasksCount"] for one in lab.machines()}[drained] == 0)
    assert len(lab.arns()) == 4


def test_a_machine_that_is_terminated_takes_its_protected_tasks_with_it(lab: Lab) -> None:
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: lab.service()["runningCount"] == 1)
    (task,) = lab.tasks()
    lab.protect(task, ProtectionEnabled=True)
    lab.ec2.terminate_instances(InstanceIds=[lab.machines()[0]["ec2InstanceId"]])
    eventually(lambda: bool(lab.arns()) and task["taskArn"] not in lab.arns())


def test_protection_ends_by_itself_and_what_ecs_does_not_take_is_refused() -> None:
    clock = [1000.0]
    run = RunningTask(SimpleNamespace(task_arn="arn:t"), "arn:s", None, None, None, 30, 0.0)  # type: ignore[arg-type]
    services = SimpleNamespace(find_protection_refusal=lambda run, now: None)
    agent = AgentEndpoint(lambda name: (services, run) if name == "t" else None, lambda: clock[0])  # type: ignore[arg-type, return-value]

    def ask(method: str, body: bytes = b"", task: str = "t") -> tuple[str, Any]:
        said: list[str] = []
        environ = {
            "PATH_INFO": f"{AGENT_PATH}{task}{PROTECTION_STATE_PATH}",
            "REQUEST_METHOD": method,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        (answer,) = agent(environ, lambda status, headers: said.append(status))
        return said[0][:3], json.loads(answer)

    status, answer = ask("PUT", b'{"ProtectionEnabled": true, "ExpiresInMinutes": 2}')
    assert (status, answer["protection"]["ExpirationDate"]) == ("200", "1970-01-01T00:18:40Z")
    clock[0] += 119
    assert ask("GET")[1]["protection"]["ProtectionEnabled"] is True
    clock[0] += 1
    assert ask("GET")[1] == {"protection": {"ProtectionEnabled": False, "TaskArn": "arn:t"}}
    wrong = (b"", b"[]", b"{}", b'{"ProtectionEnabled": "yes"}', b'{"ProtectionEnabled": true, "ExpiresInMinutes": 0}')
    for body in (*wrong, b'{"ProtectionEnabled": true, "ExpiresInMinutes": 2881}'):
        status, answer = ask("PUT", body)
        assert (status, answer["error"]["Code"]) == ("400", "InvalidParameterException")
    assert ask("PUT", b'{"ProtectionEnabled": true}', task="another")[0] == "404"
    assert not run.is_protected(clock[0])
