"""Services: starting and stopping their tasks, and each task's worker process."""

from __future__ import annotations

import json

from distributed_something.localcloud.base.layout import build_layout
from tests.support.local_lab import Lab, wait_until


def test_tasks_start_until_the_desired_count_is_reached_or_no_capacity_is_free(lab: Lab) -> None:
    lab.create_service(5)
    lab.request_fleet(2)
    wait_until(lambda: lab.describe_service()["runningCount"] == 4)
    assert {machine["runningTasksCount"] for machine in lab.list_machines()} == {2}
    assert (
        "unable to place a task because no container instance met all of its requirements" in lab.read_service_events()
    )
    assert {task["lastStatus"] for task in lab.list_tasks()} == {"RUNNING"}


def test_running_tasks_are_subtracted_from_the_remaining_resources(lab: Lab) -> None:
    lab.create_service(1)
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 1)
    (machine,) = lab.list_machines()
    registered = {resource["name"]: resource["integerValue"] for resource in machine["registeredResources"]}
    remaining = {resource["name"]: resource["integerValue"] for resource in machine["remainingResources"]}
    assert registered["CPU"] - remaining["CPU"] == 500
    assert registered["MEMORY"] - remaining["MEMORY"] == 3000
    assert lab.describe_service()["pendingCount"] == 0
    idle = lab.ecs.list_container_instances(cluster=lab.cluster, filter="runningTasksCount == 0")
    assert idle["containerInstanceArns"] == []


def test_a_worker_gets_variables_from_its_task_definition_and_from_the_local_cloud(lab: Lab) -> None:
    script = "import json, os; print(json.dumps(dict(os.environ)))\nimport time; time.sleep(600)"
    (lab.project / "worker" / "generic-worker.py").write_text(script)
    lab.create_service(1, MY_NAME="Ada", AWS_ENDPOINT_URL_SQS="https://sqs.us-east-1.amazonaws.com")
    lab.request_fleet(1)
    wait_until(lambda: bool(lab.list_tasks()) and lab.read_task_log(lab.list_tasks()[0]).endswith("}\n"))
    environment = json.loads(lab.read_task_log(lab.list_tasks()[0]))
    assert environment["MY_NAME"] == "Ada"
    assert environment["AWS_ENDPOINT_URL_SQS"] == lab.cloud.state.ministack
    assert environment["INSTANCE_ID"] == lab.list_machines()[0]["ec2InstanceId"]
    assert environment["TMPDIR"].startswith(str(build_layout(lab.project).tasks))


def test_a_worker_that_ends_is_replaced_and_its_exit_code_is_recorded(lab: Lab) -> None:
    lab.create_service(1, STUB="exit")
    lab.request_fleet(1)
    wait_until(lambda: len(lab.list_tasks("STOPPED")) >= 2)
    task = lab.list_tasks("STOPPED")[0]
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["containers"][0]["exitCode"] == 3
    assert "unable to consistently start tasks" in lab.read_service_events()


def test_lowering_the_desired_count_stops_a_worker_and_its_children(lab: Lab) -> None:
    lab.create_service(1, stop_seconds=30)
    lab.request_fleet(1)
    wait_until(lambda: len(lab.list_workers()) == 2)
    (task,) = lab.list_tasks()
    lab.set_desired_count(0)
    wait_until(lambda: not lab.list_workers(), 20)  # before the stop timeout of 30 s
    assert "received SIGTERM" in lab.read_task_log(task)
    assert lab.list_tasks("STOPPED")[0]["containers"][0]["exitCode"] == 7


def test_a_worker_that_ignores_sigterm_is_killed_after_its_stop_timeout(lab: Lab) -> None:
    lab.create_service(1, STUB="ignore SIGTERM", stop_seconds=1)
    lab.request_fleet(1)
    wait_until(lambda: bool(lab.list_tasks()) and "worker on" in lab.read_task_log(lab.list_tasks()[0]))
    lab.set_desired_count(0)
    wait_until(lambda: not lab.list_workers())
    wait_until(lambda: lab.list_tasks("STOPPED")[0]["containers"][0].get("exitCode") == 137)


def test_tasks_are_replaced_when_their_service_gets_a_new_revision(lab: Lab) -> None:
    lab.create_service(1)
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 1)
    newer = lab.register_task_definition(NEWER="yes")
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", taskDefinition="PlumTask")
    wait_until(lambda: [task["taskDefinitionArn"] for task in lab.list_tasks()] == [newer])


def test_deleting_a_service_stops_its_workers(lab: Lab) -> None:
    lab.create_service(2)
    lab.request_fleet(1)
    wait_until(lambda: len(lab.list_workers()) == 4)
    lab.ecs.delete_service(cluster=lab.cluster, service="PlumService", force=True)
    wait_until(lambda: not lab.list_workers())
    assert lab.ecs.list_services(cluster=lab.cluster)["serviceArns"] == []


def test_a_deregistered_machine_gets_no_more_tasks(lab: Lab) -> None:
    lab.create_service(1)
    lab.request_fleet(1)
    wait_until(lambda: lab.describe_service()["runningCount"] == 1)
    (machine,) = lab.list_machines()
    arn = machine["containerInstanceArn"]
    lab.ecs.deregister_container_instance(cluster=lab.cluster, containerInstance=arn, force=True)
    wait_until(lambda: lab.describe_service()["runningCount"] == 0)
    assert lab.list_machines() == []


def test_a_task_runs_only_on_machines_that_meet_its_services_placement_constraint(lab: Lab) -> None:
    lab.create_service(1)
    constraints = [{"type": "memberOf", "expression": "attribute:app == Plum"}]
    lab.ecs.update_service(cluster=lab.cluster, service="PlumService", placementConstraints=constraints)
    lab.request_fleet(1)
    lab.request_fleet(1, script=lab.build_user_data('ECS_INSTANCE_ATTRIBUTES={"app":"Peach"}'))
    wait_until(lambda: "MemberOf placement constraint unsatisfied" in lab.read_service_events())
    wait_until(lambda: len(lab.list_machines()) == 2)
    assert lab.list_tasks() == []
    lab.request_fleet(1, script=lab.build_user_data('ECS_INSTANCE_ATTRIBUTES={"app":"Plum"}'))
    wait_until(lambda: len(lab.list_tasks()) == 1)
    arn = lab.list_tasks()[0]["containerInstanceArn"]
    (machine,) = (machine for machine in lab.list_machines() if machine["containerInstanceArn"] == arn)
    assert {"name": "app", "value": "Plum"} in machine["attributes"]


def test_a_service_keeps_its_constraint_and_propagates_tags_to_its_tasks(lab: Lab) -> None:
    lab.ecs.create_cluster(clusterName=lab.cluster)
    lab.register_task_definition()
    described = lab.ecs.describe_task_definition(taskDefinition="PlumTask")["taskDefinition"]
    tag = {"key": "run", "value": "20261123T104500Z"}
    containers = described["containerDefinitions"]
    lab.ecs.register_task_definition(family="PlumTask", containerDefinitions=containers, tags=[tag])
    constraints = [{"type": "memberOf", "expression": "attribute:app == Plum"}]
    lab.ecs.create_service(
        cluster=lab.cluster, serviceName="PlumService", taskDefinition="PlumTask", desiredCount=1,
        placementConstraints=constraints, propagateTags="TASK_DEFINITION",
    )  # fmt: skip
    assert lab.describe_service()["placementConstraints"] == constraints
    lab.request_fleet(1, script=lab.build_user_data('ECS_INSTANCE_ATTRIBUTES={"app":"Plum"}'))
    wait_until(lambda: len(lab.list_tasks()) == 1)
    arn = lab.list_tasks()[0]["taskArn"]
    task = lab.ecs.describe_tasks(cluster=lab.cluster, tasks=[arn], include=["TAGS"])["tasks"][0]
    assert tag in task["tags"]
