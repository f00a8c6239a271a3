"""Services get their tasks, and each task a worker that really runs."""

from __future__ import annotations

import json

from distributed_something.localcloud.base.layout import build_layout
from tests.support.local_lab import Lab, eventually


def test_tasks_start_up_to_the_desired_count_and_the_room_there_is(lab: Lab) -> None:
    lab.serve(5)
    lab.fleet(2)
    eventually(lambda: lab.service()["runningCount"] == 4)
    assert {machine["runningTasksCount"] for machine in lab.machines()} == {2}
    assert "unable to place a task because no container instance met all of its requirements" in lab.said()
    assert {task["lastStatus"] for task in lab.tasks()} == {"RUNNING"}


def test_counts_and_rooms_are_true(lab: Lab) -> None:
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: lab.service()["runningCount"] == 1)
    (machine,) = lab.machines()
    registered = {one["name"]: one["integerValue"] for one in machine["registeredResources"]}
    remaining = {one["name"]: one["integerValue"] for one in machine["remainingResources"]}
    assert registered["CPU"] - remaining["CPU"] == 500
    assert registered["MEMORY"] - remaining["MEMORY"] == 3000
    assert lab.service()["pendingCount"] == 0
    idle = lab.ecs.list_container_instances(cluster=lab.cluster, filter="runningTasksCount == 0")
    assert idle["containerInstanceArns"] == []


def test_a_worker_gets_the_task_definitions_environment_and_the_clouds(lab: Lab) -> None:
    script = "import json, os; print(json.dumps(dict(os.environ)))\nimport time; time.sleep(600)"
    (lab.project / "worker" / "generic-worker.py").write_text(script)
    lab.serve(1, MY_NAME="Ada", AWS_ENDPOINT_URL_SQS="https://sqs.us-east-1.amazonaws.com")
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and lab.log_of(lab.tasks()[0]).endswith("}\n"))
    seen = json.loads(lab.log_of(lab.tasks()[0]))
    assert seen["MY_NAME"] == "Ada"
    assert seen["AWS_ENDPOINT_URL_SQS"] == lab.cloud.state.ministack
    assert seen["INSTANCE_ID"] == lab.machines()[0]["ec2InstanceId"]
    assert seen["TMPDIR"].startswith(str(build_layout(lab.project).tasks))


def test_a_worker_that_ends_is_replaced_and_its_exit_code_shown(lab: Lab) -> None:
    lab.serve(1, STUB="brief")
    lab.fleet(1)
    eventually(lambda: len(lab.tasks("STOPPED")) >= 2)
    task = lab.tasks("STOPPED")[0]
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert "unable to consistently start tasks" in lab.said()


def test_a_lowered_desired_count_asks_a_worker_to_stop_and_takes_what_it_started(lab: Lab) -> None:
    lab.serve(1, stop_seconds=30)
    lab.fleet(1)
    eventually(lambda: len(lab.workers()) == 2)
    (task,) = lab.tasks()
    lab.want(0)
    eventually(lambda: not lab.workers(), 20)  # well before it would be killed
    assert "asked to stop" in lab.log_of(task)
    assert lab.tasks("STOPPED")[0]["containers"][0]["exitCode"] == 7


def test_a_worker_deaf_to_the_stop_signal_is_killed_after_its_stop_timeout(lab: Lab) -> None:
    lab.serve(1, STUB="deaf", stop_seconds=1)
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "worker on" in lab.log_of(lab.tasks()[0]))
    lab.want(0)
    eventually(lambda: not lab.workers())
    eventually(lambda: lab.tasks("STOPPED")[0]["containers"][0].get("exitCode") == 137)


def test_a_new_revision_replaces_the_tasks_of_the_old_one(lab: Lab) -> None:
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: lab.service()["runningCount"] == 1)
    newer = lab.define(NEWER="yes")
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", taskDefinition="PlumTask")
    eventually(lambda: [task["taskDefinitionArn"] for task in lab.tasks()] == [newer])


def test_a_deleted_service_leaves_no_worker(lab: Lab) -> None:
    lab.serve(2)
    lab.fleet(1)
    eventually(lambda: len(lab.workers()) == 4)
    lab.ecs.delete_service(cluster=lab.cluster, service="PlumService", force=True)
    eventually(lambda: not lab.workers())
    assert lab.ecs.list_services(cluster=lab.cluster)["serviceArns"] == []


def test_a_machine_that_is_deregistered_gets_no_more_tasks(lab: Lab) -> None:
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: lab.service()["runningCount"] == 1)
    (machine,) = lab.machines()
    arn = machine["containerInstanceArn"]
    lab.ecs.deregister_container_instance(cluster=lab.cluster, containerInstance=arn, force=True)
    eventually(lambda: lab.service()["runningCount"] == 0)
    assert lab.machines() == []


def test_a_task_runs_only_where_its_services_placement_constraint_lets_it(lab: Lab) -> None:
    lab.serve(1)
    ours = [{"type": "memberOf", "expression": "attribute:app == Plum"}]
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", placementConstraints=ours)
    lab.fleet(1)
    lab.fleet(1, script=lab.script('ECS_INSTANCE_ATTRIBUTES={"app":"Peach"}'))
    eventually(lambda: "MemberOf placement constraint unsatisfied" in lab.said())
    eventually(lambda: len(lab.machines()) == 2)
    assert lab.tasks() == []
    lab.fleet(1, script=lab.script('ECS_INSTANCE_ATTRIBUTES={"app":"Plum"}'))
    eventually(lambda: len(lab.tasks()) == 1)
    (host,) = (one for one in lab.machines() if one["containerInstanceArn"] == lab.tasks()[0]["containerInstanceArn"])
    assert {"name": "app", "value": "Plum"} in host["attributes"]


def test_a_service_made_with_a_constraint_keeps_it_and_gives_its_tasks_the_definitions_tags(lab: Lab) -> None:
    lab.ecs.create_cluster(clusterName=lab.cluster)
    lab.define()
    described = lab.ecs.describe_task_definition(taskDefinition="PlumTask")["taskDefinition"]
    mark = {"key": "run", "value": "20261123T104500Z"}
    container = described["containerDefinitions"]
    lab.ecs.register_task_definition(family="PlumTask", containerDefinitions=container, tags=[mark])
    ours = [{"type": "memberOf", "expression": "attribute:app == Plum"}]
    lab.ecs.create_service(
        cluster=lab.cluster, serviceName="PlumService", taskDefinition="PlumTask", desiredCount=1,
        placementConstraints=ours, propagateTags="TASK_DEFINITION",
    )  # fmt: skip
    assert lab.service()["placementConstraints"] == ours
    lab.fleet(1, script=lab.script('ECS_INSTANCE_ATTRIBUTES={"app":"Plum"}'))
    eventually(lambda: len(lab.tasks()) == 1)
    arn = lab.tasks()[0]["taskArn"]
    shown = lab.ecs.describe_tasks(cluster=lab.cluster, tasks=[arn], include=["TAGS"])["tasks"][0]
    assert mark in shown["tags"]
