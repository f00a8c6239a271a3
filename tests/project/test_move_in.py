"""newProject with --config and --files: moves the files of a published implementation into a new project."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from distributed_something.project.config_file import load_settings
from tests.support.offline import Outcome, run_command
from tests.support.paths import ROOT
from tests.support.project import Project

CONFIG = """\
# Constants (User configurable)
APP_NAME = 'OurScreen'                # used everywhere
LOG_GROUP_NAME = APP_NAME
DOCKERHUB_TAG = 'cellprofiler/distributed-cellprofiler:2.0.0_4.2.4'
AWS_REGION = 'us-east-1'
AWS_PROFILE = 'default'
SSH_KEY_NAME = 'ada.pem'
AWS_BUCKET = 'lab-bucket'
SOURCE_BUCKET = 'lab-bucket'
WORKSPACE_BUCKET = 'lab-bucket'
DESTINATION_BUCKET = 'lab-bucket'
UPLOAD_FLAGS = ''
CLUSTER_MACHINES = 1
TASKS_PER_MACHINE = 1
MACHINE_TYPE = ['m5.xlarge']
MACHINE_PRICE = '0.20'
DOWNLOAD_FILES = 'True'
DOCKER_CORES = 1
CPU_SHARES = DOCKER_CORES * 1024
MEMORY = 15000
SQS_QUEUE_NAME = APP_NAME + 'Queue'
SQS_MESSAGE_VISIBILITY = 1*60
SQS_DEAD_LETTER_QUEUE = 'user_DeadMessages'
CHECK_IF_DONE_BOOL = 'False'
EXPECTED_NUMBER_FILES = 1
USE_PLUGINS = 'False'
UPDATE_PLUGINS = 'False'
PLUGINS_COMMIT = (
    'v1.2'
)
INSTALL_REQUIREMENTS = 'True'
REQUIREMENTS = ''
LAB_NAME = 'carpenter'
"""
JOB_FILE: dict[str, Any] = {
    "_comment1": "as published",
    "pipeline": "ws/a.cppipe",
    "data_file": "ws/load_data.csv",
    "input": "ws/",
    "output": "out",
    "output_structure": "",
    "groups": [{"Metadata": f"Metadata_Plate=P1,Metadata_Well={well}"} for well in ("A01", "A02")],
}
TABLE = """Metadata_Plate,Metadata_Well,FileName_DNA,PathName_DNA
P1,A01,a.tif,/home/ubuntu/bucket/img
P1,A02,a.tif,/home/ubuntu/bucket/img
"""
# Writes a table and the done file, as CellProfiler does.
STAND_IN = """#!/bin/sh
while [ $# -gt 0 ]; do case $1 in -o) out=$2;; -d) d=$2;; -g) g=$2;; esac; shift; done
echo "1,$g" > "$out/Image.csv"; printf Complete > "$d"
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of a published implementation that a lab has used."""
    folder = tmp_path / "old"
    (folder / "files" / "ws").mkdir(parents=True)
    (folder / "worker").mkdir()
    (folder / "config.py").write_text(CONFIG)
    (folder / "run.py").touch()
    (folder / "run_batch_general.py").touch()
    files = folder / "files"
    (files / "screenJob.json").write_text(json.dumps(JOB_FILE))
    shutil.copy(ROOT / "files" / "exampleFleet.json", files / "ourFleet.json")
    (files / "ws" / "load_data.csv").write_text(TABLE)
    (files / "ws" / "a.cppipe").write_text("pipeline")
    return folder


def move_in(tmp_path: Path, *words: str, files: bool = True) -> Outcome:
    old = tmp_path / "old"
    more = ("--files", str(old / "files")) if files else ()
    command = ("newProject", str(tmp_path / "new"), "--from", "cellprofiler", "--config", str(old / "config.py"))
    return run_command(*command, *more, *words)


def test_values_stay_and_constants_without_effect_are_left_out_with_what_replaces_them(
    tmp_path: Path, old: Path
) -> None:
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    settings = load_settings(tmp_path / "new" / "config.py")
    before = load_settings(old / "config.py")
    kept = {name for name in type(settings).model_fields if name.isupper()} - {"DOCKERHUB_TAG"}
    assert {name: getattr(settings, name) for name in kept} == {name: getattr(before, name) for name in kept}
    left_out = {"UPDATE_PLUGINS", "PLUGINS_COMMIT", "INSTALL_REQUIREMENTS", "REQUIREMENTS"}
    assert settings.own == {name: value for name, value in before.own.items() if name not in left_out}
    text = (tmp_path / "new" / "config.py").read_text()
    assert "APP_NAME = 'OurScreen'                # used everywhere\n" in text  # comments stay
    assert "SQS_QUEUE_NAME = APP_NAME + 'Queue'\n" in text  # and so do computed values
    assert settings.DOCKERHUB_TAG == "user/ourscreen:latest"
    lines = outcome.err.splitlines()
    remedy = "add the plugins at a fixed commit, and install what they need, in worker/Dockerfile"
    assert f"left out        PLUGINS_COMMIT: {remedy}" in lines
    assert f"left out        INSTALL_REQUIREMENTS: {remedy}" in lines
    assert "left out        UPDATE_PLUGINS: it was off" in lines
    assert any(line.startswith("your own        LAB_NAME: nothing here uses it") for line in lines)
    image = "cellprofiler/distributed-cellprofiler:2.0.0_4.2.4"
    assert f"replaced        DOCKERHUB_TAG: {image} contains the old worker" in lines


PLUGIN_FOLDER = "/home/ubuntu/CellProfiler-plugins"


def test_what_installs_plugins_becomes_lines_of_the_dockerfile_that_keep_the_commit(tmp_path: Path, old: Path) -> None:
    config = CONFIG.replace("USE_PLUGINS = 'False'", "USE_PLUGINS = 'True'")
    (old / "config.py").write_text(config.replace("REQUIREMENTS = ''", "REQUIREMENTS = 'cellpose'"))
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    expected = [
        f"ADD https://github.com/CellProfiler/CellProfiler-plugins.git#v1.2 {PLUGIN_FOLDER}",
        f"RUN python3 -m pip install --no-cache-dir '{PLUGIN_FOLDER}[cellpose]'",
    ]
    dockerfile = (tmp_path / "new" / "worker" / "Dockerfile").read_text().splitlines()
    assert dockerfile[-2:] == [f"# {line}" for line in expected]
    assert sum("ADD " in line for line in dockerfile) == 1
    lines = outcome.err.splitlines()
    assert [line for line in lines if line.startswith("plugins")] == [
        f"plugins         worker/Dockerfile, as a comment: {line}" for line in expected
    ]
    edits = [line for line in lines if line.startswith("EDIT")]
    assert any("worker/Dockerfile: remove the # " in line and "COMMIT" not in line for line in edits)
    assert any("config.py: with --local, " in line and "PLUGINS_PATH" in line for line in edits)
    text = (tmp_path / "new" / "config.py").read_text()
    assert "# PLUGINS_COMMIT = 'v1.2' is left out. Instead: " in text


@pytest.mark.parametrize(("use", "commit", "edits"), [("True", "False", 1), ("False", "v1.2", 0), ("False", "", 0)])
def test_only_a_config_that_uses_plugins_must_be_edited_for_them(
    tmp_path: Path, old: Path, use: str, commit: str, edits: int
) -> None:
    config = CONFIG.replace("USE_PLUGINS = 'False'", f"USE_PLUGINS = {use!r}").replace("'v1.2'", repr(commit))
    (old / "config.py").write_text(config.replace("INSTALL_REQUIREMENTS = 'True'", "INSTALL_REQUIREMENTS = 'False'"))
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("remove the # before these lines") == edits
    assert outcome.err.count("write the commit that you tested instead of COMMIT") == edits
    assert ("#v1.2 " in (tmp_path / "new" / "worker" / "Dockerfile").read_text()) == (commit == "v1.2")


@pytest.mark.parametrize(
    ("old_image", "base"),
    [
        ("cellprofiler/distributed-cellprofiler:2.1.0_4.2.6", "cellprofiler/cellprofiler:4.2.6"),
        ("docker.io/cellprofiler/distributed-cellprofiler:1.2.1_3.1.9", "cellprofiler/cellprofiler:3.1.9"),
        ("cellprofiler/distributed-cellprofiler:2.1.0_4.2.8", ""),
        ("cellprofiler/distributed-cellprofiler:latest", ""),
        ("distributedscience/distributed-fiji:latest", ""),
        ("ada/own:1_4.2.4", ""),
    ],
)
def test_the_image_keeps_the_version_of_the_program(tmp_path: Path, old: Path, old_image: str, base: str) -> None:
    config = old / "config.py"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("DOCKERHUB_TAG")]
    config.write_text("\n".join([*lines, f"DOCKERHUB_TAG = '{old_image}'", ""]))
    report = move_in(tmp_path).err.splitlines()
    first_line = (tmp_path / "new" / "worker" / "Dockerfile").read_text().splitlines()[0]
    assert first_line == f"FROM {base or 'cellprofiler/cellprofiler:4.2.8'}"
    listed = [line for line in report if line.startswith("base ")]
    assert listed == (
        [f"base            worker/Dockerfile starts from {base}, the version in the old image"] if base else []
    )


def test_names_that_are_given_replace_the_old_ones(tmp_path: Path, old: Path) -> None:
    assert move_in(tmp_path, "--app-name", "Next", "--image", "ada/cp:2").code == 0
    settings = load_settings(tmp_path / "new" / "config.py")
    assert (settings.APP_NAME, settings.SQS_QUEUE_NAME, settings.DOCKERHUB_TAG) == ("Next", "NextQueue", "ada/cp:2")
    assert "APP_NAME = 'Next'                # used everywhere\n" in (tmp_path / "new" / "config.py").read_text()


def test_job_files_fleet_files_and_data_are_copied_and_everything_else_is_listed(tmp_path: Path, old: Path) -> None:
    files = old / "files"
    (files / ".DS_Store").touch()
    (files / "OurScreenSpotFleetRequestId.json").write_text("{}")
    (files / "monitor.json").write_text('{"MONITOR_FLEET_ID": "sfr-1"}')
    (files / "ada.pem").touch()
    (files / "notes.txt").write_text("-----BEGIN RSA PRIVATE KEY-----\n")
    (files / "requirements.txt").write_text("boto3\n")
    (files / "link").symlink_to("/etc/passwd")
    (files / "linked").symlink_to("/etc")
    os.mkfifo(files / "pipe")
    (files / "ws" / "__pycache__").mkdir()
    (files / "ws" / "__pycache__" / "a.pyc").touch()
    with (files / "huge.tif").open("wb") as huge:
        huge.truncate(51 * 1000**2)
    (files / os.fsdecode(b"caf\xe9.txt")).touch()
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    new = tmp_path / "new" / "files"
    copied = {path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()}
    copied -= {name for name in copied if name.startswith("gallery/")}  # the example's own
    assert copied == {"exampleFleet.json", "ourFleet.json", "screenJob.json", "ws/a.cppipe", "ws/load_data.csv"}
    assert (new / "screenJob.json").read_text() == (files / "screenJob.json").read_text()
    lines = outcome.err.splitlines()
    assert "Job file        files/screenJob.json: 2 jobs" in lines
    assert "Fleet file      files/ourFleet.json" in lines
    assert "data            2 other files" in lines
    left_out = {
        line.removeprefix("left out").strip().partition(": ")[0] for line in lines if line.startswith("left out")
    }
    assert left_out >= {
        "files/.DS_Store", "files/OurScreenSpotFleetRequestId.json", "files/monitor.json", "files/ada.pem",
        "files/notes.txt", "files/requirements.txt", "files/link", "files/linked", "files/pipe",
        "files/ws/__pycache__", "files/huge.tif", "run.py", "run_batch_general.py", "worker",
    }  # fmt: skip
    assert any("its name is not UTF-8" in line for line in lines)
    readme = (tmp_path / "new" / "README.md").read_text()
    assert "submitJob files/screenJob.json" in readme
    assert "get-data.sh" not in readme  # the example's own images


def test_links_that_lead_to_themselves_are_left_out(tmp_path: Path, old: Path) -> None:
    (old / "files" / "loop").symlink_to("loop")
    (old / "files" / "ws" / "here").symlink_to("../ws")
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    lines = outcome.err.splitlines()
    assert [line for line in lines if "loop" in line] == ["left out        files/loop: a link"]
    assert "left out        files/ws/here: a link" in lines


def list_edits(outcome: Outcome) -> list[str]:
    return [line.removeprefix("EDIT").strip() for line in outcome.err.splitlines() if line.startswith("EDIT")]


def test_the_project_may_be_in_the_folder_that_is_moved_in(tmp_path: Path, old: Path) -> None:
    (old / "config.py").write_text(f"{CONFIG}SLACK_TOKEN = 'xoxb-1234567890-abcdefghij'\n")
    (old / os.fsdecode(b"caf\xe9.txt")).touch()
    command = ("newProject", str(old / "new"), "--from", "cellprofiler")
    outcome = run_command(*command, "--config", str(old / "config.py"), "--files", str(old))
    assert outcome.code == 0, outcome.err
    assert ".new." not in outcome.err
    assert r"left out        files/caf\xe9.txt: its name is not UTF-8" in outcome.err.splitlines()
    assert "not copied" not in outcome.err
    assert "Job file        files/files/screenJob.json: 2 jobs\n" in outcome.err
    assert (old / "new" / "files" / "files" / "ws" / "a.cppipe").exists()
    assert not list((old / "new").rglob("files/new"))
    assert not (old / "new" / "files" / "config.py").exists()  # it may contain secrets


def test_every_placeholder_of_the_config_and_the_fleet_file_is_listed(tmp_path: Path, old: Path) -> None:
    config = CONFIG.replace("'ada.pem'", "'your-key-file.pem'").replace("SOURCE_BUCKET = 'lab", "SOURCE_BUCKET = 'your")
    (old / "config.py").write_text(config.replace("'your-bucket'", "'your-bucket-name'"))
    fleet = {
        "IamFleetRole": "arn:aws:iam::XXXXXXXXXXXXX:role/aws-ec2-spot-fleet-tagging-role",
        "LaunchSpecifications": [
            {"KeyName": "ada", "NetworkInterfaces": [{"SubnetId": "subnet-WWWWWWWW", "Groups": ["sg-ZZZZZZZZZ"]}]}
        ],
    }
    (old / "files" / "ourFleet.json").write_text(json.dumps(fleet))
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    interface = "files/ourFleet.json: LaunchSpecifications[0].NetworkInterfaces[0]"
    assert set(list_edits(outcome)) == {
        "config.py: DOCKERHUB_TAG is user/ourscreen:latest; make build builds this image",
        "config.py: SSH_KEY_NAME: 'your-key-file.pem' is a placeholder",
        "config.py: SOURCE_BUCKET: 'your-bucket-name' is a placeholder",
        "files/ourFleet.json: IamFleetRole: 'arn:aws:iam::XXXXXXXXXXXXX:role/aws-ec2-spot-fleet-tagging-role' is a"
        " placeholder",
        f"{interface}.SubnetId: 'subnet-WWWWWWWW' is a placeholder",
        f"{interface}.Groups[0]: 'sg-ZZZZZZZZZ' is a placeholder",
    }


def test_without_an_old_config_the_placeholders_of_the_example_are_listed(tmp_path: Path, old: Path) -> None:
    words = ("newProject", str(tmp_path / "new"), "--from", "cellprofiler", "--files", str(old / "files"))
    edits = list_edits(run_command(*words))
    assert "config.py: AWS_BUCKET: 'your-bucket-name' is a placeholder" in edits
    assert any(edit.startswith("config.py: DOCKERHUB_TAG: 'user/") for edit in edits)


def test_the_readme_names_the_moved_job_files_and_fleet_file(tmp_path: Path, old: Path) -> None:
    shutil.copy(old / "files" / "screenJob.json", old / "files" / "analysisJob.json")
    assert move_in(tmp_path).code == 0
    readme = (tmp_path / "new" / "README.md").read_text()
    assert "| `files/analysisJob.json`, `files/screenJob.json` | the jobs" in readme
    for command in ("--local startCluster files/ourFleet.json", "check files/ourFleet.json"):
        assert f"python run.py {command}" in readme
    for name in ("example", "OurScreenFleet", "run.py fleetFile"):
        assert f"files/{name}" not in readme


def test_only_constants_that_the_program_gets_are_reported_as_its_own(tmp_path: Path, old: Path) -> None:
    lines = "_HELPER = 'x'\nÉTÉ = 'x'\nlower = 'x'\nMixed = 'x'\nTHREADS2 = 4\nTYPED: int = 1\n"
    (old / "config.py").write_text(f"{CONFIG}{lines}", encoding="utf-8")
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    own = re.findall(r"^your own +(\w+):", outcome.err, flags=re.M)
    assert own == ["LAB_NAME", "THREADS2", "TYPED"]
    assert set(own) <= load_settings(tmp_path / "new" / "config.py").own.keys()
    assert lines in (tmp_path / "new" / "config.py").read_text(encoding="utf-8")


def test_the_readme_names_each_file_once_if_one_has_the_name_of_the_examples(tmp_path: Path, old: Path) -> None:
    files = old / "files"
    for name, copies in (("screenJob.json", ("a b.json", "exampleJob.json")), ("ourFleet.json", ("z.json",))):
        for copied in copies:
            shutil.copy(files / name, files / copied)
    (files / "screenJob.json").unlink()
    (files / "ourFleet.json").rename(files / "exampleFleet.json")
    (files / "z.json").rename(files / "a fleet.json")
    assert move_in(tmp_path).code == 0
    readme = (tmp_path / "new" / "README.md").read_text()
    assert "| `files/a b.json`, `files/exampleJob.json` | the jobs; `run.py makeJobs` lists many jobs |\n" in readme
    assert "| `files/a fleet.json`, `files/exampleFleet.json` | machines, network, and roles on AWS |\n" in readme
    commands = re.findall(r"^ {4}python run\.py (.*)$", readme, flags=re.M)
    words = [shlex.split(command) for command in commands]
    assert ["--local", "submitJob", "files/a b.json"] in words
    assert ["--local", "startCluster", "files/a fleet.json"] in words
    assert "`python run.py check 'files/a fleet.json'`" in readme


def test_secrets_in_the_old_config_are_not_copied(tmp_path: Path, old: Path) -> None:
    (old / "config.py").write_text(CONFIG + "AWS_SECRET_ACCESS_KEY = 's3cret'\nENDPOINT_SECRET_ACCESS_KEY = 's3cret'\n")
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    assert "s3cret" not in (tmp_path / "new" / "config.py").read_text() + outcome.err
    assert "left out        AWS_SECRET_ACCESS_KEY: set AWS_PROFILE" in outcome.err


SECRETS = """\
SLACK_TOKEN = 'xoxb-secret-000000000000'
DB_PASSWORD = (
    's3cret'
)  # of the lab
OMERO = {'host': 'omero', 'password': 's3cret'}
OMERO['password'] = 's3cret2'
HEADER = 'Basic ' + DB_PASSWORD  # computed
webhook = 'https://hooks.slack.com/services/s3cret'
CHANNEL = webhook
DATABASE = 'postgres://ada:s3cret@host/db'
# GITHUB_PAT = 's3cret'
PLACE = 'Basel'  # token: s3cret
"""


def test_whatever_run_json_would_mask_becomes_a_comment_with_what_is_computed_from_it(
    tmp_path: Path, old: Path
) -> None:
    (old / "config.py").write_text(CONFIG + SECRETS)
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "new" / "config.py").read_text()
    assert "s3cret" not in text + outcome.err
    assert "xoxb" not in text + outcome.err
    assert load_settings(tmp_path / "new" / "config.py").own.keys() >= {"LAB_NAME", "PLACE"}
    names = {"SLACK_TOKEN", "DB_PASSWORD", "OMERO", "webhook", "CHANNEL", "DATABASE"}
    lines = outcome.err.splitlines()
    for name in names:
        assert any(line.startswith(f"left out        {name}: it is or looks like a secret") for line in lines), name
        assert f"# {name} is left out: " in text
    assert any(line.startswith("left out        HEADER: it is computed from DB_PASSWORD") for line in lines)
    assert sum("a comment that contains a secret" in line for line in lines) == 2
    assert not any(line.startswith("your own") and names & set(line.replace(":", " ").split()) for line in lines)


@pytest.mark.parametrize(
    "line",
    [
        "USER, DB_PASSWORD = 'ada', 's3cret'\n",
        "if True:\n    DB_PASSWORD = 's3cret'\n",
        "from os.path import sep as DB_PASSWORD\n",
        "print('xoxb-" + "1a" * 10 + "', file=None) if False else None\n",
    ],
)
def test_nothing_is_created_if_a_secret_cannot_be_left_out(tmp_path: Path, old: Path, line: str) -> None:
    (old / "config.py").write_text(CONFIG + line)
    outcome = move_in(tmp_path)
    assert outcome.code == 2
    assert "s3cret" not in outcome.err
    assert f"{old / 'config.py'}: " in outcome.err
    assert not (tmp_path / "new").exists()


def test_form_feeds_modules_and_functions_do_not_change_what_is_left_out(tmp_path: Path, old: Path) -> None:
    more = "\x0c\nimport secrets\ndef get_token():\n    return ''\nDB_PASSWORD = 's3cret'\nPLACE = 'Basel'\n"
    (old / "config.py").write_text("\x0c# start\n" + CONFIG + more)
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "new" / "config.py").read_text()
    assert "s3cret" not in text
    assert "import secrets\ndef get_token():\n" in text
    assert load_settings(tmp_path / "new" / "config.py").own["PLACE"] == "Basel"


def test_a_job_file_that_must_be_corrected_is_copied_and_named(tmp_path: Path, old: Path) -> None:
    (old / "files" / "badJob.json").write_text(json.dumps(JOB_FILE | {"expected_files": "many"}))
    (old / "files" / "noDataJob.json").write_text(json.dumps(JOB_FILE | {"upload": {"nowhere": "x"}}))
    (old / "files" / "more").mkdir()
    (old / "files" / "more" / "broken.json").write_text('{"groups": [')
    outcome = move_in(tmp_path)
    assert outcome.code == 0, outcome.err
    edits = list_edits(outcome)
    assert any(line.startswith("files/badJob.json: expected_files: ") for line in edits)
    assert any(line.startswith("files/more/broken.json: ") for line in edits)
    expected = "files/noDataJob.json: upload 'nowhere': there is no file or folder files/nowhere; "
    assert any(line.startswith(expected) for line in edits)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("EBS_VOL_SIZE = 8\nMEMORY = 'much'\n", "MEMORY"),
        ("import nothing_like_this\n", "nothing_like_this"),
        ("A = UPDATE_PLUGINS = 'True'\n", "UPDATE_PLUGINS must be replaced, but its line also does something else"),
        ("A = 1; UPDATE_PLUGINS = 'True'\n", "UPDATE_PLUGINS must be replaced, but its line also does something else"),
        ("if A_CONSTANT:\n    pass\n", "A_CONSTANT"),
    ],
)
def test_nothing_is_created_from_a_config_that_cannot_be_used(
    tmp_path: Path, old: Path, line: str, problem: str
) -> None:
    (old / "config.py").write_text(CONFIG + line)
    outcome = move_in(tmp_path)
    assert outcome.code == 2
    assert problem in outcome.err
    assert str(old / "config.py") in outcome.err
    assert not (tmp_path / "new").exists()


def test_every_problem_of_the_old_config_is_shown_with_its_own_path(tmp_path: Path, old: Path) -> None:
    (old / "config.py").write_text(CONFIG + "JOB_RETRIES = 'many'\nMACHINE_PRICE = 'cheap'\nEBS_VOL_SIZE = 1\n")
    outcome = move_in(tmp_path)
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 3
    assert all(f"newProject: {old / 'config.py'}: " in line for line in lines)
    assert ".new." not in outcome.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--files", "nowhere", "--from", "cellprofiler"), "there is no folder nowhere"),
        (("--config", "nowhere.py", "--from", "cellprofiler"), "nowhere.py"),
        (("--files", "."), "add --from EXAMPLE"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    outcome = run_command("newProject", str(tmp_path / "new"), *words)
    assert (outcome.code, (tmp_path / "new").exists()) == (2, False)
    assert problem in outcome.err


def test_files_alone_can_be_moved(tmp_path: Path, old: Path) -> None:
    outcome = run_command(
        "newProject", str(tmp_path / "new"), "--from", "cellprofiler", "--files", str(old / "files"), "--app-name", "A"
    )
    assert outcome.code == 0, outcome.err
    assert load_settings(tmp_path / "new" / "config.py").APP_NAME == "A"
    assert (tmp_path / "new" / "files" / "screenJob.json").exists()


@pytest.mark.long
def test_the_moved_project_runs_locally(tmp_path: Path, old: Path) -> None:
    assert move_in(tmp_path).code == 0
    project = object.__new__(Project)
    project.folder = tmp_path / "new"
    files = project.folder / "files"
    (files / "img").mkdir()
    (files / "img" / "a.tif").write_bytes(b"II*\0" + struct.pack("<IHI", 8, 0, 0))
    # The only edit that docs/moving-in.md asks for: local runs have an empty bucket.
    content = json.loads((files / "screenJob.json").read_text())
    (files / "screenJob.json").write_text(json.dumps(content | {"upload": {"ws": "ws", "img": "img"}}))
    program = tmp_path / "bin" / "cellprofiler"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    path = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    try:
        project.run("setup", **path)
        project.run("submitJob", str(files / "screenJob.json"), **path)
        project.run("startCluster", str(files / "ourFleet.json"), **path)
        summary = project.run("monitor", **path).stdout
    finally:
        project.stop()
    assert "every job is done" in summary
    results = project.folder / "local" / "lab-bucket" / "out"
    assert {path.relative_to(results).as_posix(): path.read_text() for path in results.rglob("*.csv")} == {
        "P1-A01/Image.csv": "1,Metadata_Plate=P1,Metadata_Well=A01\n",
        "P1-A02/Image.csv": "1,Metadata_Plate=P1,Metadata_Well=A02\n",
    }
