"""A project with its local cloud and real workers of a stub script, as the local cloud's tests use it.

Waiting is polling with a deadline, because what is tested are processes. A process that survived its cloud fails the
test that left it.
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
