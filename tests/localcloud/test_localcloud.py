"""The cloud in this computer, told in sentences: a real daemon, real emulators, real workers (of a stub script).

Waiting is polling with a deadline, because what is tested are processes. Every cloud is stopped by its fixture, and a
process that survived fails the test that left it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from botocore.exceptions import ClientError

from distributed_something.localcloud import LocalCloud, LocalCloudError, start_local_cloud, stop_local_cloud
from distributed_something.localcloud.base.endpoints import AGENT_PATH, METADATA_PATH
from distributed_something.localcloud.base.layout import CloudState, build_layout, read_cloud_state
from distributed_something.localcloud.base.processes import CLOUD_MARK, list_marked_processes, wait_for_condition
from distributed_something.localcloud.client.export import build_safe_path, build_safe_paths
from distributed_something.localcloud.client.fill_in import EmulatedAccount
from distributed_something.localcloud.daemon.ecs_agent import PROTECTION_STATE_PATH, AgentEndpoint
from distributed_something.localcloud.play.functions import FunctionRunner, ScheduleSimulator, parse_rate_seconds
from distributed_something.localcloud.play.placement import (
    FreeCapacity,
    StartThrottle,
    TaskRequirements,
    choose_machine,
    format_placement_failure,
)
from distributed_something.localcloud.play.services import RunningTask
from distributed_something.worker.machine.idle_alarm import find_instance_id
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.machine.spot_notice import SpotWatcher

STUB = """
import os, signal, subprocess, sys, time
print("worker on", os.environ["INSTANCE_ID"], flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
mode = os.environ.get("STUB", "wait")
def leave(number, frame):
    print("asked to stop", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else leave)
if mode == "brief":
    sys.exit(3)
time.sleep(600)
"""


class Lab:
    """A project with its cloud, and the calls of one run: a cluster, a service and fleets of its own."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.cluster = f"sky-{uuid.uuid4().hex[:6]}"
        self.fleets: list[str] = []
        (project / "worker").mkdir(parents=True, exist_ok=True)
        (project / "worker" / "generic-worker.py").write_text(STUB)
        self.cloud = self.start()
        self.own = set(self.processes())

    def start(self, **options: Any) -> LocalCloud:
        self.cloud = start_local_cloud(self.project, worker_root=self.project, **options)
        self.ec2, self.ecs = self.cloud.build_client("ec2"), self.cloud.build_client("ecs")
        return self.cloud

    def define(self, *, memory: int = 3000, stop_seconds: int = 2, image: str = "plum", **environment: str) -> str:
        container = {
            "name": "Plum",
            "image": image,
            "memory": memory,
            "cpu": 500,
            "stopTimeout": stop_seconds,
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
        }
        made = self.ecs.register_task_definition(family="PlumTask", containerDefinitions=[container])
        return str(made["taskDefinition"]["taskDefinitionArn"])

    def serve(self, desired: int, **definition: Any) -> None:
        self.ecs.create_cluster(clusterName=self.cluster)
        self.define(**definition)
        self.ecs.create_service(
            cluster=self.cluster, serviceName="PlumService", taskDefinition="PlumTask", desiredCount=0
        )
        self.want(desired)

    def want(self, desired: int) -> None:
        self.ecs.update_service(cluster=self.cluster, service="PlumService", desiredCount=desired)

    def script(self, *more: str) -> str:
        """What a machine of this run starts with."""
        lines = [f"ECS_CLUSTER={self.cluster}", *more]
        return "\n".join(["#!/bin/bash", "cat >> /etc/ecs/ecs.config <<'EOF'", *lines, "EOF", ""])

    def fleet(self, machines: int, script: str = "", **config: Any) -> str:
        script = script or self.script()
        specification = {
            "ImageId": "ami-0123456789abcdef0",
            "InstanceType": "m5.large",
            "KeyName": "your-key",
            "IamInstanceProfile": {"Arn": "arn:aws:iam::999999999999:instance-profile/ecsInstanceRole"},
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1, subnet-2", "Groups": ["sg-1", "sg-2"]}],
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 22}}],
            "UserData": base64.b64encode(script.encode()).decode(),
        }
        fleet = {
            "IamFleetRole": "arn:aws:iam::999999999999:role/aws-ec2-spot-fleet-tagging-role",
            "TargetCapacity": machines,
            "LaunchSpecifications": [specification],
            **config,
        }
        answer = self.ec2.request_spot_fleet(SpotFleetRequestConfig=self.cloud.adapt_fleet_file(fleet))
        self.fleets.append(answer["SpotFleetRequestId"])
        return self.fleets[-1]

    def service(self) -> Any:
        return self.ecs.describe_services(cluster=self.cluster, services=["PlumService"])["services"][0]

    def tasks(self, status: str = "RUNNING") -> list[Any]:
        arns = self.ecs.list_tasks(cluster=self.cluster, serviceName="PlumService", desiredStatus=status)["taskArns"]
        return self.ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []

    def machines(self) -> list[Any]:
        arns = self.ecs.list_container_instances(cluster=self.cluster)["containerInstanceArns"]
        found = self.ecs.describe_container_instances(cluster=self.cluster, containerInstances=arns) if arns else {}
        return list(found.get("containerInstances", []))

    def address(self, path: str, name: str) -> str:
        return f"{self.cloud.state.moto}{path}{name}"

    def protect(self, task: Any, **state: Any) -> Any:
        """What the task's own ECS agent answers to this state; without one to the question."""
        url = self.address(AGENT_PATH, task["taskArn"].split("/")[-1]) + PROTECTION_STATE_PATH
        body = json.dumps(state).encode() if state else None
        request = Request(url, data=body, method="PUT" if state else "GET")
        with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
            return json.load(answer)

    def arns(self) -> set[str]:
        """Of the tasks that run and are to run."""
        return {task["taskArn"] for task in self.tasks()}

    def fleet_state(self, fleet_id: str) -> Any:
        return self.ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"][0]

    def history(self, fleet_id: str) -> list[str]:
        answer = self.ec2.describe_spot_fleet_request_history(SpotFleetRequestId=fleet_id, StartTime="2020-01-01")
        return [record["EventInformation"]["EventSubType"] for record in answer["HistoryRecords"]]

    def log_of(self, task: Any) -> str:
        return (build_layout(self.project).task_logs / f"{task['taskArn'].split('/')[-1]}.log").read_text()

    def said(self) -> str:
        return "\n".join(event["message"] for event in self.service()["events"])

    def processes(self) -> list[int]:
        return list_marked_processes(CLOUD_MARK, build_layout(self.project).key)

    def workers(self) -> list[int]:
        """Worker scripts and what they started: what runs now and did not when the cloud was idle."""
        return [pid for pid in self.processes() if pid not in self.own]

    def clear(self) -> None:
        """Ends this run's machines and workers; the cloud goes on."""
        self.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=self.fleets, TerminateInstances=True)
        eventually(lambda: not self.workers())


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Seconds are for a busy computer: what takes longer fails, and nothing is waited for that is there."""
    assert wait_for_condition(condition, seconds), "this did not come true in time"


def close(lab: Lab) -> None:
    stop_local_cloud(lab.project)
    left = lab.processes()
    assert not left, f"processes survived the cloud: {left}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose cloud serves all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared") / "project"
    yield folder
    stop_local_cloud(folder)


@pytest.fixture
def lab(project: Path) -> Iterator[Lab]:
    """A run of its own in the shared cloud."""
    made = Lab(project)
    yield made
    made.clear()


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A cloud of its own, for tests that end it."""
    made = Lab(tmp_path / "project")
    yield made
    close(made)


def test_a_second_command_attaches_to_the_cloud_that_runs(lab: Lab) -> None:
    first = lab.cloud
    assert lab.start().state == first.state


def test_commands_that_start_at_once_share_one_cloud(tmp_path: Path) -> None:
    found: list[LocalCloud] = []
    threads = [
        threading.Thread(target=lambda: found.append(start_local_cloud(tmp_path, worker_root=tmp_path)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({cloud.state for cloud in found}) == 1
    finally:
        stop_local_cloud(tmp_path)


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


def test_a_cancelled_fleet_ends_its_machines_and_their_tasks(lab: Lab) -> None:
    lab.serve(2)
    fleet_id = lab.fleet(1)
    eventually(lambda: len(lab.workers()) == 4)
    lab.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
    eventually(lambda: not lab.workers() and not lab.machines())
    assert lab.fleet_state(fleet_id)["SpotFleetRequestState"] == "cancelled"
    assert "terminated" in lab.tasks("STOPPED")[0]["stoppedReason"]
    assert "No Container Instances were found in your cluster" in lab.said()


def test_a_fleet_can_be_cancelled_again_and_an_unknown_one_is_refused(lab: Lab) -> None:
    fleet_id = lab.fleet(0)
    for known in (True, True, False):
        ids = [fleet_id if known else "sfr-12345678-1234-1234-1234-123456789012"]
        answer = lab.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=ids, TerminateInstances=True)
        assert len(answer["SuccessfulFleetRequests"]) == known
        assert len(answer["UnsuccessfulFleetRequests"]) == (not known)


def test_a_machine_that_is_deregistered_gets_no_more_tasks(lab: Lab) -> None:
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: lab.service()["runningCount"] == 1)
    (machine,) = lab.machines()
    arn = machine["containerInstanceArn"]
    lab.ecs.deregister_container_instance(cluster=lab.cluster, containerInstance=arn, force=True)
    eventually(lambda: lab.service()["runningCount"] == 0)
    assert lab.machines() == []


def test_a_machine_that_ends_is_replaced_and_the_history_tells_it(lab: Lab) -> None:
    lab.serve(1)
    fleet_id = lab.fleet(2)
    eventually(lambda: len(lab.machines()) == 2)
    ended = lab.machines()[0]["ec2InstanceId"]
    lab.ec2.terminate_instances(InstanceIds=[ended])
    eventually(lambda: len(lab.machines()) == 2 and ended not in [one["ec2InstanceId"] for one in lab.machines()])
    assert lab.history(fleet_id) == ["submitted", "active", "launched", "launched", "terminated", "launched"]


def test_a_lowered_target_ends_machines_only_where_the_policy_says_so(lab: Lab) -> None:
    lab.serve(0)
    fleet_id = lab.fleet(3)
    eventually(lambda: len(lab.machines()) == 3)
    modify = lab.ec2.modify_spot_fleet_request
    modify(SpotFleetRequestId=fleet_id, TargetCapacity=2, ExcessCapacityTerminationPolicy="NoTermination")
    eventually(lambda: lab.fleet_state(fleet_id)["ActivityStatus"] == "pending_termination")
    assert len(lab.machines()) == 3
    modify(SpotFleetRequestId=fleet_id, TargetCapacity=1, ExcessCapacityTerminationPolicy="Default")
    eventually(lambda: len(lab.machines()) == 1)


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


def test_machines_of_a_launch_template_join_and_the_fleet_is_shown_as_it_was_asked_for(lab: Lab) -> None:
    lab.serve(1)
    account, tag = EmulatedAccount(lab.cloud.build_client), {"Key": "app", "Value": "Plum"}
    data: Any = {
        "ImageId": account.own_image,
        "UserData": base64.b64encode(lab.script().encode()).decode(),
        "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [account.own_security_group]}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": [tag]} for kind in ("instance", "volume")],
    }
    lab.ec2.create_launch_template(LaunchTemplateName=lab.cluster, LaunchTemplateData=data)
    second = data | {"KeyName": account.adapt_key_pair("local")}
    lab.ec2.create_launch_template_version(LaunchTemplateName=lab.cluster, LaunchTemplateData=second)
    subnet = account.own_subnet
    types = ("m5.large", "m5a.large"), ("m6i.large",)
    configs = [
        {
            "LaunchTemplateSpecification": {"LaunchTemplateName": lab.cluster, "Version": version},
            "Overrides": [{"InstanceType": one, "SubnetId": subnet} for one in some],
        }
        for version, some in zip("12", types, strict=True)
    ]
    config: Any = {
        "IamFleetRole": account.adapt_fleet_role("a role"), "TargetCapacity": 3, "OnDemandTargetCapacity": 1,
        "LaunchTemplateConfigs": configs, "AllocationStrategy": "diversified",
    }  # fmt: skip
    lab.fleets.append(lab.ec2.request_spot_fleet(SpotFleetRequestConfig=config)["SpotFleetRequestId"])
    eventually(lambda: len(lab.machines()) == 3 and len(lab.tasks()) == 1)
    shown = lab.fleet_state(lab.fleets[-1])["SpotFleetRequestConfig"]
    assert (shown["LaunchTemplateConfigs"], shown["OnDemandTargetCapacity"]) == (configs, 1)
    ids = [one["ec2InstanceId"] for one in lab.machines()]
    found = [one for group in lab.ec2.describe_instances(InstanceIds=ids)["Reservations"] for one in group["Instances"]]
    of_which_version = {(one["InstanceType"], one.get("KeyName", "")) for one in found}
    assert of_which_version == {("m5.large", ""), ("m5a.large", ""), ("m6i.large", "local")}
    assert all(tag in one["Tags"] and one["SubnetId"] == subnet for one in found)
    volumes = lab.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": ids}])["Volumes"]
    assert len(volumes) == 3
    assert all(tag in one["Tags"] for one in volumes)


def test_a_template_that_the_account_lacks_is_filled_in_and_one_it_has_is_kept(lab: Lab) -> None:
    asked = {"LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-0123456789abcdef0"}}]}
    filled = lab.cloud.adapt_fleet_file(asked)
    assert filled["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"] == {"LaunchTemplateName": "local"}
    assert lab.cloud.adapt_fleet_file(filled) == filled


def test_a_fleet_that_maintains_no_capacity_cannot_be_modified(lab: Lab) -> None:
    fleet_id = lab.fleet(1, Type="request")
    with pytest.raises(ClientError, match="FleetNotInModifiableState"):
        lab.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_id, TargetCapacity=2)


def test_a_machine_that_ends_after_its_fleets_target_was_lowered_is_not_replaced(lab: Lab) -> None:
    lab.serve(0)
    fleet_id = lab.fleet(3)
    eventually(lambda: len(lab.machines()) == 3)
    lab.ec2.modify_spot_fleet_request(
        SpotFleetRequestId=fleet_id, TargetCapacity=1, ExcessCapacityTerminationPolicy="noTermination"
    )
    ended, *others = sorted(one["ec2InstanceId"] for one in lab.machines())
    lab.ec2.terminate_instances(InstanceIds=[ended])
    eventually(lambda: "terminated" in lab.history(fleet_id))
    assert sorted(one["ec2InstanceId"] for one in lab.machines()) == others
    lab.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_id, TargetCapacity=4)
    eventually(lambda: len(lab.machines()) == 4)


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


def test_a_machine_hears_of_its_interruption_as_on_ec2(lab: Lab) -> None:
    lab.serve(1, STUB="deaf", stop_seconds=60)
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "worker on" in lab.log_of(lab.tasks()[0]))
    name = lab.machines()[0]["ec2InstanceId"]
    metadata = InstanceMetadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": lab.address(METADATA_PATH, name)})
    assert find_instance_id(metadata) == name
    heard: list[float] = []
    watcher = SpotWatcher(metadata, heard.append, lambda: None, time.time)
    watcher.tick()
    assert heard == []
    earliest = time.time() + 60
    lab.cloud.interrupt(name, notice_seconds=60)
    latest = time.time() + 60
    watcher.tick()
    (ends_at,) = heard
    assert earliest - 1 <= ends_at <= latest + 1  # told to the second


def test_service_linked_roles_have_awss_names(lab: Lab) -> None:
    iam = lab.cloud.build_client("iam")
    for service, name in (("spot", "EC2Spot"), ("spotfleet", "EC2SpotFleet"), ("ecs", "ECS")):
        made = iam.create_service_linked_role(AWSServiceName=f"{service}.amazonaws.com")
        assert made["Role"]["RoleName"] == f"AWSServiceRoleFor{name}"


def test_a_fleet_whose_time_is_over_ends_with_its_machines(lab: Lab) -> None:
    lab.serve(0)
    soon, later = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (2, 600))
    ends, stays = (lab.fleet(1, ValidUntil=at, TerminateInstancesWithExpiration=True) for at in (soon, later))
    eventually(lambda: lab.fleet_state(ends)["SpotFleetRequestState"] == "cancelled")
    eventually(lambda: len(lab.machines()) == 1)
    assert lab.ec2.describe_spot_fleet_instances(SpotFleetRequestId=ends)["ActiveInstances"] == []
    assert lab.fleet_state(stays)["SpotFleetRequestState"] == "active"


def test_an_interrupted_machine_is_drained_taken_away_and_replaced(lab: Lab) -> None:
    lab.serve(1, stop_seconds=30)
    fleet_id = lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "worker on" in lab.log_of(lab.tasks()[0]))
    (task,) = lab.tasks()
    taken = lab.cloud.interrupt()
    eventually(lambda: bool(lab.tasks()) and lab.machines()[0]["ec2InstanceId"] != taken)
    assert "asked to stop" in lab.log_of(task)
    assert lab.history(fleet_id)[2:] == ["launched", "termination_notified", "terminated", "launched"]


def test_an_interruption_waits_no_longer_than_its_notice(lab: Lab) -> None:
    lab.serve(1, STUB="deaf", stop_seconds=60)
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "worker on" in lab.log_of(lab.tasks()[0]))
    (task,) = lab.tasks()
    taken = lab.cloud.interrupt(lab.machines()[0]["ec2InstanceId"], notice_seconds=1)
    eventually(lambda: bool(lab.tasks()) and lab.tasks()[0]["taskArn"] != task["taskArn"])
    state = lab.ec2.describe_instances(InstanceIds=[taken])["Reservations"][0]["Instances"][0]
    assert state["State"]["Name"] == "terminated"
    assert state["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_without_a_machine_none_can_be_interrupted(lab: Lab) -> None:
    with pytest.raises(LocalCloudError, match="no machine is running"):
        lab.cloud.interrupt()
    with pytest.raises(LocalCloudError, match="no machine i-12 is running"):
        lab.cloud.interrupt("i-12")


def test_a_daemon_that_was_killed_leaves_no_worker_and_objects_survive_it(own_lab: Lab) -> None:
    lab = own_lab
    lab.serve(1)
    lab.fleet(1)
    lab.cloud.ensure_buckets(["pears"])
    lab.cloud.build_client("s3").put_object(Bucket="pears", Key="a", Body=b"1")
    eventually(lambda: len(lab.workers()) == 2)
    os.kill(lab.cloud.state.pid, signal.SIGKILL)
    eventually(lambda: not lab.processes())
    lab.start()
    assert (lab.cloud.export(["pears"]) / "pears" / "a").read_text() == "1"


def test_the_next_start_clears_what_a_killed_daemon_and_its_cleanup_process_left(own_lab: Lab) -> None:
    lab = own_lab
    lab.serve(1)
    lab.fleet(1)
    eventually(lambda: len(lab.workers()) == 2)
    workers = lab.workers()
    for pid in lab.processes():
        if pid not in workers:
            os.kill(pid, signal.SIGKILL)
    lab.start()
    assert not set(workers) & set(lab.processes())


def test_a_cloud_whose_folder_is_deleted_ends(own_lab: Lab) -> None:
    lab = own_lab
    shutil.rmtree(build_layout(lab.project).root)
    eventually(lambda: not lab.processes())


def test_two_projects_at_once_do_not_see_each_other(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "project-two")
    try:
        for one in (lab, other):
            one.serve(1)
        lab.fleet(1)
        eventually(lambda: lab.service()["runningCount"] == 1)
        assert other.service()["runningCount"] == 0
        assert stop_local_cloud(other.project)
        assert lab.service()["runningCount"] == 1
    finally:
        close(other)


def test_stop_says_whether_a_cloud_ran(tmp_path: Path) -> None:
    assert stop_local_cloud(tmp_path) is False
    start_local_cloud(tmp_path, worker_root=tmp_path)
    assert stop_local_cloud(tmp_path) is True
    assert stop_local_cloud(tmp_path) is False
    assert read_cloud_state(build_layout(tmp_path)) is None


def test_only_loopback_is_listened_on(lab: Lab) -> None:
    for url in (lab.cloud.state.moto, lab.cloud.state.ministack):
        assert url.startswith("http://127.0.0.1:")
    environment = lab.cloud.environment()
    addresses = {value for name, value in environment.items() if name.startswith("AWS_ENDPOINT_URL")}
    assert addresses == {lab.cloud.state.moto, lab.cloud.state.ministack}


def test_a_users_own_aws_settings_have_no_say(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "own-config").write_text("[profile mine]\nregion = eu-west-3\n")
    hostile = {
        "PATH": os.environ["PATH"],
        "AWS_PROFILE": "mine",
        "AWS_CONFIG_FILE": str(tmp_path / "own-config"),
        "AWS_SESSION_TOKEN": "secret",
        "AWS_CA_BUNDLE": "/nowhere.pem",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_ENDPOINT_URL_DYNAMODB": "https://example.com",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    script = """if True:
        import boto3
        assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"
        assert boto3.client("dynamodb").meta.endpoint_url.startswith("http://127.0.0.1:")
        boto3.client("sqs").create_queue(QueueName="apples")
        boto3.client("s3").list_buckets()
        boto3.client("logs").describe_log_groups()
        boto3.client("cloudwatch").list_dashboards()
    """
    environment = hostile | own_environment(lab, hostile)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def own_environment(lab: Lab, user: dict[str, str]) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in user.items():
            patch.setenv(name, value)
        return lab.cloud.environment()


def test_what_the_account_lacks_is_filled_in_and_what_it_has_is_kept(lab: Lab) -> None:
    fleet = {
        "IamFleetRole": "arn:aws:iam::999999999999:role/x",
        "LaunchSpecifications": [{"ImageId": "ami-1", "SubnetId": "subnet-1", "InstanceType": "m5.large"}],
    }
    filled = lab.cloud.adapt_fleet_file(fleet)
    account = EmulatedAccount(lab.cloud.build_client)
    assert filled["LaunchSpecifications"][0]["SubnetId"] == account.own_subnet
    assert filled["LaunchSpecifications"][0]["InstanceType"] == "m5.large"
    assert fleet["IamFleetRole"].endswith("role/x")
    assert lab.cloud.adapt_fleet_file(filled) == filled


def test_a_published_files_disks_hold_the_image_that_stands_for_its_own(lab: Lab) -> None:
    """Else a rehearsal would be refused for disks that fit the image of the file."""
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "SnapshotId": "snap-0123456789abcdef0"}},
        {"DeviceName": "/dev/xvdcz", "Ebs": {"VolumeSize": 100, "VolumeType": "gp2"}},
    ]
    filled = lab.cloud.adapt_fleet_file({"LaunchSpecifications": [{"ImageId": "ami-1", "BlockDeviceMappings": disks}]})
    root, other = (one["Ebs"] for one in filled["LaunchSpecifications"][0]["BlockDeviceMappings"])
    (image,) = lab.ec2.describe_images(ImageIds=[EmulatedAccount(lab.cloud.build_client).own_image])["Images"]
    (snapshot,) = lab.ec2.describe_snapshots(SnapshotIds=[root["SnapshotId"]])["Snapshots"]
    assert root["VolumeSize"] >= max(image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"], snapshot["VolumeSize"])
    assert other["VolumeSize"] == 100


def test_results_become_ordinary_files_and_unchanged_ones_are_left_alone(lab: Lab) -> None:
    lab.cloud.ensure_buckets(["pears", "pears"])
    s3 = lab.cloud.build_client("s3")
    for key in ("a/b.txt", "a", "../../escape", "/absolute", "folder/"):
        s3.put_object(Bucket="pears", Key=key, Body=key.encode())
    results = lab.cloud.export(["pears", "no-such-bucket"]) / "pears"
    assert (results / "a" / "b.txt").read_text() == "a/b.txt"
    assert (results / "%2E%2E" / "%2E%2E" / "escape").exists()
    assert not (results.parent / "escape").exists()
    assert not (lab.project / "escape").exists()
    before = (results / "a" / "b.txt").stat().st_ino
    s3.put_object(Bucket="pears", Key="/absolute", Body=b"changed!!")
    lab.cloud.export(["pears"])
    assert (results / "a" / "b.txt").stat().st_ino == before
    assert (results / "%" / "absolute").read_text() == "changed!!"


def test_a_cloud_that_cannot_start_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(LocalCloudError) as refusal:
        start_local_cloud(tmp_path, worker_root=tmp_path)
    assert "\n" not in str(refusal.value)
    assert "cloud.log" in str(refusal.value)


def test_containers_without_an_engine_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(LocalCloudError, match="container"):
        start_local_cloud(tmp_path, containers=True, worker_root=tmp_path)
    assert stop_local_cloud(tmp_path) is False


# functions and their schedule


CODE = """
import importlib.util, json, sys, boto3, mine
def handler(event, context):
    names = ("pydantic", "click", "moto", "distributed_something")
    strangers = [name for name in names if importlib.util.find_spec(name)]
    boto3.client("s3").put_object(Bucket="calls", Key=event["key"], Body=json.dumps([strangers, mine.WORD]).encode())
"""


def zipped(**modules: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in modules.items():
            archive.writestr(f"{name}.py", text)
    return buffer.getvalue()


def schedule(lab: Lab, rule: str, function: str, state: str = "ENABLED") -> Any:
    """A rule that calls this function once a minute; the client of EventBridge."""
    events = lab.cloud.build_client("events")
    events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)", State=state)
    target = {"Id": "1", "Arn": function, "Input": json.dumps({"key": rule})}
    events.put_targets(Rule=rule, Targets=[target])
    return events


def calls(lab: Lab) -> dict[str, Any]:
    """What the functions stored, by rule."""
    s3 = lab.cloud.build_client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="calls").get("Contents", [])]
    return {key: json.load(s3.get_object(Bucket="calls", Key=key)["Body"]) for key in keys}


def test_a_schedule_calls_its_function_which_has_its_code_and_boto3_and_nothing_else(own_lab: Lab) -> None:
    lab = own_lab
    lab.cloud.ensure_buckets(["calls"])
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = lab.cloud.build_client("iam").create_role(RoleName="apples", AssumeRolePolicyDocument=json.dumps(trust))[
        "Role"
    ]
    made = lab.cloud.build_client("lambda").create_function(
        FunctionName="apples", Runtime="python3.13", Role=role["Arn"], Handler="entry.handler",
        Code={"ZipFile": zipped(entry=CODE, mine="WORD = 'apple'")},
    )  # fmt: skip
    function = made["FunctionArn"]
    schedule(lab, "off", function, "DISABLED")
    schedule(lab, "astray", f"{function}-gone")
    events = schedule(lab, "often", function)
    eventually(lambda: "often" in calls(lab))
    assert calls(lab) == {"often": [[], "apple"]}
    events.remove_targets(Rule="often", Ids=["1"])
    events.delete_rule(Name="often")
    # When a schedule ends, what it watched over has ended: results become files without a command.
    eventually((lab.project / "local" / "calls" / "often").exists)
    assert f"the rule astray calls {function}-gone, which is not there" in build_layout(lab.project).log.read_text()


def test_a_call_that_takes_longer_than_its_function_may_is_ended_and_none_begins_beside_it(tmp_path: Path) -> None:
    layout = build_layout(tmp_path)
    layout.make_folders()
    sleeper = SimpleNamespace(
        function_name="sleeper", handler="entry.handler", timeout=60, memory_size=128, environment_vars={},
        code_sha_256="a/b=", code_bytes=zipped(entry="import time\ndef handler(event, context): time.sleep(600)"),
    )  # fmt: skip
    rule = SimpleNamespace(
        name="often", state="ENABLED", scheduled_expression="rate(1 minute)",
        targets=[{"Id": "1", "Arn": "arn:aws:lambda:us-east-1:123456789012:function:sleeper"}],
    )  # fmt: skip
    events = SimpleNamespace(region_name="us-east-1", event_buses={"default": SimpleNamespace(rules={"often": rule})})
    begun: list[Any] = []

    class Counted(FunctionRunner):
        def start_call(self, *arguments: Any) -> Any:
            begun.append(super().start_call(*arguments))
            return begun[-1]

    schedules = ScheduleSimulator(
        events, SimpleNamespace(get_function=lambda arn: sleeper), Counted(layout), lambda region: {}
    )
    try:
        for now, count in ((0.0, 0), (1.9, 0), (2.0, 1), (4.0, 1), (61.9, 1)):
            schedules.simulate_step(now)
            assert len(begun) == count
        assert begun[0].process.poll() is None
        schedules.simulate_step(62.0)
        assert begun[0].process.returncode == -signal.SIGKILL
        assert len(begun) == 2
        events.event_buses["default"].rules.clear()
        assert schedules.simulate_step(63.0) == []  # its last call goes on
    finally:
        schedules.kill_calls()
    assert schedules.simulate_step(64.0) == ["often"]
    assert schedules.simulate_step(65.0) == []


def test_a_rate_is_played_thirty_times_as_fast_and_what_is_none_never() -> None:
    assert [parse_rate_seconds(f"rate({rate})") for rate in ("1 minute", "5 minutes", "1 hour")] == [2, 10, 120]
    assert [parse_rate_seconds(other) for other in ("cron(0 12 * * ? *)", "", None)] == [0, 0, 0]


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


# decisions without a cloud


def test_a_command_reads_its_profile_whole_while_others_begin(tmp_path: Path) -> None:
    layout = build_layout(tmp_path)
    layout.make_folders()
    cloud = LocalCloud(layout, CloudState(1, "token", "http://moto", "http://ministack"), "us-east-1")
    profile = Path(cloud.environment()["AWS_CONFIG_FILE"])
    others = [threading.Thread(target=lambda: [cloud.environment() for _ in range(500)]) for _ in range(2)]
    for thread in others:
        thread.start()
    read = set()
    while any(thread.is_alive() for thread in others):
        read.add(profile.read_text())
    assert read == {"[default]\n"}


def test_no_key_leaves_its_buckets_folder() -> None:
    for key in ("../x", "/x", "a/../../x", "..", "a//b", ".", "x" * 300, "nul\0"):
        path = build_safe_path(key)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert all(0 < len(part.encode()) <= 255 and "\0" not in part for part in path.parts)


def test_a_key_that_is_also_a_folder_gets_a_name_of_its_own() -> None:
    assert {key: str(path) for key, path in build_safe_paths(["a", "a/b"]).items()} == {"a": "a%", "a/b": "a/b"}


def test_a_task_goes_where_the_fewest_are_and_there_is_room() -> None:
    rooms = [FreeCapacity("full", 100, 10), FreeCapacity("busy", 4000, 4000, tasks=1), FreeCapacity("free", 4000, 3000)]
    chosen = choose_machine(TaskRequirements(1000, 2000), rooms)
    assert chosen is not None
    assert chosen.arn == "free"
    assert choose_machine(TaskRequirements(5000, 10), rooms) is None
    assert "insufficient CPU units" in format_placement_failure(TaskRequirements(5000, 10), rooms)
    assert "insufficient memory" in format_placement_failure(TaskRequirements(10, 5000), rooms)
    assert "MemberOf placement constraint unsatisfied" in format_placement_failure(TaskRequirements(10, 10), [], rooms)


def test_a_worker_that_ends_at_once_again_and_again_waits_longer_each_time() -> None:
    throttle = StartThrottle()
    delays = []
    for _ in range(10):
        throttle.record_end(1, now=100)
        delays.append(throttle.open_from - 100)
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    throttle.record_end(3600, now=100)
    assert throttle.is_open(100)


# containers


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small image of this computer's own engine; without an engine the test is skipped, but not where CI runs."""
    docker = shutil.which("docker")
    engine_answers = docker and subprocess.run([docker, "version"], capture_output=True).returncode == 0
    if not engine_answers:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have a container engine")
        pytest.skip("no container engine answers")
    folder = tmp_path_factory.mktemp("image")
    script = "trap 'echo asked to stop; exit 7' TERM; echo $MY_NAME at $INSTANCE_ID; sleep 600 & wait"
    command = json.dumps(["bash", "-c", script])
    (folder / "Dockerfile").write_text(f"FROM debian:bookworm-slim\nCMD {command}\n")
    name = f"localcloud-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["docker", "build", "-q", "-t", name, str(folder)], check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "rmi", "-f", name], capture_output=True)


def containers_of(lab: Lab) -> list[str]:
    label = f"label=localcloud={build_layout(lab.project).key}"
    listing = subprocess.run(["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True)
    return listing.stdout.split()


def test_a_task_runs_as_a_container_with_its_limit_and_its_stop_signal(lab: Lab, image: str) -> None:
    lab.start(containers=True)
    lab.serve(1, memory=64, stop_seconds=20, image=image, MY_NAME="Ada\nByron")
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "Ada Byron at i-" in lab.log_of(lab.tasks()[0]))
    (task,) = lab.tasks()
    (container,) = containers_of(lab)
    inspected = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
    assert json.loads(inspected.stdout)[0]["HostConfig"]["Memory"] == 64 * 1024 * 1024
    lab.want(0)
    eventually(lambda: not containers_of(lab))
    eventually(lambda: lab.tasks("STOPPED")[0]["containers"][0].get("exitCode") == 7)
    assert "asked to stop" in lab.log_of(task)


def test_no_container_survives_stop_nor_a_killed_daemon(own_lab: Lab, image: str) -> None:
    lab = own_lab
    for end in (lambda: stop_local_cloud(lab.project), lambda: os.kill(lab.cloud.state.pid, signal.SIGKILL)):
        lab.start(containers=True)
        lab.serve(1, memory=64, image=image)
        lab.fleet(1)
        eventually(lambda: len(containers_of(lab)) == 1)
        end()
        eventually(lambda: not containers_of(lab))


def test_an_image_that_is_not_there_is_said(lab: Lab, image: str) -> None:
    lab.start(containers=True)
    lab.serve(1, image="nobody/has-this:1")
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks("STOPPED")))
    assert "CannotPullContainerError: the image nobody/has-this:1 is not on this computer" in lab.said()
    assert "nobody/has-this:1" in build_layout(lab.project).log.read_text()
