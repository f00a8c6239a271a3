"""Jobs that run until a test lets them finish, so that tests can check a run in progress on computers of any speed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from distributed_something.localcloud.base.endpoints import AGENT_PATH
from distributed_something.localcloud.base.layout import build_layout, read_cloud_state
from distributed_something.localcloud.daemon.ecs_agent import PROTECTION_STATE_PATH
from tests.support.project import Project, wait_until

SCRIPT = """
import os, sys, time
folder, name, gate, output = sys.argv[1:]
with open(folder + "/starts", "a") as starts:
    starts.write(name + " " + os.environ["INSTANCE_ID"] + "\\n")
while not os.path.exists(folder + "/" + gate):
    time.sleep(0.05)
with open(output + "/answer.txt", "w") as answer:
    answer.write(name)
"""


@dataclass(frozen=True)
class Gates:
    """The gates in one test. A gate is open if its file exists in `folder`."""

    folder: Path

    def write_job_file(self, project: Project, **gate_of: str) -> str:
        """Write a job file with one job per name, each waiting for its gate. Return the file's path."""
        self.folder.mkdir()
        groups = [{"name": name, "gate": gate} for name, gate in gate_of.items()]
        command = ["python3", "-c", SCRIPT, str(self.folder), "{name}", "{gate}", "{output_dir}"]
        return str(project.write_job_file(command=command, output_location="results/{name}", groups=groups))

    def open_gate(self, gate: str) -> None:
        """Let all jobs that wait at this gate finish, including jobs that reach it later."""
        (self.folder / gate).touch()

    def list_starts(self, name: str) -> list[str]:
        """Return the machines on which a job started, in order. An interrupted job has more than one."""
        path = self.folder / "starts"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [machine for job, machine in lines if job == name]

    def wait_for_start(self, project: Project, name: str) -> str:
        """Wait until a job has started and its container is protected from scale-in. Return the job's machine."""
        wait_until(lambda: bool(self.list_starts(name)))
        machine = self.list_starts(name)[-1]
        wait_until(lambda: machine in list_protected_machines(project))
        return machine


def list_running_machines(project: Project) -> set[str]:
    """Return the IDs of the running machines."""
    filters: Any = [{"Name": "instance-state-name", "Values": ["running"]}]
    reservations = project.build_client("ec2").describe_instances(Filters=filters)["Reservations"]
    return {instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]}


def list_protected_machines(project: Project) -> set[str]:
    """Return the IDs of the machines with a protected container, according to the local cloud's ECS agent."""
    ecs = project.build_client("ecs")
    arns = ecs.list_tasks(cluster="tryout-cluster")["taskArns"]
    tasks = ecs.describe_tasks(cluster="tryout-cluster", tasks=arns)["tasks"] if arns else []
    arns = [task["containerInstanceArn"] for task in tasks if _is_protected(project, task["taskArn"])]
    if not arns:
        return set()
    response = ecs.describe_container_instances(cluster="tryout-cluster", containerInstances=arns)
    return {machine["ec2InstanceId"] for machine in response["containerInstances"]}


def _is_protected(project: Project, arn: str) -> bool:
    state = read_cloud_state(build_layout(project.folder))
    assert state is not None
    address = f"{state.moto}{AGENT_PATH}{arn.rsplit('/', 1)[-1]}{PROTECTION_STATE_PATH}"
    try:
        with build_opener(ProxyHandler({})).open(address, timeout=10) as response:
            return bool(json.load(response)["protection"]["ProtectionEnabled"])
    except HTTPError:  # the task has ended since it was listed
        return False


def get_target_capacity(project: Project) -> int:
    """Return the target capacity of the only fleet."""
    (fleet,) = project.build_client("ec2").describe_spot_fleet_requests()["SpotFleetRequestConfigs"]
    return int(fleet["SpotFleetRequestConfig"]["TargetCapacity"])
