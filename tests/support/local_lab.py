"""A project with its local cloud and workers that run a stub script, for the local cloud's tests.

The tests check real processes, so they poll with a deadline. A test fails if one of its processes is still running
after its local cloud stopped.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from distributed_something.localcloud import LocalCloud, start_local_cloud, stop_local_cloud
from distributed_something.localcloud.base.endpoints import AGENT_PATH
from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.base.processes import CLOUD_MARK, list_marked_processes, wait_for_condition
from distributed_something.localcloud.daemon.ecs_agent import PROTECTION_STATE_PATH

STUB = """
import os, signal, subprocess, sys, time
print("worker on", os.environ["INSTANCE_ID"], flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
mode = os.environ.get("STUB", "wait")
def exit_on_signal(number, frame):
    print("received SIGTERM", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "ignore SIGTERM" else exit_on_signal)
if mode == "exit":
    sys.exit(3)
time.sleep(600)
"""


class Lab:
    """A project with its local cloud, and a run that has its own cluster, service, and fleets."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.cluster = f"sky-{uuid.uuid4().hex[:6]}"
        self.fleets: list[str] = []
        (project / "worker").mkdir(parents=True, exist_ok=True)
        (project / "worker" / "generic-worker.py").write_text(STUB)
        self.cloud = self.start_cloud()
        self.cloud_processes = set(self.list_processes())

    def start_cloud(self, **options: Any) -> LocalCloud:
        self.cloud = start_local_cloud(self.project, default_worker=self.project / "worker", **options)
        self.ec2, self.ecs = self.cloud.build_client("ec2"), self.cloud.build_client("ecs")
        return self.cloud

    def register_task_definition(
        self, *, memory: int = 3000, stop_seconds: int = 2, image: str = "plum", **environment: str
    ) -> str:
        container = {
            "name": "Plum",
            "image": image,
            "memory": memory,
            "cpu": 500,
            "stopTimeout": stop_seconds,
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
        }
        response = self.ecs.register_task_definition(family="PlumTask", containerDefinitions=[container])
        return str(response["taskDefinition"]["taskDefinitionArn"])

    def create_service(self, desired: int, **definition: Any) -> None:
        self.ecs.create_cluster(clusterName=self.cluster)
        self.register_task_definition(**definition)
        self.ecs.create_service(
            cluster=self.cluster, serviceName="PlumService", taskDefinition="PlumTask", desiredCount=0
        )
        self.set_desired_count(desired)

    def set_desired_count(self, desired: int) -> None:
        self.ecs.update_service(cluster=self.cluster, service="PlumService", desiredCount=desired)

    def build_user_data(self, *agent_settings: str) -> str:
        """Return the user data for this run's machines, with additional ECS agent settings."""
        lines = [f"ECS_CLUSTER={self.cluster}", *agent_settings]
        return "\n".join(["#!/bin/bash", "cat >> /etc/ecs/ecs.config <<'EOF'", *lines, "EOF", ""])

    def request_fleet(self, machines: int, script: str = "", **config: Any) -> str:
        script = script or self.build_user_data()
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
        response = self.ec2.request_spot_fleet(SpotFleetRequestConfig=self.cloud.adapt_fleet_file(fleet))
        self.fleets.append(response["SpotFleetRequestId"])
        return self.fleets[-1]

    def describe_service(self) -> Any:
        return self.ecs.describe_services(cluster=self.cluster, services=["PlumService"])["services"][0]

    def list_tasks(self, status: str = "RUNNING") -> list[Any]:
        arns = self.ecs.list_tasks(cluster=self.cluster, serviceName="PlumService", desiredStatus=status)["taskArns"]
        return self.ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []

    def list_machines(self) -> list[Any]:
        arns = self.ecs.list_container_instances(cluster=self.cluster)["containerInstanceArns"]
        response = self.ecs.describe_container_instances(cluster=self.cluster, containerInstances=arns) if arns else {}
        return list(response.get("containerInstances", []))

    def list_instance_ids(self) -> list[str]:
        return [machine["ec2InstanceId"] for machine in self.list_machines()]

    def build_address(self, path: str, name: str) -> str:
        return f"{self.cloud.state.moto}{path}{name}"

    def call_protection(self, task: Any, **state: Any) -> Any:
        """Set a task's protection through its ECS agent or, without `state`, read it. Return the agent's response."""
        url = self.build_address(AGENT_PATH, task["taskArn"].split("/")[-1]) + PROTECTION_STATE_PATH
        body = json.dumps(state).encode() if state else None
        request = Request(url, data=body, method="PUT" if state else "GET")
        with build_opener(ProxyHandler({})).open(request, timeout=10) as response:
            return json.load(response)

    def list_task_arns(self) -> set[str]:
        return {task["taskArn"] for task in self.list_tasks()}

    def describe_fleet(self, fleet_id: str) -> Any:
        return self.ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[fleet_id])["SpotFleetRequestConfigs"][0]

    def list_fleet_events(self, fleet_id: str) -> list[str]:
        response = self.ec2.describe_spot_fleet_request_history(SpotFleetRequestId=fleet_id, StartTime="2020-01-01")
        return [record["EventInformation"]["EventSubType"] for record in response["HistoryRecords"]]

    def read_task_log(self, task: Any) -> str:
        return (build_layout(self.project).task_logs / f"{task['taskArn'].split('/')[-1]}.log").read_text()

    def read_service_events(self) -> str:
        return "\n".join(event["message"] for event in self.describe_service()["events"])

    def list_processes(self) -> list[int]:
        return list_marked_processes(CLOUD_MARK, build_layout(self.project).key)

    def list_workers(self) -> list[int]:
        """Return the IDs of the workers and their children: all processes that an idle local cloud does not have."""
        return [pid for pid in self.list_processes() if pid not in self.cloud_processes]

    def end_run(self) -> None:
        """Terminate this run's machines and workers. Do not stop the local cloud."""
        self.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=self.fleets, TerminateInstances=True)
        wait_until(lambda: not self.list_workers())


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until the condition is true. Fail the test after `seconds`. The default is enough for a busy computer."""
    assert wait_for_condition(condition, seconds), f"the condition is still false after {seconds} s"


def stop_lab(lab: Lab) -> None:
    """Stop the lab's local cloud. Fail the test if one of its processes is still running."""
    stop_local_cloud(lab.project)
    remaining = lab.list_processes()
    assert not remaining, f"processes are still running after the local cloud stopped: {remaining}"
