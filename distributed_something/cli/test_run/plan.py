"""What a test run does: its settings, its Fleet file, and its two jobs, made from those of the project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed_something.aws.spot_prices import list_spot_prices
from distributed_something.core.errors import translate_aws_errors
from distributed_something.core.names import AppNames, build_test_app_name
from distributed_something.fleet.launch_specs import LAUNCH_SPECIFICATIONS_KEY
from distributed_something.jobs.job_file import JobFile, parse_job_file
from distributed_something.worker import TEST_RUN_VARIABLE, AppKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_ec2 import EC2Client

    from distributed_something.core.config_settings import Settings

TEST_JOBS = 2
TEST_INPUT = b"testRun\n"
JOB_FILE_NAME = "testRun.json"
# The worker replaces the command (see worker/container/test_job.py). One that is too old to know that finds no such
# program, and the job fails.
UNKNOWN_PROGRAM = "distributed-something-testRun"
_OTHER_SETTINGS: dict[str, Any] = {
    "CLUSTER_MACHINES": 1,
    "TASKS_PER_MACHINE": 1,
    "MAX_RUN_HOURS": 1,  # if this computer dies, EC2 ends the machine
    "MAX_COST": 0,
    "JOB_RETRIES": 2,
    "SECONDS_TO_START": 0,
    "AUTO_MONITOR": False,
    "CREATE_DASHBOARD": False,
    "EXPORT_LOGS": False,
    "CHECK_IF_DONE_BOOL": False,
    "EXPECTED_NUMBER_FILES": 1,
    "MIN_FILE_SIZE_BYTES": 1,
    "NECESSARY_STRING": "",
    "NOTIFY": "",
    "dead_letter_account": "",
}


@dataclass(frozen=True)
class PlannedTest:
    """A test run before it starts.

    `project_settings`: those of the config. `settings`: the same with other names in AWS and one machine. `fleet`: the
    content of the Fleet file for that machine.
    """

    project_settings: Settings
    settings: Settings
    fleet_file: Path
    fleet: dict[str, Any]

    @property
    def keys(self) -> AppKeys:
        return AppKeys(self.settings.APP_NAME)

    @property
    def machine_type(self) -> str:
        return self.settings.MACHINE_TYPE[0]

    @property
    def input_key(self) -> str:
        """The key of the object that each job copies to its results."""
        return f"{self.keys.prefix}input/{JOB_FILE_NAME}.txt"

    def build_job_file(self, folder: Path) -> JobFile:
        """Return the Job file, which is not written. `folder`: where its submission's journal will be."""
        content = {
            "command": [UNKNOWN_PROGRAM],
            "inputs": [self.input_key],
            "output_location": f"{self.keys.prefix}results/{{job}}",
            "expected_files": 1,
            "timeout_minutes": 2,
            "groups": [{"testRun": f"{self.settings.APP_NAME}-{number}"} for number in range(1, TEST_JOBS + 1)],
        }
        return parse_job_file(folder / JOB_FILE_NAME, content, _list_nothing)

    def list_jobs(self) -> list[str]:
        """Return the IDs of the jobs, which are the same in each test run of the app."""
        return [message.id for message in self.build_job_file(Path()).iter_checked_messages()]


def build_test_plan(settings: Settings, fleet_file: Path, fleet: dict[str, Any], machine_type: str) -> PlannedTest:
    """Return the test run of an app. `settings` and `fleet`: the app's config and the content of its Fleet file."""
    test = {**_OTHER_SETTINGS, **_build_names(settings), "MACHINE_TYPE": [machine_type]}
    test["ON_DEMAND_MACHINES"] = int(settings.ON_DEMAND_MACHINES >= settings.CLUSTER_MACHINES)
    test["own"] = settings.own | {TEST_RUN_VARIABLE: "True"}
    specifications = fleet.get(LAUNCH_SPECIFICATIONS_KEY) or []
    if len(specifications) > 1:  # one for each type
        fleet = fleet | {LAUNCH_SPECIFICATIONS_KEY: [specifications[settings.MACHINE_TYPE.index(machine_type)]]}
    return PlannedTest(settings, settings.model_copy(update=test), fleet_file, fleet)


def _build_names(settings: Settings) -> dict[str, str]:
    """Return names that no run of the app uses, so that a test run can neither see nor change one.

    The bucket and the log groups are the app's: whether containers may write to them is what the test run shows.
    """
    names = AppNames(build_test_app_name(settings.APP_NAME))
    return {
        "APP_NAME": names.app,
        "ECS_CLUSTER": names.app,
        "SQS_QUEUE_NAME": names.default_queue,
        "SQS_DEAD_LETTER_QUEUE": names.default_dead_letter_queue,
    }


def choose_cheapest_type(ec2: EC2Client, settings: Settings, now: float) -> str:
    """Return the type in MACHINE_TYPE with the lowest spot price now; the first one if EC2 has no prices.

    Raise CloudError if AWS reports an error.
    """
    types = settings.MACHINE_TYPE
    with translate_aws_errors("looking up spot prices"):
        prices = list_spot_prices(ec2, types, now) if len(types) > 1 else {}
    return min((name for name in types if name in prices), key=lambda name: prices[name], default=types[0])


def _list_nothing(bucket: str, prefix: str, *, requester_pays: bool = False) -> Iterator[str]:
    """Yield no keys: the jobs are written in the Job file."""
    yield from ()
