"""A project folder with valid files, and `run.py` calls in this process that cannot reach AWS or the local cloud."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import botocore.httpsession
import pytest

from distributed_something.cli.main import main
from distributed_something.core.text import TERMINAL_COLUMNS

CONFIG: dict[str, object] = {
    "APP_NAME": "Tryout",
    "DOCKERHUB_TAG": "tests/tryout:1",
    "AWS_REGION": "us-east-1",
    "AWS_BUCKET": "tryout-bucket",
    "ECS_CLUSTER": "tryout-cluster",
    "CLUSTER_MACHINES": 2,
    "TASKS_PER_MACHINE": 1,
    "MACHINE_TYPE": ["m5.large"],
    "MACHINE_PRICE": 0.1,
    "CPU_SHARES": 1024,
    "MEMORY": 2000,
    "SQS_QUEUE_NAME": "TryoutQueue",
    "SQS_DEAD_LETTER_QUEUE": "TryoutDead",
    "LOG_GROUP_NAME": "Tryout",
}
JOB: Mapping[str, object] = {"command": "echo {well}", "groups": [{"well": "A01"}, {"well": "A02"}]}
FLEET: Mapping[str, Any] = {
    "IamFleetRole": "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role",
    "LaunchSpecifications": [
        {
            "ImageId": "ami-0123456789abcdef0",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3"}}],
            "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-01234567", "Groups": ["sg-01234567"]}],
        }
    ],
}
MONITOR: Mapping[str, object] = {
    "MONITOR_FLEET_ID": "sfr-4c12f856-8eb2-44f2-9b1c-4c12f8568eb2",
    "MONITOR_APP_NAME": "Tryout",
    "MONITOR_ECS_CLUSTER": "tryout-cluster",
    "MONITOR_QUEUE_NAME": "TryoutQueue",
    "MONITOR_BUCKET_NAME": "tryout-bucket",
    "MONITOR_LOG_GROUP_NAME": "Tryout",
    "MONITOR_START_TIME": 1795432814583,
    "CLEAN_DASHBOARD": True,
}


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def format_config(constants: Mapping[str, object]) -> str:
    """Return the text of a config file that sets these constants."""
    return "".join(f"{name} = {value!r}\n" for name, value in constants.items())


def write_project(folder: Path) -> Path:
    """Write a project with valid files to `folder`. Return `folder`."""
    (folder / "files").mkdir(parents=True)
    (folder / "config.py").write_text(format_config(CONFIG))
    for name, content in (("job", JOB), ("fleet", FLEET), ("monitor", MONITOR)):
        (folder / "files" / f"{name}.json").write_text(json.dumps(content))
    return folder


def run_command(*arguments: str) -> Outcome:
    """Run `python run.py ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return Outcome(code, out.getvalue(), err.getvalue())


def join_error_commands(error: str) -> str:
    """Return the text of an error with its commands on the error's line, after checking that they are readable."""
    rows = [row for row in error.splitlines() if not row.startswith("run.py: ")]
    assert all(row.startswith("  ") and len(row) <= TERMINAL_COLUMNS for row in rows), error
    joined = re.sub(r":\n  (?=\S)", ": ", re.sub(r" \\\n +", " ", error))
    return re.sub(r"\n  (?=\S)", "; then: ", joined)


@contextmanager
def block_requests() -> Iterator[None]:
    """Fail the test if the block sends a request or starts the local cloud."""

    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("the code tried to send a request or start the local cloud")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.httpsession.URLLib3Session, "send", refuse)
        patch.setattr("distributed_something.localcloud.start_local_cloud", refuse)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # botocore would look for credentials in the metadata
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, "/nowhere")
        yield
