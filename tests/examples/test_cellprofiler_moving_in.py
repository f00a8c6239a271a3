"""Moving in with the real CellProfiler: config, Job file, Fleet file, pipeline, and table as users of the published
implementation have them, none of them edited, and a script that sends its own messages.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed_something.project.config_file import load_settings
from tests.examples import example
from tests.support.project import ROOT

CONFIG = """\
# Constants (User configurable)

APP_NAME = 'FlyScreen'
LOG_GROUP_NAME = APP_NAME

DOCKERHUB_TAG = 'cellprofiler/distributed-cellprofiler:2.0.0_4.2.4'

AWS_REGION = 'us-east-1'
AWS_PROFILE = 'default'
SSH_KEY_NAME = 'ada.pem'
AWS_BUCKET = 'ada-logs'
SOURCE_BUCKET = 'ada-images'
WORKSPACE_BUCKET = 'False'
DESTINATION_BUCKET = 'ada-results'
UPLOAD_FLAGS = '--acl bucket-owner-full-control'

ECS_CLUSTER = 'default'
CLUSTER_MACHINES = 2
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['m5.xlarge']
MACHINE_PRICE = '0.20'
EBS_VOL_SIZE = 30
DOWNLOAD_FILES = 'False'

DOCKER_CORES = 1
CPU_SHARES = DOCKER_CORES * 1024
MEMORY = 15000
SECONDS_TO_START = 3*60

SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_MESSAGE_VISIBILITY = 1*60
SQS_DEAD_LETTER_QUEUE = 'ada_DeadMessages'

AUTO_MONITOR = 'False'
CREATE_DASHBOARD = 'True'
CLEAN_DASHBOARD = 'True'

CHECK_IF_DONE_BOOL = 'False'
EXPECTED_NUMBER_FILES = 7
MIN_FILE_SIZE_BYTES = 1
NECESSARY_STRING = ''

USE_PLUGINS = 'False'
UPDATE_PLUGINS = 'False'
PLUGINS_COMMIT = 'False'
INSTALL_REQUIREMENTS = 'False'
REQUIREMENTS = ''
"""
# Two comments have the same key, and `input` is a prefix without objects.
JOB_FILE = """\
{
  "_comment": "Paths are relative to the root of the bucket",
  "pipeline": "fly/workspace/fly.cppipe",
  "data_file": "fly/workspace/load_data.csv",
  "input": "fly/rules/",
  "output": "fly/output",
  "output_structure": "Metadata_Plate/analysis/Metadata_Plate-Metadata_Position",
  "_comment": "Each group is a job",
  "groups": [
    {"Metadata": "Metadata_Plate=P1,Metadata_Position=2"},
    {"Metadata": {"Metadata_Plate": "P1", "Metadata_Position": "76"}}
  ]
}

"""
FLEET_FILE = {
    "IamFleetRole": "arn:aws:iam::111122223333:role/aws-ec2-spot-fleet-tagging-role",
    "AllocationStrategy": "lowestPrice",
    "TargetCapacity": 2,
    "SpotPrice": "0.20",
    "ValidFrom": "2020-07-20T20:28:54Z",
    "ValidUntil": "2099-07-20T20:28:54Z",
    "TerminateInstancesWithExpiration": True,
    "LaunchSpecifications": [
        {
            "ImageId": "ami-0a1b2c3d4e5f60718",
            "InstanceType": "m5.xlarge",
            "KeyName": "ada",
            "IamInstanceProfile": {"Arn": "arn:aws:iam::111122223333:instance-profile/ecsInstanceRole"},
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {"DeleteOnTermination": True, "VolumeType": "gp2", "VolumeSize": 30,
                            "SnapshotId": "snap-0a1b2c3d4e5f60718"},
                },
                {"DeviceName": "/dev/xvdcz", "Ebs": {"DeleteOnTermination": True, "VolumeType": "gp2"}},
            ],
            "NetworkInterfaces": [
                {"DeviceIndex": 0, "SubnetId": "subnet-0a1b2c3d", "DeleteOnTermination": True,
                 "AssociatePublicIpAddress": False, "Groups": ["sg-0a1b2c3d4"]}
            ],
        }
    ],
    "Type": "maintain",
}  # fmt: skip
# The scripts know only boto3 and names in AWS.
FILL_BUCKET = """
import pathlib, sys
import boto3

s3, root = boto3.client("s3"), pathlib.Path(sys.argv[1])
for path in root.rglob("*"):
    if path.is_file():
        s3.upload_file(str(path), "ada-images", f"fly/{path.relative_to(root).as_posix()}")
"""
SEND_MESSAGES = """
import json
import boto3

queue = boto3.resource("sqs").get_queue_by_name(QueueName="FlyScreenQueue")
shared = {"pipeline": "fly/workspace/fly.cppipe", "data_file": "fly/workspace/load_data.csv", "input": "fly/rules"}
for message in (
    {"Metadata": "Metadata_Plate=P1,Metadata_Position=76", "output": "fly/script"},
    {"Metadata": "Metadata_Plate=P1,Metadata_Position=218", "output": "fly/qc", "output_structure": "Metadata_Plate"},
):
    queue.send_message(MessageBody=json.dumps(shared | message))
"""
# CellProfiler's own fly example, with the shipped pipeline's exports.
RESULT_FILES = {"Cells.csv", "Cytoplasm.csv", "Image.csv", "Nuclei.csv"}
FOLDERS = {
    "fly/output/P1/analysis/P1-2": (273, 1),
    "fly/output/P1/analysis/P1-76": (796, 3),
    "fly/script/P1-76": (796, 3),
    "fly/qc/P1": (644, 2),
}
"""The folder of each job in DESTINATION_BUCKET by the published rules, with the number of nuclei, and CellProfiler's
number of the image: it sorts the groups as text."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the published implementation, and, in bucket/, what its user has in S3."""
    folder = tmp_path / "old"
    (folder / "files").mkdir(parents=True)
    (folder / "config.py").write_text(CONFIG)
    (folder / "files" / "flyJob.json").write_text(JOB_FILE)
    (folder / "files" / "flyFleet.json").write_text(json.dumps(FLEET_FILE, indent=2))
    example.run_script(ROOT / "examples" / "cellprofiler" / "get-data.sh")
    data = ROOT / "examples" / "cellprofiler" / "data"
    shutil.copytree(data / "images", folder / "bucket" / "images")
    (folder / "bucket" / "workspace").mkdir()
    pipeline = (data / "workspace" / "ExampleFly.cppipe").read_text(encoding="utf-8")
    pipeline = pipeline.replace("tags for grouping:Position", "tags for grouping:Plate,Position")
    pipeline = pipeline.replace("Elsewhere...|", "Default Input Folder|").replace(
        "show_window:False", "show_window:True"
    )
    (folder / "bucket" / "workspace" / "fly.cppipe").write_text(pipeline, encoding="utf-8")
    (folder / "bucket" / "workspace" / "load_data.csv").write_text("\r\n".join(build_table_lines()))
    return folder


def build_table_lines() -> Iterator[str]:
    """Yield the lines of a published table: it has a plate, its last line does not end, and so on."""
    channels, images = {"OrigBlue": "D", "OrigGreen": "F", "OrigRed": "R"}, "/home/ubuntu/bucket/fly/images"
    files, paths = ([f"{kind}_{channel}" for channel in channels] for kind in ("FileName", "PathName"))
    yield ",".join([*files, "Metadata_Plate", "Metadata_Position", *paths])
    for position in ("002", "076", "218"):
        names = [f"01_POS{position}_{letter}.TIF" for letter in channels.values()]
        yield ",".join([*names, "P1", position, images, f"{images}/", images])


class MovedProject(example.Example):
    """The project that newProject creates from the published files, with the config as it was."""

    command_seconds = 500  # four jobs of CellProfiler, which other tests may slow down

    def __init__(self, old: Path, folder: Path) -> None:
        self.name, self.folder, self.program_folders = "cellprofiler", folder, example.find_program("cellprofiler")
        options = ["--from", "cellprofiler", "--config", str(old / "config.py"), "--files", str(old / "files")]
        command = [sys.executable, str(ROOT / "run.py"), "newProject", str(folder), *options]
        created = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert created.returncode == 0, created.stderr
        assert "Job file        files/flyJob.json: 2 jobs\n" in created.stderr
        assert "Fleet file      files/flyFleet.json\n" in created.stderr
        shutil.copy(old / "config.py", folder)
        self.settings = load_settings(folder / "config.py")


@pytest.mark.long
def test_published_files_and_messages_lead_to_the_published_keys(old: Path, tmp_path: Path) -> None:
    project = MovedProject(old, tmp_path / "new")
    fill, send = tmp_path / "fill.py", tmp_path / "send.py"
    fill.write_text(FILL_BUCKET)
    send.write_text(SEND_MESSAGES)
    try:
        project.run("runScript", "python3", str(fill), str(old / "bucket"))
        assert "contains the published system's worker" in project.run("setup").stderr
        project.run("submitJob", str(project.folder / "files" / "flyJob.json"))
        project.run("runScript", "python3", str(send))
        project.run("startCluster", str(project.folder / "files" / "flyFleet.json"))
        summary = project.run("monitor").stdout
    finally:
        project.stop()
    assert "jobs done       4\n" in summary
    assert (project.folder / "files" / "flyJob.json").read_text() == JOB_FILE
    check_results(project.folder / "local" / "ada-results")
    records = project.read_records()
    assert sorted(record["job"].rpartition("-")[0] for record in records) == ["P1-2", "P1-218", "P1-76", "P1-76"]


def check_results(bucket: Path) -> None:
    """Check that the bucket contains the results at the published keys, and nothing else."""
    images = {folder: f"CroppedFlyImage{row:04}.tiff" for folder, (_, row) in FOLDERS.items()}
    expected = {f"{folder}/{name}" for folder in FOLDERS for name in (*RESULT_FILES, images[folder])}
    assert {path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file()} == expected
    for folder, (nuclei, row_number) in FOLDERS.items():
        (row,) = csv.DictReader((bucket / folder / "Image.csv").open())
        assert (float(row["Count_Nuclei"]), int(row["ImageNumber"])) == (nuclei, row_number)
