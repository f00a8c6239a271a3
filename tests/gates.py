"""Jobs that run until a test lets them: so a run can be looked at in the middle, on a computer of any speed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.project import Project, wait_for

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

    def wait_for_start(self, *names: str) -> None:
        """Until each of these jobs has begun."""
        wait_for(lambda: all(self.starts(name) for name in names), 60)


def machines(made: Project) -> set[str]:
    """The ids of the machines that run."""
    running: Any = [{"Name": "instance-state-name", "Values": ["running"]}]
    found = made.client("ec2").describe_instances(Filters=running)["Reservations"]
    return {one["InstanceId"] for group in found for one in group["Instances"]}


def target(made: Project) -> int:
    """How many machines the only fleet is to have."""
    (fleet,) = made.client("ec2").describe_spot_fleet_requests()["SpotFleetRequestConfigs"]
    return int(fleet["SpotFleetRequestConfig"]["TargetCapacity"])
