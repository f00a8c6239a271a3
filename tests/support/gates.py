"""Jobs that run until a test lets them: so a run can be looked at in the middle, on a computer of any speed."""

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
from tests.support.project import Project, wait_for

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
    """Gates of one test, in `folder`; all are closed at first."""

    folder: Path

    def job_file(self, made: Project, **gate_of: str) -> str:
        """A job a name, which waits for its gate; its path."""
        self.folder.mkdir()
        groups = [{"name": name, "gate": gate} for name, gate in gate_of.items()]
        command = ["python3", "-c", SCRIPT, str(self.folder), "{name}", "{gate}", "{output_dir}"]
        return str(made.job_file(command=command, output_location="results/{name}", groups=groups))

    def open(self, gate: str) -> None:
        """Lets all jobs through that wait here or come later."""
        (self.folder / gate).touch()

    def starts(self, name: str) -> list[str]:
        """The machines on which this job was begun, in order: more than one where it was interrupted."""
        path = self.folder / "starts"
        begun = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [machine for job, machine in begun if job == name]

    def wait_for_start(self, made: Project, name: str) -> str:
        """The machine on which this job has begun, once its container is protected from scale-in."""
        wait_for(lambda: bool(self.starts(name)))
        machine = self.starts(name)[-1]
        wait_for(lambda: machine in protected(made))
        return machine


def machines(made: Project) -> set[str]:
    """The ids of the machines that run."""
    running: Any = [{"Name": "instance-state-name", "Values": ["running"]}]
    found = made.client("ec2").describe_instances(Filters=running)["Reservations"]
    return {one["InstanceId"] for group in found for one in group["Instances"]}


def protected(made: Project) -> set[str]:
    """The ids of the machines with a container that the local cloud's ECS agent says to be protected."""
    ecs = made.client("ecs")
    arns = ecs.list_tasks(cluster="tryout-cluster")["taskArns"]
    tasks = ecs.describe_tasks(cluster="tryout-cluster", tasks=arns)["tasks"] if arns else []
    safe = [task["containerInstanceArn"] for task in tasks if _is_protected(made, task["taskArn"])]
    if not safe:
        return set()
    found = ecs.describe_container_instances(cluster="tryout-cluster", containerInstances=safe)
    return {one["ec2InstanceId"] for one in found["containerInstances"]}


def _is_protected(made: Project, arn: str) -> bool:
    state = read_cloud_state(build_layout(made.folder))
    assert state is not None
    address = f"{state.moto}{AGENT_PATH}{arn.rsplit('/', 1)[-1]}{PROTECTION_STATE_PATH}"
    try:
        with build_opener(ProxyHandler({})).open(address, timeout=10) as answer:
            return bool(json.load(answer)["protection"]["ProtectionEnabled"])
    except HTTPError:  # it has ended since
        return False


def target(made: Project) -> int:
    """How many machines the only fleet is to have."""
    (fleet,) = made.client("ec2").describe_spot_fleet_requests()["SpotFleetRequestConfigs"]
    return int(fleet["SpotFleetRequestConfig"]["TargetCapacity"])
